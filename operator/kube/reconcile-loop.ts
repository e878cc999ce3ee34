/** Runs a reconciler over a queue of keys, as controllers do. */
import type { Clock } from "../../sidecar/lib/ports/clock.ts";
import type { Logger } from "../../sidecar/lib/ports/logger.ts";
import type { Workqueue } from "./workqueue.ts";

/**
 * When a key is to be looked at again by itself; null: only when something changes. `routine`:
 * nothing is under way or waited for, and what there is news of goes first. `failed`: it counts as
 * an error, whose cause was told; unlike one that is thrown it is tried at this pace.
 */
export type ReconcileResult = {
  readonly requeueAfterMs: number;
  readonly routine?: boolean;
  readonly failed?: true;
} | null;

/** Looks at what is and what ought to be of one key; told nothing of what happened to it. */
export type Reconcile = (key: string, signal: AbortSignal) => Promise<ReconcileResult>;

/** How a reconcile ended, for the metric `controller_runtime_reconcile_total`. */
export type ReconcileOutcome = "success" | "requeue_after" | "error";

/** What a loop needs. */
export interface ReconcileLoopOptions {
  readonly queue: Workqueue;
  readonly reconcile: Reconcile;
  /** Keys worked on at the same time; each by one worker. */
  readonly workers: number;
  readonly logger: Logger;
  readonly clock: Pick<Clock, "yield">;
  /** From 0 up to 1. */
  readonly random: () => number;
  readonly observe?: (outcome: ReconcileOutcome) => void;
}

/**
 * Longer waits are up to a fifth shorter: stores that were once looked at together, at a start for
 * instance, would be for ever.
 */
const SPREAD_FROM_MS = 10_000;
const SPREAD = 0.2;

/** Works until the signal aborts; a reconcile under way is awaited. */
export async function runReconcileLoop(
  options: ReconcileLoopOptions,
  signal: AbortSignal,
): Promise<void> {
  const workers = Array.from({ length: options.workers }, () => work(options, signal));
  await Promise.all(workers);
}

async function work(options: ReconcileLoopOptions, signal: AbortSignal): Promise<void> {
  const { clock, queue } = options;
  for (;;) {
    let key: string;
    try {
      key = await queue.take(signal);
    } catch (error) {
      if (signal.aborted) return;
      throw error;
    }
    try {
      await reconcileOne(options, key, signal);
    } finally {
      queue.done(key);
    }
    // A store where nothing is to be done waits for nothing: hundreds in a row would keep this
    // process from hearing its nodes, and from renewing its Lease, for seconds.
    await clock.yield();
  }
}

async function reconcileOne(
  { queue, reconcile, logger, random, observe }: ReconcileLoopOptions,
  key: string,
  signal: AbortSignal,
): Promise<void> {
  try {
    const result = await reconcile(key, signal);
    queue.forget(key);
    if (result !== null) {
      const urgency = result.routine === true ? "routine" : "news";
      queue.addAfter(key, spread(result.requeueAfterMs, random), urgency);
    }
    observe?.(outcomeOf(result));
  } catch (error) {
    if (signal.aborted) return;
    const message = error instanceof Error ? error.message : String(error);
    queue.addFailed(key);
    logger.warn("reconcile failed", { key, error: message });
    observe?.("error");
  }
}

function outcomeOf(result: ReconcileResult): ReconcileOutcome {
  if (result === null) return "success";
  return result.failed === true ? "error" : "requeue_after";
}

function spread(waitMs: number, random: () => number): number {
  return waitMs < SPREAD_FROM_MS ? waitMs : waitMs * (1 - SPREAD * random());
}
