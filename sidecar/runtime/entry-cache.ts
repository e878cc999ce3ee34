import type { LogEntry, Offset } from "../protocol/entry.ts";

/**
 * The newest entries of a shard's log, decoded, so that followers and the state machine that are
 * nearly caught up need not read the disk. Bounded by bytes; the oldest go first.
 */
export class EntryCache {
  readonly #bytesMax: number;
  readonly #entries = new Map<Offset, LogEntry>();
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  add(entry: LogEntry): void {
    this.#entries.set(entry.offset, entry);
    this.#bytes += entry.value.length;
    if (this.#bytes <= this.#bytesMax) return;
    for (const [offset, oldest] of this.#entries) {
      if (this.#bytes <= this.#bytesMax || offset === entry.offset) return;
      this.#entries.delete(offset);
      this.#bytes -= oldest.value.length;
    }
  }

  get(offset: Offset): LogEntry | undefined {
    return this.#entries.get(offset);
  }

  /** Drops everything after `lastOffset`. */
  truncate(lastOffset: Offset): void {
    for (const [offset, entry] of this.#entries) {
      if (offset <= lastOffset) continue;
      this.#entries.delete(offset);
      this.#bytes -= entry.value.length;
    }
  }

  clear(): void {
    this.#entries.clear();
    this.#bytes = 0;
  }
}
