import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { StoredRecord } from "../../../operator/controller/ports.ts";
import { newRecord, type ShardRecord } from "../../../operator/core/record.ts";
import type { RecordDisk } from "../../../operator/local/record-disk.ts";
import { FileRecordStore } from "../../../operator/local/record-store.ts";
import { SimDisk } from "../sim-disk.ts";
import { lossOf, type Outcome, outcomesOf } from "./outcomes.ts";

/** How saving the record went, over all crashes. */
export interface RecordSaves {
  readonly points: number;
  /** Points of which only a sample of the outcomes was tried. */
  readonly sampled: number;
  readonly outcomes: number;
  readonly failures: readonly string[];
}

const KEY = { namespace: "default", shard: 0 };
const OUTCOMES_MAX = 1_024;
const signal = new AbortController().signal;

const first: ShardRecord = newRecord({
  storeId: "store",
  ...KEY,
  ensemble: ["a", "b", "c"],
  replicationFactor: 3,
  keySorting: "hierarchical",
  notifications: false,
});
/** Longer than the one before, over several sectors. */
const second: ShardRecord = { ...first, term: 7, desired: ["a", "b", "c", "d".repeat(700)] };

/**
 * Saves a shard's first record, and then the next, over the records' file of local mode, with the
 * power lost before each change of the disk and after the last, once for everything that can be
 * left. What is read then is the old record or the new one, and the new one if the save had
 * succeeded; and the next save goes through. `alter`: a disk that is worse than it says.
 */
export async function saveRecords(
  alter = (disk: SimDisk): RecordDisk => disk,
): Promise<RecordSaves> {
  const dir = await mkdtemp(join(tmpdir(), "resilver-records-"));
  const counts = { points: 0, sampled: 0, outcomes: 0 };
  const failures: string[] = [];
  try {
    for (const old of [null, first]) {
      for (let change = 1, over = false; !over; change += 1) {
        const save = new Save(dir, old, change, alter);
        over = await save.crash();
        counts.points += 1;
        const { tried, coverage } = outcomesOf(save.disk, OUTCOMES_MAX);
        if (coverage !== "torn") counts.sampled += 1;
        for (const outcome of tried) {
          const failure = await new Save(dir, old, change, alter).judge(outcome);
          counts.outcomes += 1;
          const where = `record save over ${old === null ? "nothing" : "a record"}`;
          if (failure !== null) failures.push(`${where}, before change ${change}: ${failure}`);
        }
      }
    }
  } finally {
    await rm(dir, { recursive: true });
  }
  return { ...counts, failures };
}

/** One save over a new disk, and a crash in it. */
class Save {
  readonly disk = new SimDisk({ seed: 1 });
  readonly #dir: string;
  readonly #old: ShardRecord | null;
  readonly #change: number;
  readonly #alter: (disk: SimDisk) => RecordDisk;

  constructor(
    dir: string,
    old: ShardRecord | null,
    change: number,
    alter: (disk: SimDisk) => RecordDisk,
  ) {
    this.#dir = dir;
    this.#old = old;
    this.#change = change;
    this.#alter = alter;
  }

  /** True when the save succeeded before its power was to be lost. */
  async crash(): Promise<boolean> {
    await this.disk.makeDir(this.#dir);
    this.disk.settle();
    let saved = false;
    await this.#with(async (store) => {
      const stored = this.#old === null ? null : await store.create(this.#old, signal);
      this.disk.settle();
      this.disk.crashAfter(this.#change);
      await write(store, stored).then(
        () => {
          saved = true;
        },
        (error: unknown) => {
          if (!this.disk.down) throw error;
        },
      );
    });
    return saved && !this.disk.down;
  }

  /** What is wrong after the crash with this outcome; null: nothing. */
  async judge(outcome: Outcome): Promise<string | null> {
    const saved = await this.crash();
    this.disk.restart(lossOf(outcome));
    try {
      return await this.#with(async (store) => {
        const stored = await store.read(KEY, signal);
        const term = stored?.record.term ?? null;
        const isOld = term === (this.#old?.term ?? null) && !saved;
        if (!isOld && term !== second.term) return `it reads ${JSON.stringify(stored?.record)}`;
        await write(store, stored);
        return null;
      });
    } catch (error) {
      return String(error);
    }
  }

  async #with<T>(work: (store: FileRecordStore) => Promise<T>): Promise<T> {
    const path = join(this.#dir, "records.json");
    const store = await FileRecordStore.open(path, this.#alter(this.disk));
    try {
      return await work(store);
    } finally {
      await store.close();
    }
  }
}

function write(store: FileRecordStore, stored: StoredRecord | null): Promise<StoredRecord> {
  if (stored === null) return store.create(second, signal);
  return store.replace(second, stored.version, signal);
}
