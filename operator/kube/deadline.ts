/** Bounded waits. */
import type { Clock } from "../../sidecar/lib/ports/clock.ts";
import { childAbort } from "../controller/wake.ts";

/** The deadline of {@link withDeadline} has passed. */
export class DeadlinePassed extends Error {
  override readonly name = "DeadlinePassed";
}

/**
 * Does `work` with a signal that aborts with `signal`, or with a {@link DeadlinePassed} after
 * `deadlineMs`.
 */
export async function withDeadline<T>(
  clock: Clock,
  deadlineMs: number,
  signal: AbortSignal,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  signal.throwIfAborted();
  const { controller, unlink } = childAbort(signal);
  const timer = clock.timer(deadlineMs, () => {
    controller.abort(new DeadlinePassed(`no answer within ${deadlineMs} ms`));
  });
  try {
    return await work(controller.signal);
  } finally {
    timer.cancel();
    unlink();
  }
}

/** Waits for `promise`, but not beyond the signal; then rejects with its reason. */
export function untilAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = (): void => reject(signal.reason as Error);
    if (signal.aborted) abort();
    signal.addEventListener("abort", abort, { once: true });
    promise
      .then(resolve, reject)
      .finally(() => signal.removeEventListener("abort", abort))
      .catch(() => undefined);
  });
}
