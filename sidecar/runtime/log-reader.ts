import type { LogEntry, Offset } from "../protocol/entry.ts";
import type { Wal } from "../wal/wal.ts";
import type { EntryCache } from "./entry-cache.ts";

/** Entries from the cache when they are there, else from the log. */
export class LogReader {
  readonly #cache: EntryCache;
  readonly #wal: Wal;
  readonly #readBytes: number;

  constructor(cache: EntryCache, wal: Wal, readBytes: number) {
    this.#cache = cache;
    this.#wal = wal;
    this.#readBytes = readBytes;
  }

  cached(offset: Offset): LogEntry | undefined {
    return this.#cache.get(offset);
  }

  /**
   * At least one entry from `offset` on. Rejects with WalTrimmed when the log no longer reaches
   * back.
   */
  async read(offset: Offset): Promise<readonly LogEntry[]> {
    const cached = this.#cache.get(offset);
    if (cached !== undefined) return [cached];
    // What was evicted from the cache before it was written can only be read once it is.
    if (offset > this.#wal.synced.offset) await this.#wal.sync();
    return this.#wal.read(offset, this.#readBytes);
  }
}
