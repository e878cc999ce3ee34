/** Writes what people see: statuses, and the pods' readiness gate. Nothing that is so already. */
import { isDeepStrictEqual } from "node:util";
import type { Clock } from "../../sidecar/lib/ports/clock.ts";
import { withConditions } from "../api/v1alpha1/conditions.ts";
import type { StatusCondition } from "../api/v1alpha1/metadata.ts";
import type { ReplicatedStoreStatus } from "../api/v1alpha1/replicated-store.ts";
import { storeShardName } from "../api/v1alpha1/store-shard.ts";
import {
  isInSync,
  shardStatus,
  type StatusInput,
  storeSummary,
} from "../controller/store-status.ts";
import type { ShardView } from "../core/status.ts";
import { IN_SYNC_GATE, podOrdinal, selectorLabels, selectorText } from "../specs/labels.ts";
import type { ApiClient } from "./api-client.ts";
import { ApiError, isStatus } from "./api-error.ts";
import type { PodFacts } from "./pods.ts";
import { KINDS, type KubeObject, type ResourceKind } from "./resources.ts";
import { claimUids, type StoreSight } from "./store-view.ts";

/** A moment as Kubernetes writes it in most places: whole seconds. */
export function timestamp(clock: Clock): string {
  return new Date(clock.nowMs()).toISOString().replace(/\.\d+Z$/u, "Z");
}

/** A store and its pods, as far as their gates depend on them. */
export type GatedPods = Pick<StoreSight, "pods"> & {
  readonly store: Pick<StoreSight["store"], "metadata">;
};

/** See the file's header. */
export class StatusWriter {
  readonly #client: ApiClient;
  readonly #clock: Clock;

  constructor(client: ApiClient, clock: Clock) {
    this.#client = client;
    this.#clock = clock;
  }

  /**
   * Replaces the operator's part of an object's status where it differs from `status`. `only`
   * "unchanged": a compare-and-swap with the version of `object`; throws ApiError with reason
   * Conflict.
   */
  async write(
    kind: ResourceKind,
    object: KubeObject,
    status: object,
    signal: AbortSignal,
    only?: "unchanged",
  ): Promise<void> {
    // As it will come back: without what is undefined.
    const plain: unknown = JSON.parse(JSON.stringify(status));
    if (isDeepStrictEqual(plain, object["status"])) return;
    const { name, namespace, uid, resourceVersion } = object.metadata;
    const { apiVersion, kind: word } = kind;
    const version = only === undefined ? {} : { resourceVersion };
    const metadata = { name, namespace, uid, ...version };
    const applied = { apiVersion, kind: word, metadata, status: plain };
    await this.#client.apply(kind, applied, { signal }, "status");
  }

  /**
   * The store's status, as long as it is the version that was looked at; false: it is not, and has
   * to be looked at again. Each such write repeats `status.operator`, since what is not applied is
   * removed. When another operator took the store over meanwhile, this one must neither take it
   * back nor undo what that one has told: the claims noted for pods are evidence. Without the
   * version it would; what is written elsewhere of the store has the version as well (finalizers),
   * and the statuses of its StoreShards, which decide nothing, are mended by the next look.
   */
  async #report(
    object: KubeObject,
    status: ReplicatedStoreStatus,
    signal: AbortSignal,
  ): Promise<boolean> {
    try {
      await this.write(KINDS.store, object, status, signal, "unchanged");
      return true;
    } catch (error) {
      if (isStatus(error, 409)) return false;
      throw error;
    }
  }

  /**
   * A store that cannot be worked on: the reason is one word, the message says what to do. False:
   * it changed, look again.
   */
  async refuse(
    object: KubeObject,
    reason: string,
    message: string,
    signal: AbortSignal,
  ): Promise<boolean> {
    const status = (object["status"] ?? {}) as ReplicatedStoreStatus;
    const conditions = withConditions(
      status.conditions ?? [],
      [{ type: "Available", status: "Unknown", reason, message }],
      object.metadata.generation ?? 0,
      timestamp(this.#clock),
    );
    const next = { ...status, state: reason, conditions: [...conditions] };
    return await this.#report(object, next, signal);
  }

  /** The store's own status. False: it changed, look again. */
  async store(
    sight: StoreSight,
    views: readonly ShardView[],
    expectedPods: number,
    under: Pick<StatusInput, "settled" | "rollout" | "nodeLoss" | "trouble">,
    signal: AbortSignal,
  ): Promise<boolean> {
    const { store, object, pods, storeId } = sight;
    const before = (object["status"] ?? {}) as ReplicatedStoreStatus;
    // What is only being made takes nothing away. But a store becomes available with all of it:
    // people wait for that, and then use what they asked for.
    const settled = isAvailable(before) ? under.settled : views;
    const summary = storeSummary({ views, pods, expectedPods, ...under, settled });
    const { conditions, ...columns } = summary;
    const generation = store.metadata.generation ?? 0;
    const status: ReplicatedStoreStatus = {
      observedGeneration: generation,
      replicas: pods.length,
      selector: selectorText(selectorLabels(store.metadata.name)),
      storeId,
      ...(before.operator === undefined ? {} : { operator: before.operator }),
      ...columns,
      pods: [
        ...pods.map((pod) => podStatus(sight, views, pod, before)),
        ...absentPods(sight, before, expectedPods),
      ],
      conditions: [
        ...withConditions(before.conditions ?? [], conditions, generation, timestamp(this.#clock)),
      ],
    };
    return await this.#report(object, status, signal);
  }

  /** The statuses of the store's StoreShards, as far as there are any. */
  async shards(sight: StoreSight, views: readonly ShardView[], signal: AbortSignal): Promise<void> {
    for (const view of views) {
      const name = storeShardName(sight.store.metadata.name, view.namespace, view.shard);
      const object = sight.shards.find((shard) => shard.metadata.name === name);
      if (object === undefined) continue;
      const before = (object["status"] ?? {}) as { conditions?: readonly StatusCondition[] };
      const conditions = withConditions(
        before.conditions ?? [],
        view.conditions.map((condition) => ({
          ...condition,
          reason: condition.reason.slice(0, 1).toUpperCase() + condition.reason.slice(1),
        })),
        object.metadata.generation ?? 0,
        timestamp(this.#clock),
      );
      await this.write(KINDS.shard, object, { ...shardStatus(view), conditions }, signal);
    }
  }

  /**
   * The readiness gate of each pod: true when all its replicas vote. It stays as it is while nobody
   * can say.
   */
  async gates(sight: GatedPods, views: readonly ShardView[], signal: AbortSignal): Promise<void> {
    for (const pod of sight.pods) {
      const inSync = podInSync(views, pod);
      if (inSync === null || pod.inSync === inSync || pod.terminating) continue;
      const condition = {
        type: IN_SYNC_GATE,
        status: inSync ? "True" : "False",
        reason: inSync ? "AllReplicasVote" : "ReplicaNotVoting",
        message: inSync ? "all replicas of this pod vote" : "a replica of this pod does not vote",
        lastTransitionTime: timestamp(this.#clock),
      };
      const { namespace } = sight.store.metadata;
      const metadata = { name: pod.name, namespace, uid: pod.uid };
      const applied = {
        apiVersion: "v1",
        kind: "Pod",
        metadata,
        status: { conditions: [condition] },
      };
      try {
        await this.#client.apply(KINDS.pod, applied, { signal }, "status");
      } catch (error) {
        // It was deleted or made again meanwhile: its watch tells, and then this is done anew.
        if (!isOfAnother(error)) throw error;
      }
    }
  }
}

function isAvailable({ conditions = [] }: ReplicatedStoreStatus): boolean {
  return conditions.some(({ type, status }) => type === "Available" && status === "True");
}

/** The object is gone, or there is another one of that name: its uid is not the one meant. */
function isOfAnother(error: unknown): boolean {
  if (isStatus(error, 404) || isStatus(error, 409)) return true;
  return error instanceof ApiError && error.status === 422 && error.message.includes(".uid");
}

/**
 * Both the coordinator and the pod itself say so: a pod that was just made again must not be taken
 * for the one that the coordinator heard of last. Null: it cannot be said now.
 */
function podInSync(views: readonly ShardView[], pod: PodFacts): boolean | null {
  const inSync = isInSync(views, pod.name);
  return inSync === null ? null : pod.sidecarReady && inSync;
}

/** A pod that is being made again: what its claims were is wanted when it comes back. */
function absentPods(
  { store, pods }: StoreSight,
  before: ReplicatedStoreStatus,
  expectedPods: number,
): NonNullable<ReplicatedStoreStatus["pods"]> {
  return (before.pods ?? [])
    .filter(({ name }) => {
      const ordinal = podOrdinal(store.metadata.name, name);
      const expected = ordinal !== null && ordinal < expectedPods;
      return expected && !pods.some((pod) => pod.name === name);
    })
    .map(({ name, claimUids: uids }) => ({
      name,
      ready: false,
      inSync: false,
      ...(uids === undefined ? {} : { claimUids: uids }),
    }));
}

/** Claims are noted while the pod's replicas vote: what they were is evidence afterwards. */
function podStatus(
  sight: StoreSight,
  views: readonly ShardView[],
  pod: PodFacts,
  before: ReplicatedStoreStatus,
): NonNullable<ReplicatedStoreStatus["pods"]>[number] {
  const inSync = podInSync(views, pod);
  const known = before.pods?.find(({ name }) => name === pod.name)?.claimUids;
  const uids = inSync === true ? { ...known, ...claimUids(sight, pod) } : known;
  return {
    name: pod.name,
    ready: pod.ready,
    inSync: inSync ?? pod.inSync === true,
    ...(pod.nodeName === "" ? {} : { nodeName: pod.nodeName }),
    ...(uids === undefined ? {} : { claimUids: uids }),
  };
}
