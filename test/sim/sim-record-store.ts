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

/** How often what goes wrong; probabilities of one call. */
export interface RecordFaults {
  /** The store does not answer, nothing happened. */
  failBefore: number;
  /** Committed, and the reply is lost. */
  failAfter: number;
}

/**
 * The store of records: linearizable compare-and-swap that outlives every coordinator. Replies may
 * be lost after the commit.
 */
export class SimRecordStore {
  readonly #time: SimTime;
  readonly #faults: RecordFaults;
  readonly #records = new Map<string, StoredRecord>();
  #version = 0;
  /** Called after each commit. */
  onCommit: (record: ShardRecord, by: SimProcess) => void = () => undefined;

  constructor(time: SimTime, faults: RecordFaults) {
    this.#time = time;
    this.#faults = faults;
  }

  /** The truth, without delay. */
  peek(key: ShardKey): ShardRecord | null {
    return this.#records.get(shardKeyText(key))?.record ?? null;
  }

  /** The store as one coordinator sees it. */
  seenBy(process: SimProcess): RecordStore {
    return {
      read: async (key, signal) => {
        await this.#travel(process, signal);
        return this.#records.get(shardKeyText(key)) ?? null;
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
    const key = shardKeyText(record);
    const version = this.#records.get(key)?.version ?? null;
    if (version !== expected) {
      throw new RecordConflict(`expected ${expected ?? "none"}, found ${version ?? "none"}`);
    }
    this.#version += 1;
    // As it would be read back.
    const stored = { record: parseRecord(JSON.parse(text)), version: String(this.#version) };
    this.#records.set(key, stored);
    this.onCommit(stored.record, process);
    await this.#travel(process, signal);
    if (chance.happens(this.#faults.failAfter)) throw new Error("record store: reply lost");
    return stored;
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
