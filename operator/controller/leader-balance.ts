/**
 * Hands leaderships over, one at a time, until pods lead about as many shards each: those that took
 * over from a pod that was away lead on when it is back. Only where nothing else goes on in the
 * store, and has not for a while.
 */
import type { Clock } from "../../sidecar/lib/ports/clock.ts";
import { leaderMove, unevenness, type LeaderMove, type LedShard } from "../core/leader-balance.ts";
import type { Timings } from "./timings.ts";
import { Wake } from "./wake.ts";

/** The store as it is, and how a leadership is handed over. */
export interface LeaderBalanceParts {
  readonly clock: Clock;
  readonly timings: Timings;
  /** By the records: it is asked after every step of the store. */
  shards(): readonly LedShard[];
  /** Nothing goes on in any shard, nor with the pods. */
  isAtRest(): boolean;
  /** An order, not a promise. */
  handOver(move: LeaderMove): void;
}

/** See the file's header. One for each store. */
export class LeaderBalance {
  readonly #parts: LeaderBalanceParts;
  readonly #wake: Wake;
  /** Since when nothing was done and all was at rest; null: not so at the last look. */
  #restsSinceMs: number | null = null;
  /** How uneven it was at the last move, when that was, and how long a repeated one had to wait. */
  #last: { readonly unevenness: number; readonly atMs: number; readonly penaltyMs: number } | null =
    null;

  constructor(parts: LeaderBalanceParts) {
    this.#parts = parts;
    this.#wake = new Wake(parts.clock);
  }

  /** A step was done in some shard, or its record changed. */
  stepDone(): void {
    this.#restsSinceMs = null;
    this.#wake.notify();
  }

  /** Runs until `signal` aborts; never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) await this.#wake.wait(this.#turn(), signal);
  }

  /** One look: milliseconds until the next; null: when something was done. */
  #turn(): number | null {
    const { clock, timings } = this.#parts;
    const shards = this.#parts.shards();
    const move = leaderMove(shards);
    if (move === null) return null;
    const nowMs = clock.monotonicMs();
    if (!this.#parts.isAtRest()) {
      this.#restsSinceMs = null;
      return timings.resyncMs;
    }
    this.#restsSinceMs ??= nowMs;
    const { waitMs, ...last } = this.#pace(unevenness(shards), nowMs);
    if (nowMs - this.#restsSinceMs < waitMs) return timings.resyncMs;
    this.#last = { ...last, atMs: nowMs };
    this.#restsSinceMs = null;
    this.#parts.handOver(move);
    return timings.resyncMs;
  }

  /**
   * Each move costs a shard's clients an election. One that finds the store no more even than the
   * last one did waits twice as long as the one before it that did: another was elected, or the pod
   * lost its leaderships again.
   */
  #pace(uneven: number, nowMs: number): { waitMs: number; unevenness: number; penaltyMs: number } {
    const { balanceAfterMs, balanceAfterMaxMs } = this.#parts.timings;
    // What was long ago says nothing of now.
    const recent = this.#last !== null && nowMs - this.#last.atMs < 2 * balanceAfterMaxMs;
    const last = recent ? this.#last : null;
    const before = last?.penaltyMs ?? balanceAfterMs;
    if (last === null || uneven < last.unevenness) {
      return { waitMs: balanceAfterMs, unevenness: uneven, penaltyMs: before };
    }
    const penaltyMs = Math.min(2 * before, balanceAfterMaxMs);
    return { waitMs: penaltyMs, unevenness: uneven, penaltyMs };
  }
}
