import type { Clock } from "../lib/ports/clock.ts";
import type { EncodedKey } from "./key-order.ts";
import type { MemoryTable, TableEntry } from "./memory-table.ts";
import type { RecordVersion } from "./record.ts";

/** Keys between two turns of the event loop. */
const KEYS_PER_TURN = 1_000;

/**
 * Versions of recently written keys, so that a put reads no disk. Two generations instead of a list
 * of uses: when the young one is full the old one is dropped, so a key used once per generation
 * stays.
 */
export class VersionCache {
  #young = new Map<EncodedKey, RecordVersion | null>();
  #old = new Map<EncodedKey, RecordVersion | null>();

  /** The version of the record in the engine, null when there is none, undefined when not known. */
  get(key: EncodedKey): RecordVersion | null | undefined {
    const young = this.#young.get(key);
    if (young !== undefined) return young;
    return this.#old.get(key);
  }

  /** Remembers what the engine holds. `entriesMax` bounds both generations together. */
  set(key: EncodedKey, version: RecordVersion | null, entriesMax: number): void {
    if (this.#young.size * 2 >= entriesMax) {
      this.#old = this.#young;
      this.#young = new Map();
    }
    this.#young.set(key, version);
  }

  /** Remembers all that a checkpoint brought to the engine, a thousand keys per turn. */
  async setAll(table: MemoryTable, entriesMax: number, clock: Clock): Promise<void> {
    let turn = 0;
    for (const run of table.runs()) {
      for (const key of run) {
        this.set(key, (table.get(key) as TableEntry).version, entriesMax);
        turn += 1;
        if (turn % KEYS_PER_TURN === 0) await clock.yield();
      }
    }
  }

  /** Entries held. */
  get size(): number {
    return this.#young.size + this.#old.size;
  }
}
