/** Who waits for a part of the log to be durable. */
import type { LogPosition, Offset } from "../protocol/entry.ts";

/** One that waits until everything up to `target` is durable. */
export interface SyncWaiter {
  readonly target: Offset;
  readonly promise: Promise<LogPosition>;
  readonly resolve: (position: LogPosition) => void;
  readonly reject: (error: Error) => void;
}

/** Whose promise its own functions settle. */
export function newWaiter(target: Offset): SyncWaiter {
  let resolve: SyncWaiter["resolve"] = () => undefined;
  let reject: SyncWaiter["reject"] = () => undefined;
  const promise = new Promise<LogPosition>((onResolve, onReject) => {
    resolve = onResolve;
    reject = onReject;
  });
  return { target, promise, resolve, reject };
}
