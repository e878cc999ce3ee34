import { LIMITS } from "../limits.ts";

/** What one remembered version costs, in bytes: key, numbers, map slot. An estimate. */
const CACHED_VERSION_BYTES = 240;

/**
 * Memory of all shards of a process together: what is applied and not yet in the engine, and
 * remembered versions. `apply` cannot wait, so whoever feeds it asks {@link admit} first; overshoot
 * is what was admitted and not applied yet.
 */
export class MemoryBudget {
  /** Bound of all memory tables together, in bytes. */
  readonly tableBytesMax: number;
  /** Bound of all version caches together, in bytes. */
  readonly cacheBytesMax: number;
  #tableBytes = 0;
  #shards = 0;
  #waiting: (() => void)[] = [];

  constructor(
    tableBytesMax: number = LIMITS.memoryTableBytesMax,
    cacheBytesMax: number = LIMITS.versionCacheBytesMax,
  ) {
    this.tableBytesMax = tableBytesMax;
    this.cacheBytesMax = cacheBytesMax;
  }

  /** Bytes in memory tables now. */
  get tableBytes(): number {
    return this.#tableBytes;
  }

  /** True while writes must wait for a checkpoint. */
  get full(): boolean {
    return this.#tableBytes >= this.tableBytesMax;
  }

  /** How full the tables are: 1 at the bound. */
  get pressure(): number {
    return this.#tableBytes / this.tableBytesMax;
  }

  /** True from half the bound on: every shard with something to write should checkpoint. */
  get pressed(): boolean {
    return this.#tableBytes * 2 >= this.tableBytesMax;
  }

  /** Versions one shard may remember. */
  get cacheEntriesPerShard(): number {
    return Math.floor(this.cacheBytesMax / CACHED_VERSION_BYTES / Math.max(1, this.#shards));
  }

  /** A shard was opened (+1) or closed (-1). */
  countShard(change: 1 | -1): void {
    this.#shards += change;
  }

  /** Memory tables grew or shrank by `bytes`. */
  add(bytes: number): void {
    this.#tableBytes += bytes;
    if (bytes < 0 && !this.full) {
      const waiting = this.#waiting;
      this.#waiting = [];
      for (const wake of waiting) wake();
    }
  }

  /**
   * Resolves when writes may be applied; at once below the bound. Rejects with the signal's reason.
   */
  async admit(signal: AbortSignal): Promise<void> {
    while (this.full) {
      signal.throwIfAborted();
      await new Promise<void>((resolve) => {
        const wake = (): void => {
          signal.removeEventListener("abort", wake);
          this.#waiting = this.#waiting.filter((other) => other !== wake);
          resolve();
        };
        this.#waiting.push(wake);
        signal.addEventListener("abort", wake, { once: true });
      });
    }
    signal.throwIfAborted();
  }
}
