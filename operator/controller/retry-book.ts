/**
 * When a step may be tried again: after a failure with a growing delay, after a success once
 * reports have settled.
 */
import type { Timings } from "./timings.ts";

interface Entry {
  readonly failures: number;
  readonly untilMs: number;
}

/** Most steps remembered; beyond it the oldest is forgotten, which only makes it run earlier. */
const ENTRIES_MAX = 256;

export class RetryBook {
  readonly #timings: Timings;
  readonly #entries = new Map<string, Entry>();

  constructor(timings: Timings) {
    this.#timings = timings;
  }

  /** Milliseconds until the step may run; 0: now. */
  waitMs(step: string, nowMs: number): number {
    return Math.max(0, (this.#entries.get(step)?.untilMs ?? 0) - nowMs);
  }

  failed(step: string, nowMs: number): void {
    const failures = (this.#entries.get(step)?.failures ?? 0) + 1;
    const { retryMinMs, retryMaxMs } = this.#timings;
    const delayMs = Math.min(retryMinMs * 2 ** (failures - 1), retryMaxMs);
    this.#set(step, { failures, untilMs: nowMs + delayMs });
  }

  succeeded(step: string, nowMs: number): void {
    this.#set(step, { failures: 0, untilMs: nowMs + this.#timings.settleMs });
  }

  forget(step: string): void {
    this.#entries.delete(step);
  }

  #set(step: string, entry: Entry): void {
    this.#entries.delete(step);
    this.#entries.set(step, entry);
    const oldest = this.#entries.keys().next();
    if (this.#entries.size > ENTRIES_MAX && oldest.done !== true)
      this.#entries.delete(oldest.value);
  }
}
