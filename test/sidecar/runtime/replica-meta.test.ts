import assert from "node:assert/strict";
import { InvariantError } from "../../../sidecar/lib/assert.ts";
import { DiskError } from "../../../sidecar/lib/ports/disk.ts";
import { GarbledFileError, writeSealed } from "../../../sidecar/lib/sealed-file.ts";
import {
  META_FILE,
  ReplicaMetaStore,
  newReplicaMeta,
  readReplicaMeta,
  writeReplicaMeta,
} from "../../../sidecar/runtime/replica-meta.ts";
import { RESERVE_FILE, SPACE_RESERVE_BYTES } from "../../../sidecar/runtime/space-reserve.ts";
import { SimDisk } from "../../sim/sim-disk.ts";
import { CrashDisk, crashEverywhere } from "../../support/crash-disk.ts";

const DIR = "/wal/default/0";

async function formatted(): Promise<CrashDisk> {
  const disk = new CrashDisk();
  await disk.makeDir(DIR);
  for (const dir of ["", "/wal", "/wal/default"]) await disk.syncDir(dir);
  await writeReplicaMeta(disk, DIR, newReplicaMeta("u1", 1));
  return disk;
}

describe("replica meta", () => {
  it("raises the boot counter durably at each open (R3, R7)", async () => {
    const disk = await formatted();
    for (const expected of [1, 2, 3]) {
      const store = await ReplicaMetaStore.open(disk, DIR, "u1");
      assert.equal(store.current.bootCounter, expected);
      disk.reboot("nothing");
    }
  });

  it("keeps every promise over a power loss", async () => {
    const disk = await formatted();
    const store = await ReplicaMetaStore.open(disk, DIR, "u1");
    await store.update({
      term: 5,
      previousTerm: 4,
      generation: 7,
      lossEpoch: 1,
      enrolled: { term: 5, leaderUid: "leader" },
      keySorting: 2,
      notifications: true,
      fault: 'a "quoted" fault',
    });
    disk.reboot("nothing");
    const found = await readReplicaMeta(disk, DIR);
    assert.deepEqual(found, store.current);
    assert.deepEqual(found?.enrolled, { term: 5, leaderUid: "leader" });
  });

  it("reads a file from before it said whether its replica was set back (R3)", async () => {
    const disk = await formatted();
    const { rolledBack: _rolledBack, ...old } = { ...newReplicaMeta("u1", 1), term: 6 };
    await writeSealed(disk, `${DIR}/${META_FILE}`, "replica", { ...old, previousTerm: 3 });
    const store = await ReplicaMetaStore.open(disk, DIR, "u1");
    assert.equal(store.current.rolledBack, false);
    assert.equal(store.current.previousTerm, 3);
    await store.update({ rolledBack: true });
    assert.equal((await readReplicaMeta(disk, DIR))?.rolledBack, true);
  });

  it("saves in call order, each on top of the one before", async () => {
    const disk = await formatted();
    const store = await ReplicaMetaStore.open(disk, DIR, "u1");
    const saves = [1, 2, 3].map((term) => store.update({ term }));
    saves.push(store.update({ member: true }));
    await Promise.all(saves);
    assert.equal(store.current.term, 3);
    assert.equal((await readReplicaMeta(disk, DIR))?.member, true);
    assert.equal((await readReplicaMeta(disk, DIR))?.term, 3);
  });

  it("never goes back on term, generation or loss epoch (I2)", async () => {
    const store = await ReplicaMetaStore.open(await formatted(), DIR, "u1");
    await store.update({ term: 3, generation: 3, lossEpoch: 3 });
    await assert.rejects(store.update({ term: 2 }), InvariantError);
    await assert.rejects(store.update({ generation: 2 }), InvariantError);
    await assert.rejects(store.update({ lossEpoch: 2 }), InvariantError);
    assert.equal(store.current.term, 3);
    await store.update({ term: 4 });
  });

  it("is not believed with any bit flipped or any tail missing", async () => {
    const disk = await formatted();
    const path = `${DIR}/${META_FILE}`;
    const good = await disk.readFile(path);
    assert.ok(good);
    const rewrite = async (bytes: Uint8Array): Promise<void> => {
      await disk.remove(path);
      await (await disk.open(path, { create: true })).write([bytes], 0);
    };
    for (let at = 0; at < good.length; at++) {
      const bad = good.slice();
      bad[at] = (bad[at] as number) ^ (1 << (at % 7));
      await rewrite(bad);
      await assert.rejects(readReplicaMeta(disk, DIR), GarbledFileError, `byte ${at}`);
      await rewrite(good.slice(0, at));
      await assert.rejects(readReplicaMeta(disk, DIR), GarbledFileError, `cut at ${at}`);
    }
    await rewrite(good);
    assert.equal((await readReplicaMeta(disk, DIR))?.replicaUid, "u1");
  });

  it("goes on after a full disk and not after a failed sync (R14)", async () => {
    const disk = await formatted();
    const store = await ReplicaMetaStore.open(disk, DIR, "u1");
    const full = new DiskError("NO_SPACE", DIR, "full", { fatal: false });
    disk.failOn = { match: /^write/, error: full };
    await assert.rejects(store.update({ term: 1 }), (error) => error === full);
    assert.equal(store.current.term, -1);
    disk.failOn = null;
    await store.update({ term: 1 });
    const lost = new DiskError("IO", DIR, "sync failed", { fatal: true });
    disk.failOn = { match: /^sync/, error: lost };
    await assert.rejects(store.update({ term: 2 }), (error) => error === lost);
    disk.failOn = null;
    await assert.rejects(store.update({ term: 2 }), (error) => error === lost);
  });

  it("does not go on once a promise that is not durable can be read (R14)", async () => {
    const disk = await formatted();
    const store = await ReplicaMetaStore.open(disk, DIR, "u1");
    // The directory cannot be opened: nothing is lost yet, and nothing is certain either.
    const busy = new DiskError("IO", DIR, "EMFILE: too many open files", { fatal: false });
    disk.failOn = { match: /^syncDir/, error: busy };
    await assert.rejects(store.update({ term: 1 }), { code: "IO", fatal: true });
    assert.equal((await readReplicaMeta(disk, DIR))?.term, 1);
  });

  it("saves a promise on a full volume, in the space kept for it; later when even that is gone", async () => {
    const disk = new SimDisk({ seed: 1, quotaBytes: SPACE_RESERVE_BYTES + 64 * 1024 });
    await disk.makeDir(DIR);
    await writeReplicaMeta(disk, DIR, newReplicaMeta("u1", 1));
    const store = await ReplicaMetaStore.open(disk, DIR, "u1");
    const fill = async (name: string): Promise<void> => {
      const file = await disk.open(`/${name}`, { create: true });
      await file.write([new Uint8Array(await disk.freeBytes("/"))], 0);
      await file.close();
    };
    await fill("a");
    await store.update({ term: 1 });
    assert.equal((await readReplicaMeta(disk, DIR))?.term, 1);
    // Somebody else takes what was given up.
    await fill("b");
    await assert.rejects(store.update({ term: 2 }), { code: "NO_SPACE" });
    let waits = 0;
    store.whenFull = async () => {
      waits += 1;
      if (waits === 3) await disk.remove("/b");
    };
    // In order, too: the one behind it is not saved before it.
    await Promise.all([store.update({ term: 2 }), store.update({ term: 3 })]);
    assert.deepEqual([waits, (await readReplicaMeta(disk, DIR))?.term], [3, 3]);
    await store.reserve.keep();
    assert.equal(await disk.usedBytes(`${DIR}/${RESERVE_FILE}`), SPACE_RESERVE_BYTES);
    store.whenFull = () => Promise.reject(new Error("the replica ends"));
    await fill("c");
    await store.reserve.release();
    await fill("d");
    await assert.rejects(store.update({ term: 4 }), /the replica ends/u);
  });

  it("is the old or the new one after a crash at any disk operation", async () => {
    const seen = new Set<number>();
    await crashEverywhere(
      formatted,
      async (disk) => {
        const store = await ReplicaMetaStore.open(disk, DIR, "u1");
        await store.update({ term: 1 });
        await store.update({ term: 2, member: true });
        promised.set(disk, 2);
      },
      async (disk) => {
        const found = await readReplicaMeta(disk, DIR);
        assert.ok(found);
        assert.equal(found.member, found.term === 2);
        assert.ok(found.term >= (promised.get(disk) ?? -1));
        seen.add(found.term);
        const boot = (await ReplicaMetaStore.open(disk, DIR, "u1")).current.bootCounter;
        assert.ok(boot > found.bootCounter);
      },
    );
    assert.deepEqual(seen, new Set([-1, 1, 2]));
  });
});

/** The term whose update had resolved before the crash. */
const promised = new Map<CrashDisk, number>();
