import { setTimeout as sleep } from "node:timers/promises";
import { build, type Histogram } from "hdr-histogram-js";
import type { StoreClient } from "../../sidecar-client/store-client.ts";
import { StoreError } from "../../sidecar-client/store-error.ts";
import type { Ledger } from "./ledger.ts";

/** How the writers write. */
export interface WriterOptions {
  readonly client: StoreClient;
  readonly ledger: Ledger;
  readonly random: () => number;
  readonly writesPerSecond: number;
  /** Told of failures that are neither retried nor expected. */
  readonly failed: (error: unknown) => void;
}

const TICK_MS = 2;
const VALUE_BYTES_MIN = 128;
const VALUE_BYTES_MAX = 1_024;
/** One in so many writes overwrites an earlier record. */
const OVERWRITE_ONE_IN = 5;
/** Writes under way; beyond, the rest wait, and their wait is measured. */
const OUTSTANDING_MAX = 5_000;
const LATENCY_US_MAX = 3_600_000_000;

/** Latencies in microseconds. */
function newHistogram(): Histogram {
  return build({ highestTrackableValue: LATENCY_US_MAX, numberOfSignificantValueDigits: 3 });
}

/** The 99th percentile in milliseconds; null when nothing was measured. */
export function p99Ms(histogram: Histogram): number | null {
  if (histogram.totalCount === 0) return null;
  return histogram.getValueAtPercentile(99) / 1_000;
}

/**
 * Writes at a fixed pace and notes every acknowledgement. Latency counts from when a write was due,
 * not from when it could be sent, so that an outage shows in full.
 */
export class Writers {
  private readonly options: WriterOptions;
  private readonly filler = Buffer.alloc(VALUE_BYTES_MAX * 2);
  private readonly outstanding = new Set<Promise<void>>();
  /** Keys that may be overwritten: acknowledged, nothing under way, nothing in doubt. */
  private readonly settled: string[] = [];
  private histogram = newHistogram();
  private gaveUp = 0;
  private next = 0;
  private running: { stop: AbortController; done: Promise<void> } | null = null;

  constructor(options: WriterOptions) {
    this.options = options;
    for (let at = 0; at < this.filler.length; at += 1) {
      this.filler[at] = Math.floor(options.random() * 256);
    }
  }

  /** Writes that the client gave up after its own retries, and that were tried again. */
  get givenUp(): number {
    return this.gaveUp;
  }

  start(): void {
    if (this.running !== null) return;
    const stop = new AbortController();
    this.running = { stop, done: this.run(stop.signal) };
  }

  /** Stops and waits for what is under way. */
  async stop(): Promise<void> {
    const { running } = this;
    this.running = null;
    running?.stop.abort();
    await running?.done;
    await Promise.all(this.outstanding);
  }

  /** Writes due from now on are measured into a new histogram, which is returned. */
  measure(): Histogram {
    this.histogram = newHistogram();
    return this.histogram;
  }

  private async run(signal: AbortSignal): Promise<void> {
    const startMs = performance.now();
    const intervalMs = 1_000 / this.options.writesPerSecond;
    for (let due = 0; !signal.aborted; ) {
      const nowMs = performance.now();
      while (startMs + due * intervalMs <= nowMs && this.outstanding.size < OUTSTANDING_MAX) {
        this.write(startMs + due * intervalMs);
        due += 1;
      }
      await sleep(TICK_MS, undefined, { signal }).catch(() => undefined);
    }
  }

  private write(dueMs: number): void {
    const histogram = this.histogram;
    const task = this.writeUntilAcknowledged()
      .then(() => {
        const us = Math.round((performance.now() - dueMs) * 1_000);
        histogram.recordValue(Math.min(LATENCY_US_MAX, Math.max(1, us)));
      })
      .catch(this.options.failed)
      .finally(() => this.outstanding.delete(task));
    this.outstanding.add(task);
  }

  private async writeUntilAcknowledged(): Promise<void> {
    const { client, ledger } = this.options;
    for (;;) {
      const key = this.takeKey();
      const value = this.newValue(key);
      try {
        await client.put(key, value, { retryUnknown: false });
        ledger.acknowledge(key, value);
        this.settled.push(key);
        return;
      } catch (error) {
        if (!(error instanceof StoreError)) throw error;
        // The key is not used again: what was sent may still arrive.
        if (error.code === "UNKNOWN_OUTCOME") ledger.unknown(key, value);
        else if (error.code === "UNAVAILABLE") this.gaveUp += 1;
        else throw error;
      }
    }
  }

  private takeKey(): string {
    if (this.settled.length > 0 && this.options.random() * OVERWRITE_ONE_IN < 1) {
      const at = Math.floor(this.options.random() * this.settled.length);
      const last = this.settled.pop() ?? "";
      const key = this.settled[at] ?? last;
      if (at < this.settled.length) this.settled[at] = last;
      return key;
    }
    this.next += 1;
    return `writes/${String(this.next).padStart(9, "0")}`;
  }

  private newValue(key: string): Uint8Array {
    const { random } = this.options;
    const length = VALUE_BYTES_MIN + Math.floor(random() * (VALUE_BYTES_MAX - VALUE_BYTES_MIN + 1));
    const at = Math.floor(random() * (this.filler.length - length));
    const value = Buffer.from(this.filler.subarray(at, at + length));
    // No two values of a key are the same.
    value.write(`${key} ${random()} `);
    return value;
  }
}
