/** Logs that other builds wrote. */
import assert from "node:assert/strict";
import { crcOf } from "../../../sidecar/lib/crc.ts";
import type { LogEntry } from "../../../sidecar/protocol/entry.ts";
import { WalFormatUnknown } from "../../../sidecar/wal/errors.ts";
import { decodeSegmentHeader, parseSegmentName } from "../../../sidecar/wal/segment-codec.ts";
import { Wal } from "../../../sidecar/wal/wal.ts";
import { SimDisk } from "../../sim/sim-disk.ts";
import { rewriteAsFormat1, rewriteAsLater } from "../../support/log-formats.ts";
import { assertHolds, EntryMaker, StillClock } from "./log-fixture.ts";

const DIR = "/data/log";
const SEEDS = Array.from({ length: 10 }, (_, seed) => seed);

function open(disk: SimDisk): Promise<Wal> {
  return Wal.open({ disk, dir: DIR, segmentBytes: 4096, clock: new StillClock() });
}

/** A log of several segments, as format 1 had it, that was closed, or killed. */
async function oldLog(
  seed: number,
  count = 30,
  killed = false,
): Promise<{ disk: SimDisk; maker: EntryMaker; entries: LogEntry[] }> {
  const disk = new SimDisk({ seed });
  await disk.makeDir("/data");
  await disk.syncDir("/");
  const wal = await open(disk);
  const maker = new EntryMaker();
  const entries = maker.batch(count, 300);
  wal.append(entries);
  await wal.sync();
  if (!killed) await wal.close();
  await rewriteAsFormat1(disk, DIR);
  return { disk, maker, entries };
}

/** The format of each segment, by first offset. */
async function formats(disk: SimDisk): Promise<(number | undefined)[]> {
  const found: (number | undefined)[] = [];
  for (const name of await disk.list(DIR)) {
    if (parseSegmentName(name) === null) continue;
    const header = decodeSegmentHeader((await disk.readFile(`${DIR}/${name}`)) ?? Buffer.of());
    found.push(typeof header === "number" ? header : header?.format);
  }
  return found;
}

describe("a log of format 1", () => {
  for (const killed of [false, true]) {
    it(`is read whole and goes on in format 2, over any power loss (${killed ? "killed" : "closed"})`, async () => {
      for (const seed of SEEDS) {
        const { disk, maker, entries } = await oldLog(seed, 30, killed);
        const old = await formats(disk);
        assert.ok(old.length > 2 && old.every((format) => format === 1));
        const wal = await open(disk);
        assert.equal(wal.recovered.fault, null);
        assert.equal(wal.recovered.commit, -1);
        await assertHolds(wal, entries);
        wal.noteCommitted(29);
        const more = maker.batch(3, 300);
        wal.append(more);
        await wal.sync();
        disk.powerOff();
        disk.restart();
        const again = await open(disk);
        assert.equal(again.recovered.fault, null);
        assert.equal(again.recovered.commit, 29);
        await assertHolds(again, [...entries, ...more]);
        assert.deepEqual(await formats(disk), [...old, 2]);
      }
    });
  }

  it("can be cut and trimmed", async () => {
    const { disk, entries } = await oldLog(1);
    const wal = await open(disk);
    await wal.truncate(20);
    const maker = new EntryMaker(wal.last);
    maker.term = 2;
    const more = maker.batch(5, 300);
    wal.append(more);
    await wal.sync();
    await assertHolds(wal, [...entries.slice(0, 21), ...more]);
    await wal.close();
    const again = await open(disk);
    await assertHolds(again, [...entries.slice(0, 21), ...more]);
    await again.trim(20);
    assert.equal(again.first, 21);
    await assertHolds(again, more);
  });

  it("loses a torn tail, and is faulty below what was acknowledged (R14)", async () => {
    const { disk } = await oldLog(1, 5);
    const [name] = (await disk.list(DIR)).filter((one) => parseSegmentName(one) !== null);
    const file = await disk.open(`${DIR}/${name}`, { create: false });
    // Into the value of the first record, the others stay good.
    await file.write([Uint8Array.of(1, 2, 3)], 64 + 56 + 10);
    await file.close();
    const wal = await open(disk);
    assert.match(wal.recovered.fault?.message ?? "", /is damaged, and good ones follow up to 4/u);
  });

  it("without an entry in its newest segment goes on in that one", async () => {
    const { disk, maker } = await oldLog(1, 3);
    const first = await open(disk);
    await first.close();
    const path = `${DIR}/${"3".padStart(20, "0")}.wal`;
    // What a crash after the creation of a segment leaves.
    const base = maker.last;
    const header = new Uint8Array(64);
    const view = new DataView(header.buffer);
    const old = await disk.readFile(`${DIR}/${"0".padStart(20, "0")}.wal`);
    assert.ok(old !== null);
    header.set(old.subarray(0, 64));
    view.setUint32(20, base.crc);
    view.setFloat64(24, base.term);
    view.setFloat64(32, base.offset);
    const file = await disk.open(path, { create: true });
    await file.write([header], 0);
    await file.close();
    await resealHeader(disk, path);
    const wal = await open(disk);
    assert.equal(wal.recovered.fault, null);
    wal.append(maker.batch(2));
    await wal.close();
    const again = await open(disk);
    assert.equal(again.last.offset, 4);
    assert.deepEqual(await formats(disk), [1, 2]);
  });
});

async function resealHeader(disk: SimDisk, path: string): Promise<void> {
  const bytes = await disk.readFile(path);
  assert.ok(bytes !== null);
  const header = Uint8Array.from(bytes);
  new DataView(header.buffer).setUint32(12, crcOf(header.subarray(16, 64), 1));
  const file = await disk.open(path, { create: false });
  await file.write([header], 0);
  await file.close();
}

describe("a log of a later format", () => {
  for (const name of ["marks", `${"0".padStart(20, "0")}.wal`]) {
    it(`is no damage: it is refused by name, and nothing is changed (${name})`, async () => {
      const { disk } = await oldLog(1);
      const path = `${DIR}/${name}`;
      await rewriteAsLater(disk, path);
      const before = await disk.readFile(path);
      await assert.rejects(open(disk), (error: unknown) => {
        assert.ok(error instanceof WalFormatUnknown);
        assert.ok(error.message.startsWith(`${path}: format is 3, allowed: 1, 2; nothing was`));
        return true;
      });
      assert.deepEqual(await disk.readFile(path), before);
    });
  }
});
