/**
 * Claims that people made in the place of a pod's own, to restore a snapshot say. They lack the
 * labels by which the operator's caches select, so that nothing would be known of them: they get
 * the labels that a claim of the StatefulSet has.
 */
import type { Clock } from "../../sidecar/lib/ports/clock.ts";
import type { StatusTrouble } from "../controller/store-status.ts";
import { selectorLabels } from "../specs/labels.ts";
import type { ApiClient } from "./api-client.ts";
import { isStatus } from "./api-error.ts";
import { KINDS } from "./resources.ts";
import { apiTrouble } from "./store-objects.ts";
import { claimNames, type StoreSight } from "./store-view.ts";

interface Missed {
  readonly sinceMs: number;
  askedAtMs: number;
}

/** A pod is told of before its claims now and then: one that is on no machine has time. */
const LATE_MS = 1_000;
/** Between two questions about one claim. */
const ASK_AGAIN_MS = 5_000;

/** See the file's header. */
export class ClaimLabels {
  readonly #client: ApiClient;
  readonly #clock: Clock;
  /** By store, then by the claim's name: what the caches lack. */
  readonly #missed = new Map<string, ReadonlyMap<string, Missed>>();

  constructor(client: ApiClient, clock: Clock) {
    this.#client = client;
    this.#clock = clock;
  }

  /** The store is gone, or another operator's. */
  forget(storeId: string): void {
    this.#missed.delete(storeId);
  }

  /** Looks for what the caches lack. What could not be done; null: nothing. */
  async reconcile(
    sight: Pick<StoreSight, "store" | "storeId" | "pods" | "claims">,
    signal: AbortSignal,
  ): Promise<StatusTrouble | null> {
    const before = this.#missed.get(sight.storeId);
    const now = new Map<string, Missed>();
    const nowMs = this.#clock.monotonicMs();
    const due: string[] = [];
    for (const pod of sight.pods) {
      for (const name of claimNames(pod.name).filter((claim) => !sight.claims.has(claim))) {
        const missed = before?.get(name) ?? { sinceMs: nowMs, askedAtMs: Number.NEGATIVE_INFINITY };
        now.set(name, missed);
        if (pod.nodeName === "" && nowMs - missed.sinceMs < LATE_MS) continue;
        if (nowMs - missed.askedAtMs < ASK_AGAIN_MS) continue;
        missed.askedAtMs = nowMs;
        due.push(name);
      }
    }
    if (now.size > 0) this.#missed.set(sight.storeId, now);
    else this.#missed.delete(sight.storeId);
    const troubles = await Promise.all(due.map((name) => this.#label(sight, name, signal)));
    signal.throwIfAborted();
    return troubles.find((trouble) => trouble !== null) ?? null;
  }

  async #label(
    { store }: Pick<StoreSight, "store">,
    name: string,
    signal: AbortSignal,
  ): Promise<StatusTrouble | null> {
    const { namespace, name: storeName } = store.metadata;
    try {
      const claim = await this.#client.get(KINDS.claim, namespace, name, { signal });
      if (claim === null) return null;
      const { uid, labels: own = {} } = claim.metadata;
      const labels = selectorLabels(storeName);
      // Its watch is late.
      if (Object.entries(labels).every(([key, value]) => own[key] === value)) return null;
      const patch = { metadata: { uid, labels } };
      await this.#client.merge(KINDS.claim, { namespace, name }, patch, { signal });
      return null;
    } catch (error) {
      // Deleted since; another one is asked for in turn.
      if (isStatus(error, 404)) return null;
      const trouble = apiTrouble(error);
      if (trouble === null && !isStatus(error, 409)) throw error;
      return trouble;
    }
  }
}
