import assert from "node:assert/strict";
import { LOG_START, type LogEntry, type LogPosition } from "../../../sidecar/protocol/entry.ts";
import { Wal, type WalOptions } from "../../../sidecar/wal/wal.ts";
import { Chance } from "../../sim/chance.ts";
import { SimDisk } from "../../sim/sim-disk.ts";
import { EntryMaker, StillClock } from "./log-fixture.ts";

const DIR = "/data/log";
const SEEDS = 5;

/** What the log may hold after a crash, given what was asked of it. */
class Expectation {
  /** Every entry handed to append in the present history, by offset. */
  entries = new Map<number, LogEntry>();
  /** Durable: must be there. */
  synced: LogPosition = LOG_START;
  base: LogPosition = LOG_START;
  /** Change under way: afterwards either the old or the new log is right. */
  changing: { readonly last: number; readonly base: LogPosition } | null = null;

  async check(wal: Wal): Promise<void> {
    assert.equal(wal.recovered.fault, null, JSON.stringify(wal.recovered.fault));
    const { changing } = this;
    const reset = changing !== null && changing.base.offset > this.synced.offset;
    if (reset && wal.base.offset === changing.base.offset) {
      assert.deepEqual([wal.base, wal.last], [changing.base, changing.base]);
      return;
    }
    const least = Math.min(this.synced.offset, changing?.last ?? Number.POSITIVE_INFINITY);
    assert.ok(wal.last.offset >= least, `last ${wal.last.offset}, durable ${least}`);
    assert.ok(wal.base.offset >= this.base.offset && wal.base.offset <= least, "base");
    for (let offset = wal.first; offset <= wal.last.offset; ) {
      for (const entry of await wal.read(offset, 500)) {
        const wanted = this.entries.get(offset);
        assert.equal(entry.crc, wanted?.crc, `entry ${offset}`);
        assert.equal(wal.recovered.crcs[offset - wal.first], entry.crc);
        offset += 1;
      }
    }
  }

  /** The log as found is the history to go on from. */
  adopt(wal: Wal): void {
    for (const offset of this.entries.keys()) {
      if (offset > wal.last.offset || offset <= wal.base.offset) this.entries.delete(offset);
    }
    this.synced = wal.last;
    this.base = wal.base;
    this.changing = null;
  }
}

function optionsFor(disk: SimDisk, seed: number): WalOptions {
  return {
    disk,
    dir: DIR,
    segmentBytes: 4096,
    preallocate: seed % 2 === 0,
    clock: new StillClock(),
  };
}

/** Appends, syncs, truncates, trims and resets until it is done or power goes off. */
async function work(wal: Wal, expected: Expectation, chance: Chance): Promise<void> {
  const maker = new EntryMaker(wal.last);
  maker.term = Math.max(1, wal.last.term + 1);
  for (let step = 0; step < 14; step += 1) {
    const size = chance.below(4) === 0 ? 3000 : chance.below(200);
    const batch = maker.batch(1 + chance.below(5), size);
    for (const entry of batch) expected.entries.set(entry.offset, entry);
    wal.append(batch);
    if (chance.happens(0.7)) expected.synced = await wal.sync();
    const choice = chance.below(12);
    if (choice === 0) await truncate(wal, expected, maker, chance);
    if (choice === 1) await trim(wal, expected, chance);
    if (choice === 2 && chance.happens(0.3)) await reset(wal, expected, maker);
  }
  expected.synced = await wal.sync();
}

async function truncate(
  wal: Wal,
  expected: Expectation,
  maker: EntryMaker,
  chance: Chance,
): Promise<void> {
  expected.synced = await wal.sync();
  const length = wal.last.offset - wal.base.offset;
  const last = wal.last.offset - chance.below(length + 1);
  expected.changing = { last, base: wal.base };
  await wal.truncate(last);
  expected.adopt(wal);
  maker.last = wal.last;
  maker.term += 1;
}

async function trim(wal: Wal, expected: Expectation, chance: Chance): Promise<void> {
  await wal.trim(wal.base.offset + chance.below(wal.synced.offset - wal.base.offset + 1));
  assert.ok(wal.base.offset <= expected.synced.offset);
}

async function reset(wal: Wal, expected: Expectation, maker: EntryMaker): Promise<void> {
  expected.synced = await wal.sync();
  const base = { term: maker.term, offset: wal.last.offset + 10, crc: 77 };
  expected.changing = { last: wal.last.offset, base };
  await wal.reset(base);
  expected.adopt(wal);
  maker.last = base;
}

/**
 * Runs the same work with a power loss (or kill) at the `crashAt`th disk operation. False: it was
 * not reached.
 */
async function crashRun(seed: number, crashAt: number, kill: boolean): Promise<boolean> {
  const disk = new SimDisk({ seed: seed * 1000 + crashAt });
  await disk.makeDir("/data");
  await disk.syncDir("/");
  const chance = new Chance(seed);
  const expected = new Expectation();
  disk.crashAfter(crashAt);
  try {
    await work(await Wal.open(optionsFor(disk, seed)), expected, chance);
  } catch (error) {
    assert.ok(disk.down, String(error));
  }
  const crashed = disk.down;
  // Recovery itself is cut short, several times, at other places.
  for (let again = 0; again < 3; again += 1) {
    if (kill) disk.kill();
    else disk.restart();
    disk.crashAfter(1 + ((crashAt + again * 5) % 13));
    try {
      await expected.check(await Wal.open(optionsFor(disk, seed)));
    } catch (error) {
      if (!disk.down) throw error;
    }
  }
  disk.restart();
  const wal = await Wal.open(optionsFor(disk, seed));
  await expected.check(wal);
  expected.adopt(wal);
  await work(wal, expected, chance);
  disk.powerOff();
  disk.restart();
  await expected.check(await Wal.open(optionsFor(disk, seed)));
  return crashed;
}

describe("Wal after a crash at every disk operation", function () {
  this.timeout(120_000);
  for (const kill of [false, true]) {
    it(`holds all that was durable (${kill ? "kill" : "power loss"})`, async () => {
      for (let seed = 1; seed <= SEEDS; seed += 1) {
        let crashAt = 1;
        while (await runNamed(seed, crashAt, kill)) crashAt += 1;
        assert.ok(crashAt > 40, `only ${crashAt} operations`);
      }
    });
  }
});

async function runNamed(seed: number, crashAt: number, kill: boolean): Promise<boolean> {
  try {
    return await crashRun(seed, crashAt, kill);
  } catch (error) {
    throw new Error(`seed ${seed}, crash at operation ${crashAt}`, { cause: error });
  }
}

describe("Wal truncation and reset that a crash interrupts", () => {
  const changes: [string, (wal: Wal) => Promise<void>, number][] = [
    ["truncation", (wal): Promise<void> => wal.truncate(5), 5],
    ["reset", (wal): Promise<void> => wal.reset({ term: 9, offset: 100, crc: 1 }), 100],
  ];
  for (const [name, change, last] of changes) {
    it(`finishes a ${name} once it was decided`, async () => {
      // Two writes of the control slots, each with a sync, decide; the fifth operation is the first
      // after.
      for (let crashAt = 5; await interrupted(change, crashAt, last); crashAt += 1);
    });
  }
});

/** False: the change was done before the crash. */
async function interrupted(
  change: (wal: Wal) => Promise<void>,
  crashAt: number,
  last: number,
): Promise<boolean> {
  const disk = new SimDisk({ seed: crashAt });
  await disk.makeDir("/data");
  await disk.syncDir("/");
  const wal = await Wal.open(optionsFor(disk, 2));
  wal.append(new EntryMaker().batch(30, 400));
  await wal.sync();
  disk.crashAfter(crashAt);
  await change(wal).catch(() => undefined);
  const { down } = disk;
  disk.restart();
  const again = await Wal.open(optionsFor(disk, 2));
  assert.deepEqual([again.recovered.fault, again.last.offset], [null, last]);
  return down;
}
