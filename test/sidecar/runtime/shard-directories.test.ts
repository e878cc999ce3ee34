import assert from "node:assert/strict";
import type { Random } from "../../../sidecar/lib/ports/random.ts";
import { GarbledFileError } from "../../../sidecar/lib/sealed-file.ts";
import { ProtocolError } from "../../../sidecar/protocol/errors.ts";
import { WipeReason } from "../../../sidecar/protocol/gen/resilver.ts";
import {
  COOKIE_FILE,
  readCookie,
  readMasterCookie,
  writeCookie,
  writeMasterCookie,
} from "../../../sidecar/runtime/cookie.ts";
import {
  META_FILE,
  ReplicaMetaStore,
  readReplicaMeta,
} from "../../../sidecar/runtime/replica-meta.ts";
import {
  type OpenDirectoriesOptions,
  type ShardDirectories,
  formattedBefore,
  openDirectories,
} from "../../../sidecar/runtime/shard-directories.ts";
import { RESERVE_FILE } from "../../../sidecar/runtime/space-reserve.ts";
import {
  DirectoryInUseError,
  listShards,
  lockDataDirectories,
  removeShard,
  shardPaths,
} from "../../../sidecar/runtime/shard-paths.ts";
import { CrashDisk, crashEverywhere } from "../../support/crash-disk.ts";

const WAL = "/data/wal/default/0";
const STATE = "/data/state/default/0";

/** Uids u1, u2, ... from `first`. */
function counting(first = 1): Random {
  let next = first;
  return { unit: () => 0.5, uid: () => `u${next++}` };
}

function open(
  disk: CrashDisk,
  random: Random,
  more: Partial<OpenDirectoriesOptions> = {},
): Promise<ShardDirectories> {
  const names = { walDir: "/data/wal", stateDir: "/data/state", namespace: "default", shard: 0 };
  return openDirectories({ disk, random, ...names, storeId: "store", ...more });
}

async function put(disk: CrashDisk, path: string, text: string): Promise<void> {
  const file = await disk.open(path, { create: true });
  await file.write([new TextEncoder().encode(text)], 0);
  await file.sync();
  await disk.syncDir(path.slice(0, path.lastIndexOf("/")));
}

async function textOf(disk: CrashDisk, path: string): Promise<string | null> {
  const bytes = await disk.readFile(path);
  return bytes === null ? null : new TextDecoder().decode(bytes);
}

/** A replica u1 that voted and holds data on both volumes. */
async function withData(): Promise<CrashDisk> {
  const disk = new CrashDisk();
  const directories = await open(disk, counting());
  const meta = await ReplicaMetaStore.open(disk, WAL, directories.uid);
  await meta.update({ term: 3, member: true });
  await put(disk, `${WAL}/segment-0`, "old log");
  await put(disk, `${STATE}/CURRENT`, "old pointer");
  await disk.makeDir(`${STATE}/state-0`);
  await disk.syncDir(STATE);
  await put(disk, `${STATE}/state-0/data`, "old state");
  return disk;
}

async function wipe(disk: CrashDisk, ...dirs: string[]): Promise<CrashDisk> {
  for (const dir of dirs) {
    for (const name of await disk.list(dir)) await disk.remove(`${dir}/${name}`);
    await disk.syncDir(dir);
  }
  return disk;
}

async function damage(disk: CrashDisk, path: string): Promise<void> {
  const bytes = await disk.readFile(path);
  assert.ok(bytes);
  bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] as number) ^ 1;
  await put(disk, path, new TextDecoder().decode(bytes));
}

describe("shard directories", () => {
  it("formats empty directories once and then finds them", async () => {
    const disk = new CrashDisk();
    const first = await open(disk, counting());
    assert.equal(first.uid, "u1");
    assert.equal(first.formatted, "new");
    assert.equal(first.wipeReason, WipeReason.NEVER_FORMATTED);
    assert.equal(first.formattedBefore, false);
    assert.equal(first.setAsidePending, false);
    disk.reboot("nothing");
    const again = await open(disk, counting(9));
    assert.equal(again.uid, "u1");
    assert.equal(again.formatted, "existing");
    assert.equal(again.formattedBefore, false);
    assert.equal((await readCookie(disk, STATE))?.replicaUid, "u1");
  });

  it("counts a replica as formatted before once it was enrolled or voted (R11)", async () => {
    const disk = new CrashDisk();
    const directories = await open(disk, counting());
    const meta = await ReplicaMetaStore.open(disk, WAL, "u1");
    assert.equal(formattedBefore(directories, meta.current), false);
    await meta.update({ enrolled: { term: 0, leaderUid: "x" } });
    assert.equal(formattedBefore(directories, meta.current), true);
    await meta.update({ enrolled: null, member: true });
    assert.equal(formattedBefore(directories, meta.current), true);
  });

  const partial: readonly (readonly [string, (disk: CrashDisk) => Promise<unknown>, WipeReason])[] =
    [
      ["WAL volume empty", (disk) => wipe(disk, WAL), WipeReason.VOLUME_EMPTY],
      ["state volume empty", (disk) => wipe(disk, STATE), WipeReason.VOLUME_EMPTY],
      ["WAL cookie gone", (disk) => disk.remove(`${WAL}/${COOKIE_FILE}`), WipeReason.VOLUME_EMPTY],
      [
        "state cookie gone",
        (disk) => disk.remove(`${STATE}/${COOKIE_FILE}`),
        WipeReason.VOLUME_EMPTY,
      ],
      ["promises gone", (disk) => disk.remove(`${WAL}/${META_FILE}`), WipeReason.VOLUME_EMPTY],
      [
        "both cookies gone, files there",
        async (disk) => {
          await disk.remove(`${WAL}/${COOKIE_FILE}`);
          await disk.remove(`${STATE}/${COOKIE_FILE}`);
        },
        WipeReason.VOLUME_EMPTY,
      ],
      ["WAL cookie damaged", (disk) => damage(disk, `${WAL}/${COOKIE_FILE}`), WipeReason.CORRUPT],
      [
        "state cookie damaged",
        (disk) => damage(disk, `${STATE}/${COOKIE_FILE}`),
        WipeReason.CORRUPT,
      ],
      ["promises damaged", (disk) => damage(disk, `${WAL}/${META_FILE}`), WipeReason.CORRUPT],
      [
        "state volume of another replica",
        async (disk) => {
          const text = await textOf(disk, `${STATE}/${COOKIE_FILE}`);
          await disk.remove(`${STATE}/${COOKIE_FILE}`);
          const other = new CrashDisk();
          await open(other, counting(70));
          await put(
            disk,
            `${STATE}/${COOKIE_FILE}`,
            (await textOf(other, `${STATE}/${COOKIE_FILE}`)) ?? "",
          );
          assert.ok(text);
        },
        WipeReason.IDENTITY_MISMATCH,
      ],
    ];

  for (const [name, lose, reason] of partial) {
    it(`makes a new identity and keeps the old files until Enrol: ${name}`, async () => {
      const disk = await withData();
      await lose(disk);
      const state = await textOf(disk, `${STATE}/state-0/data`);
      const log = await textOf(disk, `${WAL}/segment-0`);
      const opened = await open(disk, counting(2));
      assert.equal(opened.uid, "u2");
      assert.equal(opened.wipeReason, reason);
      assert.equal(opened.formattedBefore, true);
      assert.equal((await readReplicaMeta(disk, WAL))?.member, false);
      assert.equal((await readReplicaMeta(disk, WAL))?.term, -1);
      assert.equal(await textOf(disk, `${STATE}/state-0/data`), state);
      assert.equal(await textOf(disk, `${WAL}/segment-0`), log);
      // A second start before Enrol.
      disk.reboot("nothing");
      const again = await open(disk, counting(50));
      assert.equal(again.uid, "u2");
      assert.equal(again.wipeReason, reason);
      assert.equal(again.setAsidePending, opened.setAsidePending);
      await again.setAsideOldFiles();
      assert.equal(again.setAsidePending, false);
      assert.equal(await textOf(disk, `${STATE}/state-0/data`), null);
      assert.equal(await textOf(disk, `${WAL}/segment-0`), null);
      assert.equal(await textOf(disk, `${STATE}/.replaced-u2/state-0/data`), state);
      assert.equal(await textOf(disk, `${WAL}/.replaced-u2/segment-0`), log);
      assert.equal((await again.setAsideBytes()) > 0, state !== null);
      await again.dropSetAside();
      const left = [...(await disk.list(WAL)), ...(await disk.list(STATE))];
      const files = left.filter((file) => file !== RESERVE_FILE);
      assert.deepEqual(files, [COOKIE_FILE, META_FILE, COOKIE_FILE]);
    });
  }

  it("gives what was set aside up for space only when that is needed and enough", async () => {
    const disk = await wipe(await withData(), WAL);
    const opened = await open(disk, counting(50));
    await opened.setAsideOldFiles();
    const aside = await opened.setAsideBytes();
    assert.ok(aside > 0);
    disk.free = 100;
    assert.equal(await opened.dropSetAsideFor(100), 0);
    assert.equal(await opened.dropSetAsideFor(101 + aside), 0);
    assert.equal(await opened.setAsideBytes(), aside);
    assert.equal(await opened.dropSetAsideFor(100 + aside), aside);
    assert.equal(await opened.setAsideBytes(), 0);
  });

  it("keeps the old cookies and promises beside the new ones", async () => {
    const disk = await wipe(await withData(), STATE);
    await open(disk, counting(2));
    const kept = await textOf(disk, `${WAL}/cookie.replaced-u2.json`);
    assert.match(kept ?? "", /"replicaUid":"u1"/);
    assert.match((await textOf(disk, `${WAL}/replica.replaced-u2.json`)) ?? "", /"term":3/);
  });

  it("gives up a whole identity when told to (R14)", async () => {
    const disk = await withData();
    const opened = await open(disk, counting(2), { replace: "CORRUPT" });
    assert.equal(opened.uid, "u2");
    assert.equal(opened.wipeReason, WipeReason.CORRUPT);
    assert.equal(opened.setAsidePending, true);
    assert.equal((await open(disk, counting(3))).uid, "u2");
  });

  it("does not go on with a format when the other volume was swapped meanwhile", async () => {
    const disk = new CrashDisk();
    await open(disk, counting());
    const master = await readMasterCookie(disk, WAL);
    assert.ok(master);
    await writeMasterCookie(disk, WAL, { ...master, phase: "FORMING" });
    const other = await readCookie(disk, STATE);
    assert.ok(other);
    await writeCookie(disk, STATE, { ...other, replicaUid: "u70" });
    const opened = await open(disk, counting(2));
    assert.equal(opened.uid, "u2");
    assert.equal(opened.wipeReason, WipeReason.IDENTITY_MISMATCH);
    assert.equal(opened.formattedBefore, true);
  });

  it("takes a second wipe before Enrol as another identity", async () => {
    const disk = await wipe(await withData(), STATE);
    await open(disk, counting(2));
    await wipe(disk, STATE);
    const opened = await open(disk, counting(3));
    assert.equal(opened.uid, "u3");
    await opened.setAsideOldFiles();
    assert.equal(await textOf(disk, `${WAL}/.replaced-u3/segment-0`), "old log");
  });

  it("refuses directories of another store, namespace or shard and touches nothing", async () => {
    for (const lost of [[], [WAL], [STATE]]) {
      const disk = await wipe(await withData(), ...lost);
      disk.operations = 0;
      await assert.rejects(open(disk, counting(2), { storeId: "other" }), (error: unknown) => {
        assert.ok(error instanceof ProtocolError);
        assert.equal(error.reason, "WRONG_STORE");
        assert.match(error.message, /storeId is store, allowed: other/);
        return true;
      });
      assert.equal(disk.operations, 0);
    }
    const disk = await withData();
    const text = (await textOf(disk, `${STATE}/${COOKIE_FILE}`)) ?? "";
    for (const shard of [0, 7]) {
      const namespace = shard === 0 ? "elsewhere" : "default";
      const to = `/data/state/${namespace}/${shard}`;
      await disk.makeDir(to);
      await put(disk, `${to}/${COOKIE_FILE}`, text);
      disk.operations = 0;
      await assert.rejects(open(disk, counting(2), { namespace, shard }), /WRONG_STORE|allowed/);
      assert.equal(disk.operations, 0);
    }
  });

  it("refuses when no readable cookie says whose damaged directories these are", async () => {
    const disk = await withData();
    await damage(disk, `${WAL}/${COOKIE_FILE}`);
    await disk.remove(`${STATE}/${COOKIE_FILE}`);
    disk.operations = 0;
    await assert.rejects(open(disk, counting(2)), GarbledFileError);
    assert.equal(disk.operations, 0);
  });

  it("names field, value and what is allowed for a bad name", async () => {
    const bad: readonly Partial<OpenDirectoriesOptions>[] = [
      { namespace: "../x" },
      { namespace: "" },
      { shard: -1 },
      { shard: 1.5 },
      { storeId: "" },
    ];
    for (const more of bad) {
      await assert.rejects(open(new CrashDisk(), counting(), more), (error: unknown) => {
        assert.ok(error instanceof ProtocolError);
        assert.equal(error.reason, "INVALID_ARGUMENT");
        assert.equal(error.metadata["field"], Object.keys(more)[0]);
        assert.ok(error.metadata["allowed"]);
        return true;
      });
    }
  });

  describe("crash at every disk operation", () => {
    it("of a first format: never formatted before, one uid", async () => {
      const count = await crashEverywhere(
        async () => {
          // The volumes themselves are there.
          const disk = new CrashDisk();
          for (const dir of ["/data/wal", "/data/state"]) await disk.makeDir(dir);
          disk.reboot("everything");
          return disk;
        },
        (disk) => open(disk, counting()),
        async (disk) => {
          const first = await open(disk, counting(20));
          assert.equal(first.wipeReason, WipeReason.NEVER_FORMATTED);
          assert.equal(first.formattedBefore, false);
          assert.equal(first.setAsidePending, false);
          disk.reboot("nothing");
          assert.equal((await open(disk, counting(30))).uid, first.uid);
        },
      );
      assert.ok(count > 15, `${count} operations`);
    });

    for (const lost of [WAL, STATE]) {
      it(`of a format after ${lost} was emptied: the old identity is gone or untouched`, async () => {
        await crashEverywhere(
          async () => wipe(await withData(), lost),
          (disk) => open(disk, counting(2)),
          async (disk) => {
            const opened = await open(disk, counting(20));
            assert.notEqual(opened.uid, "u1");
            assert.equal(opened.wipeReason, WipeReason.VOLUME_EMPTY);
            assert.equal(opened.formattedBefore, true);
            assert.equal(opened.setAsidePending, true);
            await checkWhole(disk, opened.uid);
            const kept = lost === WAL ? `${STATE}/state-0/data` : `${WAL}/segment-0`;
            assert.ok(await textOf(disk, kept));
            disk.reboot("nothing");
            assert.equal((await open(disk, counting(30))).uid, opened.uid);
          },
        );
      });
    }

    it("of giving up a whole identity: the old one whole, or a new one", async () => {
      await crashEverywhere(
        withData,
        (disk) => open(disk, counting(2), { replace: "CORRUPT" }),
        async (disk, point) => {
          const opened = await open(disk, counting(20));
          if (opened.uid === "u1") assert.equal(opened.setAsidePending, false, point);
          else assert.equal(opened.uid, "u2");
          await checkWhole(disk, opened.uid);
          assert.equal((await readReplicaMeta(disk, WAL))?.member, opened.uid === "u1");
          assert.equal(await textOf(disk, `${WAL}/segment-0`), "old log");
          assert.equal(await textOf(disk, `${STATE}/state-0/data`), "old state");
        },
      );
    });

    it("of the set-aside at Enrol: repeated to the end, nothing lost, nothing mixed", async () => {
      await crashEverywhere(
        async () => {
          const disk = await withData();
          await open(disk, counting(2), { replace: "REQUESTED" });
          return disk;
        },
        async (disk) => (await open(disk, counting(3))).setAsideOldFiles(),
        async (disk) => {
          const opened = await open(disk, counting(20));
          assert.equal(opened.uid, "u2");
          await opened.setAsideOldFiles();
          disk.reboot("nothing");
          const again = await open(disk, counting(30));
          assert.equal(again.uid, "u2");
          assert.equal(again.setAsidePending, false);
          assert.equal(await textOf(disk, `${WAL}/segment-0`), null);
          assert.equal(await textOf(disk, `${STATE}/CURRENT`), null);
          assert.equal(await textOf(disk, `${WAL}/.replaced-u2/segment-0`), "old log");
          assert.equal(await textOf(disk, `${STATE}/.replaced-u2/state-0/data`), "old state");
          assert.equal(await textOf(disk, `${STATE}/.replaced-u2/CURRENT`), "old pointer");
        },
      );
    });
  });
});

async function checkWhole(disk: CrashDisk, uid: string): Promise<void> {
  const master = await readMasterCookie(disk, WAL);
  assert.equal(master?.replicaUid, uid);
  assert.notEqual(master?.phase, "FORMING");
  assert.equal((await readCookie(disk, STATE))?.replicaUid, uid);
  assert.equal((await readReplicaMeta(disk, WAL))?.replicaUid, uid);
}

describe("data directories of a node", () => {
  it("belong to one process at a time", async () => {
    const disk = new CrashDisk();
    const lock = await lockDataDirectories(disk, "/data/wal", "/data/state");
    await assert.rejects(
      lockDataDirectories(disk, "/data/wal", "/data/state"),
      (error: unknown) => {
        assert.ok(error instanceof DirectoryInUseError);
        assert.match(error.message, /walDir is "\/data\/wal", which another process uses/);
        return true;
      },
    );
    await assert.rejects(lockDataDirectories(disk, "/data/w2", "/data/state"), /stateDir is/);
    await lock.release();
    await (await lockDataDirectories(disk, "/data/w2", "/data/state")).release();
  });

  it("must not be the same or one inside the other", async () => {
    for (const [wal, state] of [
      ["/d", "/d"],
      ["/d", "/d/s"],
      ["/d/w", "/d"],
    ] as const) {
      await assert.rejects(
        lockDataDirectories(new CrashDisk(), wal, state),
        /none inside the other/,
      );
    }
  });

  it("list the shards that at least one volume knows", async () => {
    const disk = new CrashDisk();
    await lockDataDirectories(disk, "/data/wal", "/data/state");
    for (const shard of [0, 1, 2]) await open(disk, counting(shard), { shard });
    await wipe(disk, "/data/wal/default/1", "/data/state/default/2");
    const known = await listShards(disk, "/data/wal", "/data/state");
    assert.deepEqual(
      known.map(({ storeId, namespace, shard }) => [storeId, namespace, shard]),
      [0, 1, 2].map((shard) => ["store", "default", shard]),
    );
  });

  it("forget a removed shard, also after a crash midway", async () => {
    const paths = shardPaths({
      walDir: "/data/wal",
      stateDir: "/data/state",
      namespace: "default",
      shard: 0,
    });
    await crashEverywhere(
      withData,
      (disk) => removeShard(disk, paths),
      async (disk) => {
        const opened = await open(disk, counting(20));
        // Either nothing had happened, or it is not the old identity any more.
        if (opened.uid === "u1") assert.equal(await textOf(disk, `${WAL}/segment-0`), "old log");
        await removeShard(disk, paths);
        assert.deepEqual(await listShards(disk, "/data/wal", "/data/state"), []);
      },
    );
  });
});
