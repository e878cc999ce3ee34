import type { Clock } from "../../sidecar/lib/ports/clock.ts";

/**
 * Lets one loop sleep until it is told of something or a time has passed. Notices while awake are
 * not lost.
 */
export class Wake {
  readonly #clock: Clock;
  #noticed = false;
  #resume: (() => void) | null = null;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  notify(): void {
    this.#noticed = true;
    this.#resume?.();
  }

  /** Resolves at a notice, after `maxMs` if given, or when `signal` aborts; never rejects. */
  async wait(maxMs: number | null, signal: AbortSignal): Promise<void> {
    if (!this.#noticed && !signal.aborted && (maxMs === null || maxMs > 0)) {
      await new Promise<void>((resolve) => {
        const done = (): void => {
          timer?.cancel();
          signal.removeEventListener("abort", done);
          this.#resume = null;
          resolve();
        };
        const timer = maxMs === null ? null : this.#clock.timer(maxMs, done);
        signal.addEventListener("abort", done, { once: true });
        this.#resume = done;
      });
    }
    this.#noticed = false;
  }
}

/**
 * An AbortController that also aborts with `parent`. `unlink` must be called when it is no longer
 * needed.
 */
export function childAbort(parent: AbortSignal): {
  readonly controller: AbortController;
  readonly unlink: () => void;
} {
  const controller = new AbortController();
  const abort = (): void => {
    controller.abort(parent.reason);
  };
  if (parent.aborted) abort();
  else parent.addEventListener("abort", abort, { once: true });
  return {
    controller,
    unlink: () => {
      parent.removeEventListener("abort", abort);
    },
  };
}

/** Sleeps, and ends early without an error when `signal` aborts. */
export async function pause(clock: Clock, delayMs: number, signal: AbortSignal): Promise<void> {
  try {
    await clock.sleep(delayMs, signal);
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}
