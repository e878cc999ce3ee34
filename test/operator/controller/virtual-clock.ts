import type { Clock, Timer } from "../../../sidecar/lib/ports/clock.ts";

interface Pending {
  readonly atMs: number;
  readonly order: number;
  readonly fire: () => void;
}

/**
 * Time that passes only when everything waits: a test of seconds runs in milliseconds, always the
 * same.
 */
export class VirtualClock implements Clock {
  #nowMs = 1_000_000;
  #order = 0;
  readonly #pending = new Set<Pending>();

  nowMs(): number {
    return this.#nowMs;
  }

  monotonicMs(): number {
    return this.#nowMs;
  }

  timer(delayMs: number, fire: () => void): Timer {
    this.#order += 1;
    const entry = { atMs: this.#nowMs + Math.max(0, delayMs), order: this.#order, fire };
    this.#pending.add(entry);
    return {
      cancel: () => {
        this.#pending.delete(entry);
      },
    };
  }

  sleep(delayMs: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal.aborted) {
        reject(signal.reason as Error);
        return;
      }
      const abort = (): void => {
        timer.cancel();
        reject(signal.reason as Error);
      };
      const timer = this.timer(delayMs, () => {
        signal.removeEventListener("abort", abort);
        resolve();
      });
      signal.addEventListener("abort", abort, { once: true });
    });
  }

  yield(): Promise<void> {
    return new Promise((resolve) => {
      this.timer(0, resolve);
    });
  }

  /** Lets time pass until `done` holds. Throws with `what` when `withinMs` have passed first. */
  async until(what: string, withinMs: number, done: () => boolean): Promise<number> {
    const startMs = this.#nowMs;
    for (;;) {
      await settled();
      if (done()) return this.#nowMs - startMs;
      const next = this.#next();
      if (next === null || next.atMs > startMs + withinMs) {
        throw new Error(`not within ${withinMs} ms: ${what}`);
      }
      this.#pending.delete(next);
      this.#nowMs = Math.max(this.#nowMs, next.atMs);
      next.fire();
    }
  }

  /** Lets this much time pass. */
  async pass(ms: number): Promise<void> {
    let over = false;
    this.timer(ms, () => {
      over = true;
    });
    await this.until("time to pass", ms + 1, () => over);
  }

  /** Lets time pass until `promise` is settled; answers what it answers. */
  async during<T>(promise: Promise<T>, withinMs = 10_000): Promise<T> {
    let over = false;
    const end = (): void => {
      over = true;
    };
    promise.then(end, end);
    await this.until("the promise to settle", withinMs, () => over);
    return promise;
  }

  #next(): Pending | null {
    let first: Pending | null = null;
    for (const entry of this.#pending) {
      const earlier =
        first === null ||
        entry.atMs < first.atMs ||
        (entry.atMs === first.atMs && entry.order < first.order);
      if (earlier) first = entry;
    }
    return first;
  }
}

/** Resolves when all promises that can go on have. */
function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
