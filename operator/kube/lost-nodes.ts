/** Replaces the claims of pods whose machines are lost, where a store asks for that. */
import type { Clock } from "../../sidecar/lib/ports/clock.ts";
import { parseDuration } from "../api/v1alpha1/duration.ts";
import { storeShardName } from "../api/v1alpha1/store-shard.ts";
import { DATA_VOLUMES } from "../api/v1alpha1/pod-template.ts";
import { isRebuilding } from "../controller/store-status.ts";
import {
  type MachineState,
  type NodeLossStep,
  nodeLossStep,
  type PlacedClaim,
  type PlacedPod,
  type VotesOfShard,
} from "../core/node-loss.ts";
import { shardKeyText } from "../core/record.ts";
import type { ShardView } from "../core/status.ts";
import { IN_SYNC_GATE } from "../specs/labels.ts";
import { claimName } from "../specs/stateful-set.ts";
import type { ApiClient } from "./api-client.ts";
import { ApiError } from "./api-error.ts";
import { machineState, placesOf, type VolumePlace } from "./machines.ts";
import { type PodFacts, podFacts } from "./pods.ts";
import { KINDS, type KubeObject } from "./resources.ts";
import type { StoreSight } from "./store-view.ts";

/** What came of one look. `done`: claims were given up just now. */
export interface NodeLossReport {
  readonly pod: string;
  readonly message: string;
  readonly done: boolean;
}

/** Where a claim's volume is, and the claim itself. */
interface Seen extends PlacedClaim {
  readonly object: KubeObject;
}

/** See the file's header. */
export class LostNodes {
  readonly #client: ApiClient;
  readonly #clock: Clock;
  /** By the pod's uid: since when it has been without a machine, by the monotonic clock. */
  readonly #since = new Map<string, number>();

  constructor(client: ApiClient, clock: Clock) {
    this.#client = client;
    this.#clock = clock;
  }

  /** Null: no pod waits for a machine that is not there. `claims` are those of the store. */
  async reconcile(
    sight: StoreSight,
    views: readonly ShardView[],
    claims: (name: string) => KubeObject | undefined,
    signal: AbortSignal,
  ): Promise<NodeLossReport | null> {
    const unplaced = sight.pods.filter(isUnplaced);
    this.#remember(sight, unplaced);
    if (unplaced.length === 0) return null;
    try {
      const machines = new Map<string, MachineState>();
      const pods: (PlacedPod & { readonly claims: readonly Seen[] })[] = [];
      for (const pod of sight.pods) pods.push(await this.#placed(pod, claims, machines, signal));
      const step = nodeLossStep(this.#input(sight, views, pods, machines));
      return await this.#carryOut(sight, step, pods, signal);
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 403) throw error;
      if (sight.store.spec.recovery.onNodeLoss === "Retain") return null;
      const message =
        `whether its machine is lost cannot be told: ${error.message}; ` +
        "install the chart with nodeLoss.enabled=true";
      return { pod: unplaced[0]?.name ?? "", message, done: false };
    }
  }

  #remember({ pods }: StoreSight, unplaced: readonly PodFacts[]): void {
    for (const { uid } of pods) {
      if (!unplaced.some((pod) => pod.uid === uid)) this.#since.delete(uid);
    }
    for (const { uid } of unplaced) {
      if (!this.#since.has(uid)) this.#since.set(uid, this.#clock.monotonicMs());
    }
  }

  async #placed(
    pod: PodFacts,
    claims: (name: string) => KubeObject | undefined,
    machines: Map<string, MachineState>,
    signal: AbortSignal,
  ): Promise<PlacedPod & { readonly claims: readonly Seen[] }> {
    const unplaced = isUnplaced(pod);
    const seen: Seen[] = [];
    for (const volume of Object.keys(DATA_VOLUMES) as (keyof typeof DATA_VOLUMES)[]) {
      const object = claims(claimName(volume, pod.name));
      if (object === undefined) continue;
      const { name, uid = "", deletionTimestamp } = object.metadata;
      // Only of pods that wait is it asked where their volumes are.
      const places = unplaced ? await this.#places(object, signal) : null;
      for (const place of places ?? []) {
        if (machines.has(place.machine)) continue;
        machines.set(place.machine, await machineState(this.#client, place, signal));
      }
      const on = places?.map(({ machine }) => machine) ?? null;
      seen.push({
        name,
        uid,
        terminating: deletionTimestamp !== undefined,
        machines: on,
        object,
      });
    }
    return { name: pod.name, unplaced, claims: seen };
  }

  async #places(claim: KubeObject, signal: AbortSignal): Promise<readonly VolumePlace[] | null> {
    const spec = claim["spec"];
    const name: unknown =
      typeof spec === "object" && spec !== null ? Reflect.get(spec, "volumeName") : undefined;
    if (typeof name !== "string" || name === "") return null;
    const volume = await this.#client.get(KINDS.volume, null, name, { signal });
    return volume === null ? null : placesOf(volume);
  }

  #input(
    sight: StoreSight,
    views: readonly ShardView[],
    pods: readonly PlacedPod[],
    machines: ReadonlyMap<string, MachineState>,
  ) {
    const { onNodeLoss, nodeLossGrace, mode } = sight.store.spec.recovery;
    const nowMs = this.#clock.monotonicMs();
    const waited = sight.pods.flatMap(({ name, uid }) => {
      const since = this.#since.get(uid);
      return since === undefined ? [] : [[name, nowMs - since] as const];
    });
    return {
      replace: onNodeLoss === "Replace",
      mode,
      graceMs: parseDuration(nodeLossGrace) ?? 0,
      pods,
      machines,
      unplacedMs: new Map(waited),
      shards: sight.shards.map((object) => votesOf(object.metadata.name, views, sight)),
    };
  }

  async #carryOut(
    sight: StoreSight,
    step: NodeLossStep,
    pods: readonly (PlacedPod & { readonly claims: readonly Seen[] })[],
    signal: AbortSignal,
  ): Promise<NodeLossReport | null> {
    if (step.kind === "none") return null;
    const { pod, why } = step;
    if (step.kind === "wait") return { pod, message: why, done: false };
    const { namespace } = sight.store.metadata;
    const now = await this.#client.get(KINDS.pod, namespace, pod, { signal });
    const facts = now === null ? null : podFacts(now, IN_SYNC_GATE);
    const seen = sight.pods.find(({ name }) => name === pod);
    if (facts === null || facts.uid !== seen?.uid || !isUnplaced(facts)) {
      return { pod, message: `${why}; looks again`, done: false };
    }
    const given = step.claims.map(({ name }) => name);
    const claims = pods.find(({ name }) => name === pod)?.claims ?? [];
    for (const { name, uid, object } of claims) {
      if (!given.includes(name)) continue;
      const { resourceVersion } = object.metadata;
      const exactly = resourceVersion === undefined ? { uid } : { uid, resourceVersion };
      await this.#client.delete(KINDS.claim, namespace, name, exactly, { signal });
    }
    // Made again, so that it waits for new claims.
    await this.#client.evict({ namespace, name: pod, uid: facts.uid }, { signal });
    const message = `${why}; ${given.join(" and ")} were deleted, the pod starts empty elsewhere`;
    return { pod, message, done: true };
  }
}

function isUnplaced({ nodeName, sidecar, terminating }: PodFacts): boolean {
  return nodeName === "" && sidecar === "never started" && !terminating;
}

/** A StoreShard that the coordinator, or its record, says nothing of is one without any votes. */
function votesOf(
  name: string,
  views: readonly ShardView[],
  { store, records }: StoreSight,
): VotesOfShard {
  const isCalled = ({ namespace, shard }: { namespace: string; shard: number }): boolean =>
    storeShardName(store.metadata.name, namespace, shard) === name;
  const [record, view] = [records.find(isCalled), views.find(isCalled)];
  if (record === undefined || view === undefined) {
    const nothing = { ensemble: [], changing: false, serving: false, voting: [], rebuilding: [] };
    return { name, known: false, ...nothing };
  }
  const { ensemble, serving, stop, replicas } = view;
  return {
    name: shardKeyText(view),
    known: true,
    ensemble,
    changing: record.next !== undefined,
    serving: serving && stop === null,
    voting: replicas.filter(({ voting }) => voting).map(({ node }) => node),
    rebuilding: replicas
      .filter((replica) => replica.reach === "up" && isRebuilding(replica))
      .map(({ node }) => node),
  };
}
