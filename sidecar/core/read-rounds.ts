import type { Offset } from "../protocol/entry.ts";

/** A read that may be served once the state has applied `offset`. */
export interface ReleasedReads {
  readonly requestIds: readonly number[];
  readonly offset: Offset;
}

/**
 * Linearizable reads without leases (R15): a read waits for a round of voter confirmations that was
 * SENT after it arrived. One round is on its way at a time, so reads that arrive meanwhile share
 * the next one.
 */
export class ReadRounds {
  /** Number of the newest round sent; 0 before the first. */
  #round = 0;
  #inFlight: { readonly requestIds: Set<number>; readonly offset: Offset } | null = null;
  #waiting = new Set<number>();
  readonly #confirmed = new Map<string, number>();

  /** The round that heartbeats carry. */
  get round(): number {
    return this.#round;
  }

  get pending(): number {
    return this.#waiting.size + (this.#inFlight?.requestIds.size ?? 0);
  }

  /** True when no read waits and no round is on its way. */
  get idle(): boolean {
    return this.#inFlight === null && this.#waiting.size === 0;
  }

  add(requestId: number): void {
    this.#waiting.add(requestId);
  }

  /** Its reader has gone. A round on its way stays there: it may still be confirmed. */
  cancel(requestId: number): void {
    if (!this.#waiting.delete(requestId)) this.#inFlight?.requestIds.delete(requestId);
  }

  /**
   * Starts the next round when none is on its way and reads wait. `commit` is read now, after they
   * arrived.
   */
  start(commit: Offset): boolean {
    if (this.#inFlight !== null || this.#waiting.size === 0) return false;
    this.#round += 1;
    this.#inFlight = { requestIds: this.#waiting, offset: commit };
    this.#waiting = new Set();
    return true;
  }

  /** Takes a node's confirmation of `round`. */
  confirm(node: string, round: number): void {
    if (round > (this.#confirmed.get(node) ?? 0)) this.#confirmed.set(node, round);
  }

  hasConfirmed(node: string): boolean {
    return (this.#confirmed.get(node) ?? 0) >= this.#round;
  }

  /** The reads of the round on its way, now that a quorum confirmed it; null: there are none. */
  finish(): ReleasedReads | null {
    const released = this.#inFlight;
    this.#inFlight = null;
    if (released === null || released.requestIds.size === 0) return null;
    return { requestIds: [...released.requestIds], offset: released.offset };
  }

  /** A wiped replica's confirmations must not count for its successor (R4). */
  forget(node: string): void {
    this.#confirmed.delete(node);
  }
}
