import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { LOG_START, type LogEntry } from "../../../sidecar/protocol/entry.ts";
import { createNodeDisk } from "../../../sidecar/os/node-disk.ts";
import { WalBeyondEnd, WalTrimmed } from "../../../sidecar/wal/errors.ts";
import { Wal, type WalOptions } from "../../../sidecar/wal/wal.ts";
import { assertHolds, EntryMaker, StillClock } from "./log-fixture.ts";

describe("Wal on a real disk", () => {
  let dir: string;
  let options: WalOptions;
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), "resilver-wal-"));
    options = {
      disk: createNodeDisk(),
      dir: `${dir}/log`,
      segmentBytes: 4096,
      clock: new StillClock(),
    };
  });
  afterEach(() => rm(dir, { recursive: true, force: true }));

  it("is empty at first", async () => {
    const wal = await Wal.open(options);
    assert.deepEqual(wal.last, LOG_START);
    assert.deepEqual(wal.recovered.fault, null);
    assert.equal(wal.first, 0);
    await assert.rejects(wal.read(0, 1000), WalBeyondEnd);
    await wal.close();
  });

  it("gives back what was written over several segments, also when opened again", async () => {
    const maker = new EntryMaker();
    const entries: LogEntry[] = [];
    let wal = await Wal.open(options);
    for (const size of [0, 1, 100, 3000, 5000, 20_000, 511, 512, 513]) {
      const batch = maker.batch(3, size);
      maker.term += 1;
      entries.push(...batch);
      wal.append(batch);
      assert.deepEqual(await wal.sync(), maker.last);
    }
    assert.ok(wal.segments > 5);
    await assertHolds(wal, entries);
    await wal.close();
    wal = await Wal.open(options);
    assert.equal(wal.recovered.fault, null);
    assert.equal(wal.recovered.tornBytes, 0);
    assert.deepEqual(wal.last, maker.last);
    assert.deepEqual(
      [...wal.recovered.crcs],
      entries.map(({ crc }) => crc),
    );
    assert.deepEqual(
      wal.recovered.termStarts,
      entries
        .filter(({ offset }) => offset % 3 === 0)
        .map(({ term, offset }) => ({ term, offset })),
    );
    await assertHolds(wal, entries);
    const more = maker.batch(5);
    wal.append(more);
    await wal.sync();
    await assertHolds(wal, [...entries, ...more]);
    await wal.close();
  });

  it("truncates within and across segments, durably", async () => {
    const maker = new EntryMaker();
    let wal = await Wal.open(options);
    let entries = maker.batch(100, 200);
    wal.append(entries);
    for (const lastOffset of [98, 60, 59, 20, 3, 0, -1]) {
      await wal.truncate(lastOffset);
      entries = entries.slice(0, lastOffset + 1);
      await assertHolds(wal, entries);
      await wal.close();
      wal = await Wal.open(options);
      assert.equal(wal.recovered.fault, null);
      await assertHolds(wal, entries);
      const resumed = new EntryMaker(wal.last);
      resumed.term = 2;
      const added = resumed.batch(2, 90);
      wal.append(added);
      await wal.sync();
      await assertHolds(wal, [...entries, ...added]);
      await wal.truncate(lastOffset);
    }
    await wal.close();
  });

  it("resets to a base and goes on from there", async () => {
    let wal = await Wal.open(options);
    wal.append(new EntryMaker().batch(50, 300));
    const base = { term: 7, offset: 1000, crc: 99 };
    await wal.reset(base);
    assert.deepEqual(wal.last, base);
    await assert.rejects(wal.read(10, 100), WalTrimmed);
    await wal.close();
    wal = await Wal.open(options);
    assert.deepEqual(wal.recovered.base, base);
    const maker = new EntryMaker(base);
    maker.term = 8;
    const entries = maker.batch(30, 300);
    wal.append(entries);
    await wal.close();
    wal = await Wal.open(options);
    assert.deepEqual(wal.base, base);
    await assertHolds(wal, entries);
    await wal.close();
  });

  it("trims whole segments only, and never the newest", async () => {
    const maker = new EntryMaker();
    let wal = await Wal.open(options);
    const entries = maker.batch(100, 200);
    wal.append(entries);
    await wal.sync();
    const before = wal.segments;
    assert.equal(wal.trimOffset(-1), -1);
    const upTo = wal.trimOffset(40);
    await wal.trim(40);
    assert.ok(wal.first > 0 && wal.first <= 41);
    assert.equal(upTo, wal.first - 1);
    assert.equal(wal.trimOffset(40), upTo);
    const { first } = wal;
    await assert.rejects(wal.read(first - 1, 10), WalTrimmed);
    await assertHolds(wal, entries.slice(first));
    await wal.close();
    wal = await Wal.open(options);
    assert.equal(wal.first, first);
    await wal.trim(10_000);
    assert.equal(wal.segments, 1);
    assert.ok(before > 3);
    assert.deepEqual(wal.last, maker.last);
    await wal.close();
  });
});
