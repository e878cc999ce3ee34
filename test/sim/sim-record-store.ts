import {
  RecordConflict,
  type RecordStore,
  type StoredRecord,
} from "../../operator/controller/ports.ts";
import {
  parseRecord,
  type ShardKey,
  shardKeyText,
  type ShardRecord,
} from "../../operator/core/record.ts";
import type { SimProcess, SimTime } from "./sim-clock.ts";

/** How old what a stale read gives may be. */
const STALE_MS = 3_000;
/** As many as a backup of some time ago could be. */
const HISTORY_MAX = 100;

/** How often what goes wrong; probabilities of one call. */
export interface RecordFaults {
  /** The store does not answer, nothing happened. */
  failBefore: number;
  /** Committed, and the reply is lost. */
  failAfter: number;
  /** A read gives what was there some time ago. Absent: never. */
  staleReads?: number;
}

/** What was in the store until some time. */
interface Past {
  readonly stored: StoredRecord;
  readonly untilMs: number;
}

/**
 * The store of records: compare-and-swap that outlives every coordinator. Replies may be lost after
 * the commit, reads may be late, and the whole record may be lost or taken from a backup.
 */
export class SimRecordStore {
  readonly #time: SimTime;
  readonly #faults: RecordFaults;
  readonly #records = new Map<string, StoredRecord>();
  readonly #past = new Map<string, Past[]>();
  /** What was there when the record was lost or set back. */
  readonly #aside = new Map<string, StoredRecord>();
  #version = 0;
  /** Called after each commit. `lost`: onto what was set back, or where the record is lost. */
  onCommit: (record: ShardRecord, by: SimProcess, lost: boolean) => void = () => undefined;
  /** Called after each change of a record, with the version that is there now; "": none. */
  onChange: (key: ShardKey, version: string) => void = () => undefined;

  constructor(time: SimTime, faults: RecordFaults) {
    this.#time = time;
    this.#faults = faults;
  }

  /**
   * The truth, without delay: what was committed last, also while the store has an older copy or
   * none.
   */
  peek(key: ShardKey): ShardRecord | null {
    const name = shardKeyText(key);
    return (this.#aside.get(name) ?? this.#records.get(name))?.record ?? null;
  }

  /** Copies that a backup could have, the oldest first. */
  backups(key: ShardKey): readonly ShardRecord[] {
    return (this.#past.get(shardKeyText(key)) ?? []).map(({ stored }) => stored.record);
  }

  /** True while the store has an older copy, or none. */
  isLost(key: ShardKey): boolean {
    return this.#aside.has(shardKeyText(key));
  }

  /** The store has this older copy from now on; null: none. */
  lose(key: ShardKey, older: ShardRecord | null): void {
    const name = shardKeyText(key);
    const newest = this.#records.get(name);
    if (newest === undefined || this.#aside.has(name)) return;
    this.#aside.set(name, newest);
    this.#put(key, older);
  }

  /** A person puts back what was committed last. */
  putBack(key: ShardKey): void {
    const name = shardKeyText(key);
    const newest = this.#aside.get(name);
    if (newest === undefined) return;
    this.#put(key, newest.record);
    this.#aside.delete(name);
  }

  /** The store as one coordinator sees it. */
  seenBy(process: SimProcess): RecordStore {
    return {
      read: async (key, signal) => {
        await this.#travel(process, signal);
        return (
          this.#stale(shardKeyText(key), process) ?? this.#records.get(shardKeyText(key)) ?? null
        );
      },
      create: (record, signal) => this.#change(process, record, null, signal),
      replace: (record, version, signal) => this.#change(process, record, version, signal),
    };
  }

  async #change(
    process: SimProcess,
    record: ShardRecord,
    expected: string | null,
    signal: AbortSignal,
  ): Promise<StoredRecord> {
    const text = JSON.stringify(record);
    await this.#travel(process, signal, true);
    const { chance } = process;
    if (chance.happens(this.#faults.failBefore)) throw new Error("record store: no answer");
    const name = shardKeyText(record);
    const version = this.#records.get(name)?.version ?? null;
    if (version !== expected) {
      throw new RecordConflict(`expected ${expected ?? "none"}, found ${version ?? "none"}`);
    }
    // As it would be read back.
    const stored = this.#put(record, parseRecord(JSON.parse(text)));
    this.onCommit(stored.record, process, this.#aside.has(name));
    await this.#travel(process, signal);
    if (chance.happens(this.#faults.failAfter)) throw new Error("record store: reply lost");
    return stored;
  }

  #put(key: ShardKey, record: ShardRecord): StoredRecord;
  #put(key: ShardKey, record: ShardRecord | null): StoredRecord | null;
  #put(key: ShardKey, record: ShardRecord | null): StoredRecord | null {
    const name = shardKeyText(key);
    this.#remember(name);
    this.#version += 1;
    const stored = record === null ? null : { record, version: String(this.#version) };
    if (stored === null) this.#records.delete(name);
    else this.#records.set(name, stored);
    this.onChange(key, stored?.version ?? "");
    return stored;
  }

  /** Not what is there while the record is lost: no backup was made of that. */
  #remember(name: string): void {
    const stored = this.#records.get(name);
    if (stored === undefined) return;
    const lost = this.#aside.get(name);
    if (lost !== undefined && lost !== stored) return;
    const past = this.#past.get(name) ?? [];
    past.push({ stored, untilMs: this.#time.nowMs });
    this.#past.set(name, past.slice(-HISTORY_MAX));
  }

  /** What was there some time ago; null: this read is none of those. */
  #stale(name: string, { chance }: SimProcess): StoredRecord | null {
    const { staleReads = 0 } = this.#faults;
    if (staleReads === 0 || !chance.happens(staleReads)) return null;
    const since = this.#time.nowMs - STALE_MS;
    const past = (this.#past.get(name) ?? []).filter(({ untilMs }) => untilMs >= since);
    return past[chance.below(Math.max(1, past.length))]?.stored ?? null;
  }

  /** Half a round trip. Not ended by the signal: a change may be on its way already. */
  async #travel(process: SimProcess, signal: AbortSignal, arrives = false): Promise<void> {
    signal.throwIfAborted();
    await new Promise<void>((resolve) => {
      // A change that was sent is made, also when its sender has died since.
      const owner = arrives ? null : process;
      this.#time.after(0.1 + process.chance.unit() * 2, owner, "record store", resolve);
    });
  }
}
