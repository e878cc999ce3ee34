import type { EncodedKey } from "./key-order.ts";
import type { RecordVersion } from "./record.ts";

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

  /** Entries held. */
  get size(): number {
    return this.#young.size + this.#old.size;
  }
}
