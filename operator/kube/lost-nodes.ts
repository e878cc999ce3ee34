/** Replaces the claims of pods whose machines are lost, where a store asks for that. */
import type { Clock } from "../../sidecar/lib/ports/clock.ts";
import { parseDuration } from "../api/v1alpha1/duration.ts";
import { type NodeLossInput, nodeLossStep, strandedPods } from "../core/node-loss.ts";
import type { NodeLossStep } from "../core/node-loss.ts";
import type { ShardView } from "../core/status.ts";
import { IN_SYNC_GATE, podName } from "../specs/labels.ts";
import type { ApiClient } from "./api-client.ts";
import { ApiError, ApiUnreachable } from "./api-error.ts";
import {
  isStuck,
  isUnplaced,
  MayNotLook,
  PlacedPods,
  type SeenClaim,
  type SeenPod,
} from "./placed-pods.ts";
import { podFacts, type PodFacts } from "./pods.ts";
import { KINDS, type KubeObject } from "./resources.ts";
import { shardVotes } from "./shard-votes.ts";
import { podsNeeded, type StoreSight } from "./store-view.ts";

/** What came of one look. `deleted`: names of the claims that were given up just now. */
export interface NodeLossReport {
  readonly pod: string;
  readonly message: string;
  readonly deleted: readonly string[];
}

/** What a look goes by beside the caches. */
export interface LookedAt {
  readonly sight: StoreSight;
  readonly views: readonly ShardView[];
  /** The claims of the store, by name. */
  readonly claims: (name: string) => KubeObject | undefined;
  /** True when the process that the coordinator knows answers at the address of the present pod. */
  readonly answers: (node: string, signal: AbortSignal) => Promise<boolean>;
}

/** For so long it is not asked again after the API server said that it may not look. */
const DENIED_MS = 300_000;

type Replace = Extract<NodeLossStep, { readonly kind: "replace" }>;

/** See the file's header. */
export class LostNodes {
  readonly #client: ApiClient;
  readonly #clock: Clock;
  /**
   * By store, then by the uids of a pod's claims: since when their machines were found to be lost
   * at every look, by the monotonic clock.
   */
  readonly #since = new Map<string, ReadonlyMap<string, number>>();
  /** The rights are the process's own, not a store's. By the monotonic clock. */
  #denied: { readonly error: MayNotLook; readonly untilMs: number } | null = null;

  constructor(client: ApiClient, clock: Clock) {
    this.#client = client;
    this.#clock = clock;
  }

  /** The store is gone, or another operator's: who looks after it again begins anew. */
  forget(storeId: string): void {
    this.#since.delete(storeId);
  }

  /** Null: no pod waits for a machine that is not there. */
  async reconcile(look: LookedAt, signal: AbortSignal): Promise<NodeLossReport | null> {
    const { sight } = look;
    const waiting = sight.pods.filter((pod) => isUnplaced(pod) || isStuck(pod));
    if (waiting.length === 0) {
      this.#since.delete(sight.storeId);
      return null;
    }
    const denied = this.#denied;
    if (denied !== null && this.#clock.monotonicMs() < denied.untilMs) {
      return this.#mayNot(look, waiting, denied.error);
    }
    try {
      return await this.#look(look, signal);
    } catch (error) {
      if (error instanceof MayNotLook) {
        this.#denied = { error, untilMs: this.#clock.monotonicMs() + DENIED_MS };
        return this.#mayNot(look, waiting, error);
      }
      // What else there is to do for the store does not wait for this.
      if (!(error instanceof ApiError) && !(error instanceof ApiUnreachable)) throw error;
      signal.throwIfAborted();
      const pod = (waiting.find(isUnplaced) ?? waiting[0])?.name ?? "";
      const message = `whether its machine is lost is not settled: ${error.message}; looks again`;
      return { pod, message, deleted: [] };
    }
  }

  async #look(look: LookedAt, signal: AbortSignal): Promise<NodeLossReport | null> {
    const { sight, claims } = look;
    const pods = await new PlacedPods(this.#client, claims, signal).all(sight.pods);
    const lostMs = this.#remember(sight.storeId, pods);
    const step = nodeLossStep(nodeLossInput(look, pods, lostMs));
    if (step.kind === "none") return null;
    const { pod, why } = step;
    if (step.kind === "wait") return { pod, message: why, deleted: [] };
    return await this.#replace(look, step, pods, signal);
  }

  #mayNot(
    { sight }: LookedAt,
    waiting: readonly PodFacts[],
    error: MayNotLook,
  ): NodeLossReport | null {
    // While nobody looks nothing is found lost: the grace time begins anew.
    this.#since.delete(sight.storeId);
    const unplaced = waiting.find(isUnplaced);
    if (unplaced === undefined || sight.store.spec.recovery.onNodeLoss === "Retain") return null;
    const message =
      `whether its machine is lost cannot be told: ${error.message}; ` +
      "install the chart with nodeLoss.enabled=true";
    return { pod: unplaced.name, message, deleted: [] };
  }

  /** How long the machines of each pod are lost. A look that finds them there begins anew. */
  #remember(storeId: string, pods: readonly SeenPod[]): ReadonlyMap<string, number> {
    const nowMs = this.#clock.monotonicMs();
    const before = this.#since.get(storeId);
    const since = new Map<string, number>();
    const lostMs = new Map<string, number>();
    for (const { pod, claims, lost } of strandedPods(pods)) {
      if (!lost) continue;
      const key = claims.map(({ uid }) => uid).join();
      const sinceMs = before?.get(key) ?? nowMs;
      since.set(key, sinceMs);
      lostMs.set(pod.name, nowMs - sinceMs);
    }
    this.#since.set(storeId, since);
    return lostMs;
  }

  async #replace(
    look: LookedAt,
    step: Replace,
    pods: readonly SeenPod[],
    signal: AbortSignal,
  ): Promise<NodeLossReport> {
    const { pod, why } = step;
    const doubt = await this.#doubt(look, step, pods, signal);
    if (doubt !== null) return { pod, message: `${why}; ${doubt}, looks again`, deleted: [] };
    const seen = pods.find(({ name }) => name === pod);
    const given = (seen?.claims ?? []).filter(({ name }) => {
      return step.claims.some((claim) => claim.name === name);
    });
    const { deleted, failure } = await this.#delete(look.sight, pod, given, signal);
    if (deleted.length === 0 && failure !== null) throw failure;
    const then = failure === null ? "the pod starts empty elsewhere" : `then: ${failure.message}`;
    const message = `${why}; ${deleted.join(" and ")} were deleted, ${then}`;
    return { pod, message, deleted };
  }

  /** What has changed since the caches told, or is not confirmed now; null: all is as it was. */
  async #doubt(
    { sight, answers }: LookedAt,
    { pod, witnesses }: Replace,
    pods: readonly SeenPod[],
    signal: AbortSignal,
  ): Promise<string | null> {
    const { namespace } = sight.store.metadata;
    for (const name of [pod, ...witnesses]) {
      const object = await this.#client.get(KINDS.pod, namespace, name, { signal });
      const now = object === null ? null : podFacts(object, IN_SYNC_GATE);
      const same = now !== null && now.uid === pods.find((other) => other.name === name)?.uid;
      const asBefore = name === pod ? same && isUnplaced(now) : same && now.ready;
      if (!asBefore) return `${name} has changed`;
      if (name !== pod && !(await answers(name, signal))) return `${name} does not answer`;
    }
    return null;
  }

  /** Whatever fails on the way, what was deleted is told. */
  async #delete(
    sight: StoreSight,
    pod: string,
    claims: readonly SeenClaim[],
    signal: AbortSignal,
  ): Promise<{ readonly deleted: readonly string[]; readonly failure: Error | null }> {
    const { namespace } = sight.store.metadata;
    const deleted: string[] = [];
    try {
      for (const { name, uid, object } of claims) {
        const { resourceVersion } = object.metadata;
        const exactly = resourceVersion === undefined ? { uid } : { uid, resourceVersion };
        await this.#client.delete(KINDS.claim, namespace, name, exactly, { signal });
        deleted.push(name);
      }
      // Made again, so that it waits for new claims.
      const uid = sight.pods.find(({ name }) => name === pod)?.uid ?? "";
      await this.#client.evict({ namespace, name: pod, uid }, { signal });
      return { deleted, failure: null };
    } catch (error) {
      return { deleted, failure: error instanceof Error ? error : new Error(String(error)) };
    }
  }
}

function nodeLossInput(
  { sight, views }: LookedAt,
  pods: readonly SeenPod[],
  lostMs: ReadonlyMap<string, number>,
): NodeLossInput {
  const { store, claims } = sight;
  const { onNodeLoss, nodeLossGrace, mode } = store.spec.recovery;
  const going = [...claims.values()].filter(({ terminating }) => terminating);
  return {
    replace: onNodeLoss === "Replace",
    mode,
    graceMs: parseDuration(nodeLossGrace) ?? 0,
    expected: Array.from({ length: podsNeeded(sight) }, (_, ordinal) =>
      podName(store.metadata.name, ordinal),
    ),
    pods,
    terminating: going.map(({ name }) => name),
    lostMs,
    shards: shardVotes(sight, views),
  };
}
