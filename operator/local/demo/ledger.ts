import { xxh3 } from "@node-rs/xxhash";

interface Entry {
  /** Of the last acknowledged value; null while there is none. */
  acknowledged: bigint | null;
  /** Of values sent since whose outcome is unknown: any one of them may be there instead. */
  maybe: bigint[] | null;
}

/** What a read of a key must give; see {@link Ledger.check}. */
export type Verdict = "intact" | "lost";

/**
 * Every acknowledged write, as hashes of the values. A key whose outcome is unknown must not be
 * written again: a late arrival could then overwrite what was acknowledged later.
 */
export class Ledger {
  private readonly entries = new Map<string, Entry>();
  private readonly sizes = new Map<string, number>();
  private count = 0;
  private total = 0;

  /** Acknowledged writes. */
  get acknowledged(): number {
    return this.count;
  }

  /** Keys with at least one acknowledged write. */
  get records(): number {
    return this.sizes.size;
  }

  /** Bytes of those keys and their last acknowledged values. */
  get bytes(): number {
    return this.total;
  }

  /**
   * The store acknowledged this value. Writes of one key must be noted in the order they were
   * acknowledged.
   */
  acknowledge(key: string, value: Uint8Array): void {
    const entry = this.entry(key);
    entry.acknowledged = hashOf(value);
    entry.maybe = null;
    this.count += 1;
    const size = Buffer.byteLength(key) + value.length;
    this.total += size - (this.sizes.get(key) ?? 0);
    this.sizes.set(key, size);
  }

  /** This value was sent, and nobody knows what became of it. */
  unknown(key: string, value: Uint8Array): void {
    const entry = this.entry(key);
    entry.maybe = [...(entry.maybe ?? []), hashOf(value)];
  }

  /** Keys with an acknowledged write. */
  keys(): IterableIterator<string> {
    return this.sizes.keys();
  }

  /** Judges what was read back; null: there is no such record. */
  check(key: string, value: Uint8Array | null): Verdict {
    const entry = this.entries.get(key);
    if (entry === undefined || entry.acknowledged === null) return "intact";
    if (value === null) return "lost";
    const found = hashOf(value);
    const allowed = found === entry.acknowledged || (entry.maybe?.includes(found) ?? false);
    return allowed ? "intact" : "lost";
  }

  private entry(key: string): Entry {
    let entry = this.entries.get(key);
    if (entry === undefined) {
      entry = { acknowledged: null, maybe: null };
      this.entries.set(key, entry);
    }
    return entry;
  }
}

function hashOf(value: Uint8Array): bigint {
  return xxh3.xxh64(value);
}
