import { performance } from "node:perf_hooks";
import { build, type Histogram } from "hdr-histogram-js";
import type { Row } from "./report.ts";

/** What is measured: one operation, told its running number. Rejects when it failed. */
export type Operation = (number: number) => Promise<void>;

/** Latencies are those of the operations that succeeded after the warm-up. */
export interface LoadResult {
  readonly operations: number;
  readonly failures: number;
  readonly seconds: number;
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
}

/** As one line of a table. */
export function loadRow(what: string, result: LoadResult): Row {
  const { perSecond, p50Ms, p99Ms, maxMs, failures } = result;
  return {
    what,
    figures: {
      "per s": perSecond,
      "p50 ms": p50Ms,
      "p99 ms": p99Ms,
      "max ms": maxMs,
      failed: failures,
    },
  };
}

/** Counts and times what completes within the measured window. */
class Meter {
  private readonly histogram: Histogram = build({
    lowestDiscernibleValue: 1,
    highestTrackableValue: 120_000_000,
    numberOfSignificantValueDigits: 3,
  });
  private operations = 0;
  private failures = 0;
  private readonly fromMs: number;
  private readonly untilMs: number;

  constructor(warmUpMs: number, durationMs: number) {
    this.fromMs = performance.now() + warmUpMs;
    this.untilMs = this.fromMs + durationMs;
  }

  get over(): boolean {
    return performance.now() >= this.untilMs;
  }

  done(startedMs: number, ok: boolean): void {
    const nowMs = performance.now();
    if (nowMs < this.fromMs || nowMs >= this.untilMs) return;
    if (ok) {
      this.operations += 1;
      this.histogram.recordValue(Math.max(1, Math.round((nowMs - startedMs) * 1000)));
    } else {
      this.failures += 1;
    }
  }

  result(): LoadResult {
    const seconds = (this.untilMs - this.fromMs) / 1000;
    const at = (percentile: number) => this.histogram.getValueAtPercentile(percentile) / 1000;
    return {
      operations: this.operations,
      failures: this.failures,
      seconds,
      perSecond: this.operations / seconds,
      p50Ms: at(50),
      p99Ms: at(99),
      maxMs: this.histogram.maxValue / 1000,
    };
  }
}

/** Keeps `outstanding` operations under way, each started when an earlier one ends. */
export async function closedLoop(options: {
  readonly outstanding: number;
  readonly warmUpMs: number;
  readonly durationMs: number;
  readonly operation: Operation;
}): Promise<LoadResult> {
  const meter = new Meter(options.warmUpMs, options.durationMs);
  let next = 0;
  const slot = async (): Promise<void> => {
    while (!meter.over) {
      const startedMs = performance.now();
      const ok = await settled(options.operation(next++));
      meter.done(startedMs, ok);
    }
  };
  await Promise.all(Array.from({ length: options.outstanding }, slot));
  return meter.result();
}

/**
 * Starts `perSecond` operations a second whatever becomes of earlier ones; each is timed from when it was
 * due, so that a stall shows in every operation that it delayed.
 */
export async function paced(options: {
  readonly perSecond: number;
  readonly warmUpMs: number;
  readonly durationMs: number;
  readonly operation: Operation;
}): Promise<LoadResult> {
  const meter = new Meter(options.warmUpMs, options.durationMs);
  const startMs = performance.now();
  const pending = new Set<Promise<void>>();
  let started = 0;
  const launch = (dueMs: number): void => {
    const one = settled(options.operation(started)).then((ok) => {
      meter.done(dueMs, ok);
      pending.delete(one);
    });
    pending.add(one);
    started += 1;
  };
  await new Promise<void>((resolve) => {
    const timer = setInterval(() => {
      const dueCount = ((performance.now() - startMs) / 1000) * options.perSecond;
      while (started < dueCount) launch(startMs + (started / options.perSecond) * 1000);
      if (!meter.over) return;
      clearInterval(timer);
      resolve();
    }, 1);
  });
  await Promise.all(pending);
  return meter.result();
}

async function settled(operation: Promise<void>): Promise<boolean> {
  try {
    await operation;
    return true;
  } catch {
    return false;
  }
}

/** A spread of `count` keys, the same in every run and store: `key-00012345`. */
export function keyOf(number: number, count: number): string {
  // A large odd multiplier walks over all keys in a scattered order.
  const scattered = (number * 7_368_787) % count;
  return `key-${scattered.toString().padStart(8, "0")}`;
}
