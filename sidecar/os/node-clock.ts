import type { Clock, Timer } from "../lib/ports/clock.ts";

/** The real clock. Its timers keep the process alive until they fire or are cancelled. */
export class NodeClock implements Clock {
  nowMs(): number {
    return Date.now();
  }

  monotonicMs(): number {
    return performance.now();
  }

  sleep(delayMs: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal.aborted) {
        reject(asError(signal.reason));
        return;
      }
      const onAbort = (): void => {
        clearTimeout(timeout);
        reject(asError(signal.reason));
      };
      const timeout = setTimeout(() => {
        // Removed, or a long-lived signal would collect one listener per sleep.
        signal.removeEventListener("abort", onAbort);
        resolve();
      }, delayMs);
      signal.addEventListener("abort", onAbort, { once: true });
    });
  }

  timer(delayMs: number, fire: () => void): Timer {
    const timeout = setTimeout(fire, delayMs);
    return {
      cancel(): void {
        clearTimeout(timeout);
      },
    };
  }

  yield(): Promise<void> {
    return new Promise((resolve) => setImmediate(resolve));
  }
}

function asError(reason: unknown): Error {
  return reason instanceof Error ? reason : new Error(String(reason));
}
