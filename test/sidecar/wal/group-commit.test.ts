import assert from "node:assert/strict";
import { InvariantError } from "../../../sidecar/lib/assert.ts";
import type { LogEntry } from "../../../sidecar/protocol/entry.ts";
import { DiskError, type DiskFile } from "../../../sidecar/lib/ports/disk.ts";
import { WalBeyondEnd, WalCorrupt, WalTrimmed } from "../../../sidecar/wal/errors.ts";
import { Wal, type WalOptions } from "../../../sidecar/wal/wal.ts";
import { SimDisk, type SimOperation } from "../../sim/sim-disk.ts";
import { assertHolds, EntryMaker, StillClock } from "./log-fixture.ts";

const DIR = "/data/log";

/** Opens existing files only when it is told to. */
class SlowOpenDisk extends SimDisk {
  opening: Promise<void> = Promise.resolve();

  override async open(path: string, options: { readonly create: boolean }): Promise<DiskFile> {
    if (!options.create) await this.opening;
    return await super.open(path, options);
  }
}

describe("Wal group commit", () => {
  let disk: SimDisk;
  let operations: SimOperation[];
  let options: WalOptions;
  let wal: Wal;
  let maker: EntryMaker;
  beforeEach(async () => {
    disk = new SimDisk({ seed: 5 });
    operations = [];
    await disk.makeDir("/data");
    await disk.syncDir("/");
    options = { disk, dir: DIR, segmentBytes: 1 << 20, clock: new StillClock() };
    wal = await Wal.open(options);
    maker = new EntryMaker();
    wal.append(maker.batch(1));
    await wal.sync();
    disk.onOperation = (operation): void => {
      operations.push(operation);
    };
  });

  function logOperations(): string[] {
    return operations.filter(({ path }) => path.endsWith(".wal")).map(({ name }) => name);
  }

  it("syncs once for all that were waiting, and once more for who came later", async () => {
    wal.append(maker.batch(10));
    const first = wal.sync();
    assert.equal(wal.sync(), first);
    wal.append(maker.batch(10));
    const second = wal.sync();
    // The first batch is under way once its write was seen; these share the next one.
    const late: Promise<unknown>[] = [];
    disk.onOperation = (operation): void => {
      operations.push(operation);
      if (operation.name !== "sync" || late.length > 0) return;
      for (let caller = 0; caller < 5; caller += 1) {
        wal.append(maker.batch(4));
        late.push(wal.sync());
      }
    };
    const [one, two] = await Promise.all([first, second]);
    assert.ok(one.offset >= 10 && two.offset === 20);
    assert.equal((await Promise.all(late)).length, 5);
    assert.deepEqual(wal.synced, maker.last);
    assert.deepEqual(logOperations(), ["write", "sync", "write", "sync"]);
  });

  it("does no I/O when all is durable", async () => {
    assert.deepEqual(await wal.sync(), maker.last);
    assert.deepEqual(operations, []);
  });

  it("has the mark on disk before the sync resolves", async () => {
    wal.append(maker.batch(3));
    await wal.sync();
    assert.deepEqual(operations.at(-1), { name: "write", path: `${DIR}/marks` });
  });

  it("reports each batch", async () => {
    const reported: number[] = [];
    const other = await Wal.open({
      ...options,
      dir: "/data/other",
      onSync: (_ms, bytes) => reported.push(bytes),
    });
    const own = new EntryMaker();
    other.append(own.batch(2, 100));
    await other.sync();
    assert.deepEqual(reported, [2 * (64 + 100)]);
  });

  it("reads what is pending from memory, in bounded pieces", async () => {
    const entries = maker.batch(5, 100);
    wal.append(entries);
    assert.deepEqual(await wal.read(2, 250), entries.slice(1, 3));
    assert.deepEqual(await wal.read(3, 0), entries.slice(2, 3));
    await assert.rejects(wal.read(6, 100), WalBeyondEnd);
  });

  it("refuses a gap, an older term, a broken chain, an ack before the sync", async () => {
    const [next, after] = maker.batch(2);
    assert.ok(next !== undefined && after !== undefined);
    assert.throws(() => wal.append([after]), InvariantError);
    assert.throws(() => wal.append([{ ...next, term: 0 }]), InvariantError);
    assert.throws(() => wal.append([{ ...next, crc: next.crc ^ 1 }]), InvariantError);
    wal.append([next, after]);
    assert.throws(() => wal.markAcked(1), InvariantError);
    await wal.sync();
    wal.markAcked(2);
  });

  it("fails every call with the same error after a failed sync", async () => {
    disk.failSyncs((path) => path.endsWith(".wal"));
    wal.append(maker.batch(2));
    const failures = await Promise.all(
      [wal.sync(), wal.sync()].map((sync) => sync.catch((e: unknown) => e)),
    );
    const [error] = failures;
    assert.ok(error instanceof DiskError && error.fatal);
    assert.equal(failures[1], error);
    disk.failSyncs(() => false);
    const same = (found: unknown): boolean => found === error;
    await assert.rejects(wal.sync(), same);
    assert.throws(() => wal.append([]), same);
    await assert.rejects(wal.read(0, 10), same);
    await assert.rejects(wal.truncate(0), same);
    await assert.rejects(wal.reset(maker.last), same);
    await assert.rejects(wal.trim(0), same);
    await wal.close();
  });

  it("keeps what it could not write on a full disk, and writes it when there is room", async () => {
    const small = new SimDisk({ seed: 1 });
    await small.makeDir("/data");
    const tight = { ...options, disk: small, segmentBytes: 8192 };
    const log = await Wal.open(tight);
    const own = new EntryMaker();
    small.setQuota(12_000);
    const entries = own.batch(60, 200);
    log.append(entries);
    await assert.rejects(log.sync(), { code: "NO_SPACE" });
    assert.ok(log.synced.offset < 59);
    await assert.rejects(log.sync(), { code: "NO_SPACE" });
    small.setQuota(1_000_000);
    assert.deepEqual(await log.sync(), own.last);
    await assertHolds(log, entries);
    await log.close();
    await assertHolds(await Wal.open(tight), entries);
  });

  it("drops on a full disk what it could not write, for good, and goes on", async () => {
    const small = new SimDisk({ seed: 1 });
    await small.makeDir("/data");
    const tight = { ...options, disk: small, segmentBytes: 8192 };
    const log = await Wal.open(tight);
    const own = new EntryMaker();
    const entries = own.batch(60, 200);
    small.setQuota(12_000);
    log.append(entries);
    await assert.rejects(log.sync(), { code: "NO_SPACE" });
    const kept = log.synced.offset;
    assert.ok(kept < 59);
    const waits = log.sync().catch((error: DiskError) => error.code);
    await log.discardPending();
    assert.ok(["NO_SPACE", log.synced].includes(await waits));
    assert.equal(log.last.offset, kept);
    await assertHolds(log, entries.slice(0, kept + 1));
    // Not found again by a restart, whatever of it reached the disk.
    await log.close();
    const again = await Wal.open(tight);
    await assertHolds(again, entries.slice(0, kept + 1));
    small.setQuota(1_000_000);
    const next = new EntryMaker(again.last);
    next.term = 2;
    const later = next.batch(3);
    again.append(later);
    await again.sync();
    await assertHolds(again, [...entries.slice(0, kept + 1), ...later]);
  });

  it("refuses appends during a truncation, and syncs what was pending before it", async () => {
    const entries = maker.batch(6);
    wal.append(entries);
    const synced = wal.sync();
    const truncated = wal.truncate(3);
    assert.throws(() => wal.append([]), InvariantError);
    assert.equal((await synced).offset, 6);
    await truncated;
    assert.equal(wal.last.offset, 3);
    await assert.rejects(wal.read(4, 10), WalBeyondEnd);
    const resumed = new EntryMaker(wal.last);
    resumed.term = 2;
    wal.append(resumed.batch(1));
    await wal.sync();
  });

  it("answers reads that meet a truncation as after it", async () => {
    wal.append(maker.batch(50, 1000));
    await wal.sync();
    const kept: Promise<readonly LogEntry[]>[] = [];
    const dropped: Promise<unknown>[] = [];
    const read = (): void => {
      kept.push(wal.read(10, 3000));
      dropped.push(wal.read(45, 3000).catch((error: unknown) => error));
    };
    disk.onOperation = read;
    read();
    await wal.truncate(30);
    assert.ok(kept.length > 5);
    for (const entries of await Promise.all(kept)) assert.equal(entries[0]?.offset, 10);
    for (const error of await Promise.all(dropped)) assert.ok(error instanceof WalBeyondEnd);
  });

  it("answers a read that a trim overtakes with WalTrimmed", async () => {
    const slow = new SlowOpenDisk({ seed: 1 });
    await slow.makeDir("/data");
    const log = await Wal.open({ ...options, disk: slow, segmentBytes: 4096 });
    log.append(new EntryMaker().batch(50, 1000));
    await log.sync();
    let open = (): void => undefined;
    slow.opening = new Promise((resolve) => {
      open = resolve;
    });
    const read = log.read(0, 10);
    await log.trim(40);
    open();
    await assert.rejects(read, WalTrimmed);
  });

  it("has what a truncation dropped gone for good", async () => {
    for (let seed = 0; seed < 10; seed += 1) {
      const other = new SimDisk({ seed });
      await other.makeDir("/data");
      await other.syncDir("/");
      const log = await Wal.open({ ...options, disk: other, segmentBytes: 4096 });
      log.append(new EntryMaker().batch(20, 1000));
      await log.truncate(0);
      other.restart();
      assert.deepEqual(await other.list(DIR), ["00000000000000000000.wal", "marks"]);
    }
  });

  it("says which record is damaged when it reads one", async () => {
    wal.append(maker.batch(3, 100));
    await wal.sync();
    disk.corrupt(`${DIR}/00000000000000000000.wal`, 64 + 64 + 20 + 164 + 70);
    assert.equal((await wal.read(1, 10)).length, 1);
    await assert.rejects(wal.read(2, 10), (error: unknown) => {
      return error instanceof WalCorrupt && error.offset === 2;
    });
  });

  it("closes with everything durable", async () => {
    wal.append(maker.batch(3));
    await wal.close();
    disk.restart();
    const again = await Wal.open(options);
    assert.deepEqual(again.last, maker.last);
    await assert.rejects(wal.sync(), /closed/u);
  });
});
