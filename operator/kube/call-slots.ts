import { untilAborted } from "./deadline.ts";

/**
 * Runs so many calls, or starts of coordinators, at a time; the others wait in order. Without it
 * the start of an operator with hundreds of stores opens as many connections at once, and the
 * handshakes alone keep it from renewing its Lease. Who calls waits for its own call, so that
 * bounds how many wait.
 */
export class CallSlots {
  #free: number;
  readonly #waiting = new Set<() => void>();

  constructor(callsAtOnceMax: number) {
    this.#free = callsAtOnceMax;
  }

  /** Rejects with the signal's reason when it aborts before `call` has begun. */
  async run<T>(signal: AbortSignal, call: () => Promise<T>): Promise<T> {
    await this.#turn(signal);
    try {
      return await call();
    } finally {
      this.#pass();
    }
  }

  async #turn(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    if (this.#free > 0) {
      this.#free -= 1;
      return;
    }
    let begin = (): void => undefined;
    const turn = new Promise<void>((resolve) => {
      begin = resolve;
    });
    this.#waiting.add(begin);
    try {
      await untilAborted(turn, signal);
    } catch (error) {
      // The turn may have come in the moment of the abort.
      if (!this.#waiting.delete(begin)) this.#pass();
      throw error;
    }
  }

  #pass(): void {
    const [next] = this.#waiting;
    if (next === undefined) {
      this.#free += 1;
      return;
    }
    this.#waiting.delete(next);
    next();
  }
}
