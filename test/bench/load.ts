import { performance } from "node:perf_hooks";
import { build, type Histogram } from "hdr-histogram-js";
import type { Row } from "./report.ts";

/** What is measured. */
export interface Load {
  /** Records in one call at most. */
  readonly batchMax: number;
  /** Moves the records `first` to `first + count - 1`. Rejects when any of them failed. */
  readonly send: (first: number, count: number) => Promise<void>;
}

/** How long a batch waits for company, as in Oxia's clients. */
const LINGER_MS = 5;

/** Latencies are those of the records that succeeded after the warm-up. */
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

/** Gathers records into batches as Oxia's clients do, and times each record from `startedMs` on. */
class Batcher {
  private readonly load: Load;
  private readonly meter: Meter;
  private readonly ended: (records: number) => void;
  private readonly pending = new Set<Promise<void>>();
  private batch: number[] = [];
  private timer: NodeJS.Timeout | null = null;
  private next = 0;

  /** `ended` is told of records that have been answered, so that others can take their place. */
  constructor(load: Load, meter: Meter, ended: (records: number) => void) {
    this.load = load;
    this.meter = meter;
    this.ended = ended;
  }

  add(startedMs: number): void {
    this.batch.push(startedMs);
    if (this.batch.length >= this.load.batchMax) this.flush();
    else this.timer ??= setTimeout(() => this.flush(), LINGER_MS);
  }

  /** Resolves when everything that was sent has been answered. */
  async idle(): Promise<void> {
    this.flush();
    await Promise.all(this.pending);
  }

  private flush(): void {
    clearTimeout(this.timer ?? undefined);
    this.timer = null;
    const started = this.batch;
    if (started.length === 0) return;
    this.batch = [];
    const first = this.next;
    this.next += started.length;
    const one = settled(this.load.send(first, started.length)).then((ok) => {
      this.pending.delete(one);
      for (const startedMs of started) this.meter.done(startedMs, ok);
      this.ended(started.length);
    });
    this.pending.add(one);
  }
}

/** Keeps `outstanding` records under way, each started when an earlier one ends. */
export async function closedLoop(
  load: Load,
  options: {
    readonly outstanding: number;
    readonly warmUpMs: number;
    readonly durationMs: number;
  },
): Promise<LoadResult> {
  const meter = new Meter(options.warmUpMs, options.durationMs);
  await new Promise<void>((resolve) => {
    let underWay = options.outstanding;
    const batcher = new Batcher(load, meter, (records) => {
      if (meter.over) underWay -= records;
      else for (let index = 0; index < records; index += 1) batcher.add(performance.now());
      if (underWay === 0) resolve();
    });
    for (let index = 0; index < options.outstanding; index += 1) batcher.add(performance.now());
  });
  return meter.result();
}

/**
 * Starts `perSecond` records a second whatever becomes of earlier ones; each is timed from when it
 * was due, so that a stall shows in every record that it delayed.
 */
export async function paced(
  load: Load,
  options: {
    readonly perSecond: number;
    readonly warmUpMs: number;
    readonly durationMs: number;
  },
): Promise<LoadResult> {
  const meter = new Meter(options.warmUpMs, options.durationMs);
  const batcher = new Batcher(load, meter, () => undefined);
  const startMs = performance.now();
  let started = 0;
  await new Promise<void>((resolve) => {
    const timer = setInterval(() => {
      const due = ((performance.now() - startMs) / 1000) * options.perSecond;
      for (; started < due; started += 1) {
        batcher.add(startMs + (started / options.perSecond) * 1000);
      }
      if (!meter.over) return;
      clearInterval(timer);
      resolve();
    }, 1);
  });
  await batcher.idle();
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
