import type { EncodedKey } from "./key-order.ts";
import type { RecordVersion } from "./record.ts";

/** Keys are sorted in runs of this many, so that no apply ever sorts the whole table. */
const RUN_KEYS = 1024;
/** Runs below this length are merged when there are many. */
const SMALL_RUN_KEYS = 8 * RUN_KEYS;
const SMALL_RUNS_MAX = 8;
/**
 * Map slot, entry, version, buffer and key objects as V8 lays them out; an estimate, rather too
 * high.
 */
const ENTRY_OVERHEAD_BYTES = 360;

/** The last write of a key: the record, or null for a deletion. Only the table changes it. */
export interface TableEntry {
  /** Offset of the log entry that wrote it. */
  offset: number;
  record: Buffer | null;
  /** Null for a deletion. */
  version: RecordVersion | null;
  /** What it replaced in this table, kept only while an open view may need it. */
  previous: TableEntry | undefined;
}

/** A frozen table's keys in order and their entries, at the same places. */
export interface TableOrder {
  readonly keys: readonly EncodedKey[];
  readonly entries: readonly TableEntry[];
}

function entryBytes(key: EncodedKey, record: Buffer | null): number {
  return ENTRY_OVERHEAD_BYTES + key.length * 2 + (record?.byteLength ?? 0);
}

/**
 * Applied writes that are not in the engine yet. Point reads are one map lookup; order comes from
 * sorted runs of keys, each key in exactly one run. Runs are never changed, so a view may keep
 * them.
 */
export class MemoryTable {
  readonly #entries = new Map<EncodedKey, TableEntry>();
  #runs: (readonly EncodedKey[])[] = [];
  #smallRuns = 0;
  #tail: EncodedKey[] = [];
  #bytes = 0;

  /** Keys, including deleted ones. */
  get size(): number {
    return this.#entries.size;
  }

  /** Estimated memory, in bytes. */
  get bytes(): number {
    return this.#bytes;
  }

  get(key: EncodedKey): TableEntry | undefined {
    return this.#entries.get(key);
  }

  /** The newest entry at or before `offset`. */
  getAt(key: EncodedKey, offset: number): TableEntry | undefined {
    let entry = this.#entries.get(key);
    while (entry !== undefined && entry.offset > offset) entry = entry.previous;
    return entry;
  }

  /**
   * Writes a key. `found` is what `get` says of it now (one lookup less); `keepFound` when a view
   * is open. Returns by how many bytes the table grew.
   */
  set(
    key: EncodedKey,
    found: TableEntry | undefined,
    keepFound: boolean,
    write: {
      readonly offset: number;
      readonly record: Buffer | null;
      readonly version: RecordVersion | null;
    },
  ): number {
    const { offset, record, version } = write;
    let grown = entryBytes(key, record);
    if (found !== undefined && !keepFound) {
      grown -= entryBytes(key, found.record);
      found.offset = offset;
      found.record = record;
      found.version = version;
      found.previous = undefined;
    } else {
      this.#entries.set(key, { offset, record, version, previous: found });
      if (found === undefined) this.#addKey(key);
    }
    this.#bytes += grown;
    return grown;
  }

  #addKey(key: EncodedKey): void {
    this.#tail.push(key);
    if (this.#tail.length >= RUN_KEYS) this.#sealTail();
  }

  /** All keys as sorted runs; the result never changes. */
  runs(): readonly (readonly EncodedKey[])[] {
    if (this.#tail.length > 0) this.#sealTail();
    return this.#runs.slice();
  }

  #sealTail(): void {
    // Without a comparator: character order, which is byte order for encoded keys.
    this.#runs.push(this.#tail.sort());
    this.#tail = [];
    this.#smallRuns += 1;
    if (this.#smallRuns < SMALL_RUNS_MAX) return;
    const merged = this.#runs
      .splice(this.#runs.length - this.#smallRuns)
      .flat()
      .sort();
    this.#runs.push(merged);
    this.#smallRuns = merged.length < SMALL_RUN_KEYS ? 1 : 0;
  }
}
