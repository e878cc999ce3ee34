/**
 * The coordinator's belief about one record, and the only way it is changed: compare-and-swap
 * (R18).
 */
import { newRecord, type NewRecord, type ShardRecord } from "../core/record.ts";
import { RecordConflict, type RecordStore, type StoredRecord } from "./ports.ts";

export class RecordKeeper {
  readonly #store: RecordStore;
  readonly #start: NewRecord;
  #stored: StoredRecord | null = null;
  #record: ShardRecord;
  #fresh = false;

  /** `start` describes the shard for the case that there is no record yet. */
  constructor(store: RecordStore, start: NewRecord) {
    this.#store = store;
    this.#start = start;
    this.#record = newRecord(start);
  }

  /** What is believed. Only worth anything while {@link fresh}. */
  get record(): ShardRecord {
    return this.#record;
  }

  /** Of what is believed; null: there is none. */
  get version(): string | null {
    return this.#stored?.version ?? null;
  }

  /** False from a conflict or a failed save on, until the record was read again. */
  get fresh(): boolean {
    return this.#fresh;
  }

  /** Reads the record, uncached; true when it differs from what was believed. */
  async refresh(signal: AbortSignal): Promise<boolean> {
    const key = { namespace: this.#start.namespace, shard: this.#start.shard };
    this.#fresh = false;
    const stored = await this.#store.read(key, signal);
    const changed = stored?.version !== this.#stored?.version;
    this.#believe(stored);
    return changed;
  }

  /**
   * Saves `next` with a raised generation. Whatever goes wrong, what was believed is dropped: a
   * failed save may have happened. Throws RecordConflict, or what the store threw.
   */
  async save(next: ShardRecord, signal: AbortSignal): Promise<ShardRecord> {
    if (!this.#fresh) throw new RecordConflict("the record must be read again first");
    const raised = { ...next, generation: this.#record.generation + 1 };
    const before = this.#stored;
    this.#fresh = false;
    const stored =
      before === null
        ? await this.#store.create(raised, signal)
        : await this.#store.replace(raised, before.version, signal);
    this.#believe(stored);
    return stored.record;
  }

  #believe(stored: StoredRecord | null): void {
    this.#stored = stored;
    this.#record = stored?.record ?? newRecord(this.#start);
    this.#fresh = true;
  }
}
