import assert from "node:assert/strict";
import type { LogEntry } from "../../../sidecar/protocol/entry.ts";
import { SEGMENT_HEADER_BYTES } from "../../../sidecar/wal/segment-codec.ts";
import { Wal, type WalOptions } from "../../../sidecar/wal/wal.ts";
import { SimDisk } from "../../sim/sim-disk.ts";
import { EntryMaker, StillClock } from "./log-fixture.ts";

const DIR = "/data/log";
const SEGMENT = `${DIR}/00000000000000000000.wal`;
const MARKS = `${DIR}/marks`;
const BATCH = 3;

/** A log of two batches, and the marks before them, after the first one, and after both. */
interface Sample {
  readonly disk: SimDisk;
  readonly entries: readonly LogEntry[];
  /** End of each record in the segment file. */
  readonly ends: readonly number[];
  readonly segment: Uint8Array;
  readonly firstMarks: Uint8Array;
  readonly oldMarks: Uint8Array;
  readonly newMarks: Uint8Array;
}

function optionsFor(disk: SimDisk, preallocate: boolean): WalOptions {
  return { disk, dir: DIR, segmentBytes: 8192, preallocate, clock: new StillClock() };
}

async function makeSample(
  preallocate: boolean,
  valueBytes: number,
  nowMs = 1_000,
): Promise<Sample> {
  const disk = new SimDisk({ seed: 1 });
  await disk.makeDir("/data");
  const wal = await Wal.open(optionsFor(disk, preallocate));
  const firstMarks = await contents(disk, MARKS);
  const maker = new EntryMaker();
  maker.nowMs = nowMs;
  const entries = maker.batch(BATCH, valueBytes);
  wal.append(entries);
  await wal.sync();
  const oldMarks = await contents(disk, MARKS);
  const more = maker.batch(BATCH, valueBytes);
  wal.append(more);
  await wal.sync();
  const newMarks = await contents(disk, MARKS);
  const all = [...entries, ...more];
  let end = SEGMENT_HEADER_BYTES;
  const ends = all.map(({ value }) => (end += 64 + value.byteLength));
  return {
    disk,
    entries: all,
    ends,
    segment: await contents(disk, SEGMENT),
    firstMarks,
    oldMarks,
    newMarks,
  };
}

async function contents(disk: SimDisk, path: string): Promise<Uint8Array> {
  const bytes = await disk.readFile(path);
  assert.ok(bytes !== null);
  return bytes;
}

async function put(disk: SimDisk, path: string, bytes: Uint8Array): Promise<void> {
  const file = await disk.open(path, { create: true });
  await file.truncate(0);
  await file.write([bytes], 0);
  await file.close();
}

/**
 * Opens the sample with other file contents; checks that a fault changed nothing; returns what was
 * found.
 */
async function reopen(
  sample: Sample,
  preallocate: boolean,
  files: { readonly segment?: Uint8Array; readonly marks?: Uint8Array },
): Promise<{ readonly fault: boolean; readonly count: number; readonly tornBytes: number }> {
  const disk = sample.disk.clone(2);
  const segment = files.segment ?? sample.segment;
  const marks = files.marks ?? sample.newMarks;
  await put(disk, SEGMENT, segment);
  await put(disk, MARKS, marks);
  const wal = await Wal.open(optionsFor(disk, preallocate));
  const { fault, tornBytes, last, crcs } = wal.recovered;
  const count = last.offset + 1;
  assert.deepEqual(
    [...crcs],
    sample.entries.slice(0, count).map(({ crc }) => crc),
  );
  if (fault !== null) {
    assert.ok(Buffer.from(await contents(disk, SEGMENT)).equals(segment));
    assert.ok(Buffer.from(await contents(disk, MARKS)).equals(marks));
    assert.throws(() => wal.append([]), /damaged/u);
  } else {
    // What was recovered can be added to, and is found again.
    const maker = new EntryMaker(last);
    wal.append(maker.batch(2, 30));
    await wal.close();
    const again = await Wal.open(optionsFor(disk, preallocate));
    assert.equal(again.recovered.fault, null);
    assert.deepEqual(again.last, maker.last);
  }
  return { fault: fault !== null, count, tornBytes };
}

for (const preallocate of [true, false]) {
  describe(`Wal recovery, ${preallocate ? "preallocated" : "growing"} segments`, () => {
    let sample: Sample;
    before(async () => {
      sample = await makeSample(preallocate, 150);
    });

    const cuts: [string, (bytes: Uint8Array, at: number) => Uint8Array][] = [
      ["cut off", (bytes, at): Uint8Array => bytes.slice(0, at)],
      ["zeroed", (bytes, at): Uint8Array => bytes.slice().fill(0, at)],
    ];
    for (const [name, damage] of cuts) {
      it(`keeps whole records when the file is ${name} at any byte above the mark`, async () => {
        const end = sample.ends.at(-1) ?? 0;
        for (let at = 0; at <= end; at += 1) {
          const segment = damage(sample.segment, at);
          const found = await reopen(sample, preallocate, { segment, marks: sample.oldMarks });
          const whole = sample.ends.filter((recordEnd) => recordEnd <= at).length;
          assert.equal(found.fault, whole < BATCH, `at ${at}`);
          if (!found.fault) assert.equal(found.count, whole, `at ${at}`);
        }
      });

      it(`is faulty when the file is ${name} at any byte below the mark`, async () => {
        for (let at = 0; at < (sample.ends.at(-1) ?? 0); at += 1) {
          const segment = damage(sample.segment, at);
          // Zeroing what is zero already is no damage.
          if (Buffer.compare(segment, sample.segment) === 0) continue;
          if (segment.byteLength === sample.segment.byteLength && sameRecords(sample, segment))
            continue;
          const { fault } = await reopen(sample, preallocate, { segment });
          assert.equal(fault, true, `at ${at}`);
        }
      });
    }

    it("is faulty at any flipped bit below the mark, and loses nothing elsewhere", async () => {
      const end = sample.ends.at(-1) ?? 0;
      for (let at = 0; at < Math.min(sample.segment.byteLength, end + 600); at += 1) {
        const segment = sample.segment.slice();
        segment[at] = (segment[at] ?? 0) ^ (1 << (at % 8));
        const found = await reopen(sample, preallocate, { segment });
        assert.equal(found.fault, at < end, `at ${at}`);
        if (!found.fault) assert.equal(found.count, sample.entries.length);
      }
    });

    it("is faulty at a flipped bit above the mark when good records follow", async () => {
      const last = sample.ends.at(-2) ?? 0;
      for (let at = 0; at < (sample.ends.at(-1) ?? 0); at += 1) {
        const segment = sample.segment.slice();
        segment[at] = (segment[at] ?? 0) ^ (1 << (at % 8));
        const found = await reopen(sample, preallocate, { segment, marks: sample.oldMarks });
        assert.equal(found.fault, at < last, `at ${at}`);
        if (!found.fault) assert.equal(found.count, sample.entries.length - 1, `at ${at}`);
      }
    });

    it("loses nothing to a flipped bit in the marks", async () => {
      for (let at = 0; at < sample.newMarks.byteLength; at += 1) {
        const marks = sample.newMarks.slice();
        marks[at] = (marks[at] ?? 0) ^ (1 << (at % 8));
        const found = await reopen(sample, preallocate, { marks });
        assert.deepEqual([found.fault, found.count], [false, sample.entries.length]);
      }
    });

    it("takes a zeroed length for damage, not for the end", async () => {
      const segment = sample.segment.slice();
      const start = sample.ends[3] ?? 0;
      segment.fill(0, start + 8, start + 12);
      const found = await reopen(sample, preallocate, { segment, marks: sample.oldMarks });
      assert.equal(found.fault, true);
    });

    it("is faulty without its marks", async () => {
      const found = await reopen(sample, preallocate, { marks: new Uint8Array(0) });
      assert.equal(found.fault, true);
    });

    it("can be reset after a fault", async () => {
      const disk = sample.disk.clone(3);
      disk.corrupt(SEGMENT, 100);
      let wal = await Wal.open(optionsFor(disk, preallocate));
      assert.equal(wal.recovered.fault?.offset, 0);
      const base = { term: 3, offset: 2, crc: 5 };
      await wal.reset(base);
      const maker = new EntryMaker(base);
      maker.term = 3;
      wal.append(maker.batch(2));
      await wal.close();
      wal = await Wal.open(optionsFor(disk, preallocate));
      assert.equal(wal.recovered.fault, null);
      assert.deepEqual([wal.base, wal.last], [base, maker.last]);
    });
  });
}

describe("Wal recovery of large torn batches", () => {
  it("cuts a batch that lost any one sector, since it was never durable", async () => {
    const sample = await makeSample(true, 900);
    const start = sample.ends[BATCH - 1] ?? 0;
    const end = sample.ends.at(-1) ?? 0;
    for (let sector = Math.ceil(start / 512); (sector + 1) * 512 <= end; sector += 1) {
      const segment = sample.segment.slice().fill(0, sector * 512, (sector + 1) * 512);
      const found = await reopen(sample, true, { segment, marks: sample.oldMarks });
      const whole = sample.ends.filter((recordEnd) => recordEnd <= sector * 512).length;
      assert.deepEqual([found.fault, found.count], [false, whole]);
    }
  });
});

describe("Wal recovery from records that say more than the marks file", () => {
  it("is faulty when a batch lost a sector that later records know was durable", async () => {
    const sample = await makeSample(true, 800);
    const segment = sample.segment.slice().fill(0, 1024, 1536);
    const found = await reopen(sample, true, { segment, marks: sample.firstMarks });
    assert.deepEqual([found.fault, found.count], [true, 1]);
  });

  it("is faulty at a good record of another history", async () => {
    const sample = await makeSample(true, 100);
    const other = await makeSample(true, 100, 2_000);
    const segment = sample.segment.slice();
    const [start, end] = [sample.ends[3], sample.ends[4]];
    segment.set(other.segment.subarray(start, end), start);
    const found = await reopen(sample, true, { segment, marks: sample.firstMarks });
    assert.deepEqual([found.fault, found.count], [true, 4]);
  });
});

describe("Wal recovery of several segments", () => {
  async function makeLong(): Promise<{ disk: SimDisk; paths: string[] }> {
    const disk = new SimDisk({ seed: 4 });
    await disk.makeDir("/data");
    const wal = await Wal.open(optionsFor(disk, true));
    wal.append(new EntryMaker().batch(40, 1000));
    await wal.sync();
    const names = (await disk.list(DIR)).filter((name) => name.endsWith(".wal"));
    assert.ok(names.length > 3);
    return { disk, paths: names.map((name) => `${DIR}/${name}`) };
  }

  it("is faulty without any segment but the oldest", async () => {
    const { disk, paths } = await makeLong();
    for (const [index, path] of paths.entries()) {
      const copy = disk.clone(index);
      copy.wipe(path);
      const { recovered } = await Wal.open(optionsFor(copy, true));
      assert.equal(recovered.fault !== null, index > 0, path);
    }
  });

  it("is faulty at a damaged header of any segment", async () => {
    const { disk, paths } = await makeLong();
    for (const [index, path] of paths.entries()) {
      const copy = disk.clone(index);
      copy.corrupt(path, 20);
      const { recovered } = await Wal.open(optionsFor(copy, true));
      assert.equal(recovered.fault?.path, path);
    }
  });

  it("syncs every segment before it reports the log (H14)", async () => {
    const { disk, paths } = await makeLong();
    const synced = new Set<string>();
    disk.kill();
    disk.onOperation = ({ name, path }): void => {
      if (name === "sync") synced.add(path);
    };
    await Wal.open(optionsFor(disk, true));
    assert.deepEqual([...synced].filter((path) => path !== MARKS).sort(), paths);
  });
});

describe("Wal recovery against an installed snapshot", () => {
  it("keeps a log that contains the base, discards one that contradicts it", async () => {
    const sample = await makeSample(true, 50);
    const inside = sample.entries[2];
    assert.ok(inside !== undefined);
    const { term, offset, crc } = inside;
    const cases: [{ term: number; offset: number; crc: number }, boolean][] = [
      [{ term, offset, crc }, true],
      [{ term, offset, crc: crc + 1 }, false],
      [{ term: 4, offset: 6, crc: 1 }, false],
      [{ term: -1, offset: -1, crc: 0 }, true],
    ];
    for (const [base, kept] of cases) {
      const wal = await Wal.open({ ...optionsFor(sample.disk.clone(1), true), base });
      assert.equal(wal.recovered.fault, null);
      assert.equal(wal.last.offset, kept ? 5 : base.offset);
      assert.equal(wal.base.offset, kept ? -1 : base.offset);
    }
  });

  it("discards a damaged log only when nothing of it is above the base", async () => {
    const sample = await makeSample(true, 50);
    sample.disk.corrupt(SEGMENT, 100);
    for (const [offset, discarded] of [
      [4, false],
      [5, true],
      [9, true],
    ] as const) {
      const base = { term: 9, offset, crc: 7 };
      const wal = await Wal.open({ ...optionsFor(sample.disk.clone(1), true), base });
      assert.equal(wal.recovered.fault === null, discarded);
      if (discarded) assert.deepEqual(wal.last, base);
    }
  });
});

function sameRecords(sample: Sample, segment: Uint8Array): boolean {
  const end = sample.ends.at(-1) ?? 0;
  return Buffer.compare(segment.subarray(0, end), sample.segment.subarray(0, end)) === 0;
}
