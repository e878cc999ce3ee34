import { assert } from "../lib/assert.ts";
import type { Clock } from "../lib/ports/clock.ts";

/** Tokens that may pile up, as a time: bounds the burst after a pause. */
const BURST_MS = 100;

/** Token bucket over the monotonic clock. One per stream. */
export class RateLimiter {
  readonly #clock: Clock;
  readonly #bytesPerMs: number;
  /** When everything taken so far is paid for. */
  #paidAtMs: number;

  /** `bytesPerSecond` 0 means unlimited. */
  constructor(clock: Clock, bytesPerSecond: number) {
    assert(bytesPerSecond >= 0, `bytesPerSecond is ${bytesPerSecond}, allowed: 0 or more`);
    this.#clock = clock;
    this.#bytesPerMs = bytesPerSecond / 1000;
    this.#paidAtMs = clock.monotonicMs();
  }

  /** Resolves when `bytes` may go; rejects with the signal's reason when it aborts first. */
  async take(bytes: number, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    if (this.#bytesPerMs === 0) return;
    const nowMs = this.#clock.monotonicMs();
    this.#paidAtMs = Math.max(this.#paidAtMs, nowMs - BURST_MS) + bytes / this.#bytesPerMs;
    const waitMs = this.#paidAtMs - nowMs;
    if (waitMs > 0) await this.#clock.sleep(Math.ceil(waitMs), signal);
  }
}
