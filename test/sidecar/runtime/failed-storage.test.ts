import assert from "node:assert/strict";
import { DiskError } from "../../../sidecar/lib/ports/disk.ts";
import type { DiskAct } from "../../support/meddled-disk.ts";
import { NAMESPACE, SHARD, STORE, TestCluster } from "./cluster-fixture.ts";
import { HandCoordinator } from "./hand-coordinator.ts";

/** More keys than one slice of a checkpoint holds, so that it needs its journal. */
const KEYS = 1_100;

describe("a disk that fails under a cluster", function () {
  this.timeout(30_000);
  let cluster: TestCluster;
  let coordinator: HandCoordinator;

  beforeEach(async () => {
    // No checkpoint of its own accord.
    cluster = await TestCluster.start({ checkpointIntervalMs: 1_000_000 });
    coordinator = new HandCoordinator(cluster);
    await coordinator.bootstrap("a");
  });

  afterEach(async () => {
    delete cluster.meddling.disk;
    await cluster.close();
  });

  /** Fails what matches, each time. */
  function fail(act: DiskAct, path: RegExp, error: { fatal: boolean; code?: "NO_SPACE" }): void {
    cluster.meddling.disk = (now, at) => {
      if (now !== act || !path.test(at)) return;
      throw new DiskError(error.code ?? "IO", at, `${act} fails`, { fatal: error.fatal });
    };
  }

  /** Waits for the error that ends a node. */
  async function fatal(): Promise<Error> {
    await cluster.until("a node ends", () => cluster.fatal.length > 0).catch(() => undefined);
    const [error] = cluster.fatal.splice(0);
    assert(error !== undefined, "no node ended");
    return error;
  }

  it("ends a leader whose sync failed in the checkpoint that a snapshot wants (R14)", async () => {
    await Promise.all(Array.from({ length: KEYS }, (_, at) => cluster.write("a", `k${at}`, "v")));
    await cluster.stop("c");
    await cluster.wipe("c", ["wal", "state"]);
    await cluster.open("c");
    await coordinator.openShard("c");
    fail("sync", /^a\/state\/.*\/redo$/u, { fatal: true });
    await coordinator.enrol("c");
    assert.match((await fatal()).message, /sync fails/u);
    // Nor does a second attempt, which would find nothing to write, make it good.
    delete cluster.meddling.disk;
    await assert.rejects(cluster.stop("a"), /sync fails/u);
  });

  it("ends a replica that could not save what an order says of its shard (R14)", async () => {
    await cluster.stop("c");
    await cluster.wipe("c", ["wal", "state"]);
    await cluster.open("c");
    const shard = { namespace: NAMESPACE, shard: SHARD, storeId: STORE, options: undefined };
    await cluster.node("c").openShard(shard);
    fail("sync", /^c\/wal\/.*\/replica\.json/u, { fatal: true });
    await assert.rejects(coordinator.enrol("c"), { message: "sync fails" });
    assert.match((await fatal()).message, /sync fails/u);
  });

  describe("deleting a shard", () => {
    // What it writes once it hears that it votes is out of the way.
    beforeEach(() =>
      cluster.until("c votes", () => {
        const { votes, wipeReason } = cluster.status("c");
        return votes && wipeReason === 0;
      }),
    );

    const remove = (term = coordinator.term): Promise<void> =>
      cluster.node("c").deleteShard(NAMESPACE, SHARD, term, STORE);

    async function assertGone(): Promise<void> {
      assert.equal(await cluster.holdsFiles("c"), false);
      assert.throws(() => cluster.replica("c"), { reason: "SHARD_NOT_FOUND" });
    }

    it("needs no room on the volume of its state", async () => {
      await cluster.write("a", "k", "v");
      await cluster.until("it is applied", () => cluster.status("c").commitOffset >= 1);
      fail("freeBytes", /^c\/state/u, { fatal: false, code: "NO_SPACE" });
      await remove();
      await assertGone();
    });

    it("needs no room on the volume of its log either", async () => {
      fail("write", /^c\/wal/u, { fatal: false, code: "NO_SPACE" });
      const writing = cluster.write("a", "k", "v");
      await cluster.until("it is appended", () => cluster.status("c").head?.offset === 1);
      await remove();
      await assertGone();
      await writing;
    });

    for (const [act, path] of [
      ["remove", /^c\/wal\/.*\/cookie\.json$/u],
      ["syncDir", /^c\/wal\/default\/0$/u],
      ["remove", /^c\/state\/default\/0$/u],
      ["syncDir", /^c\/state\/default$/u],
    ] as const) {
      it(`is not done before the files are gone: ${act} of ${path.source} fails`, async () => {
        fail(act, path, { fatal: false });
        const failed = { message: `${act} fails` };
        await assert.rejects(remove(), failed);
        // Neither tried again nor opened.
        await assert.rejects(remove(), failed);
        await assert.rejects(coordinator.openShard("c"), failed);
        await assert.rejects(remove(coordinator.term - 1), { reason: "INVALID_TERM" });
        delete cluster.meddling.disk;
        const synced: string[] = [];
        cluster.meddling.disk = (now, at) => void (now === "syncDir" && synced.push(at));
        await remove();
        await assertGone();
        assert.ok(synced.includes("c/wal/default") && synced.includes("c/state/default"));
        await remove();
      });
    }

    it("ends the process when a sync fails while it closes (R14)", async () => {
      let failSync = (): void => {};
      const failed = new Promise<void>((_, reject) => {
        failSync = () => reject(new DiskError("IO", "c/wal", "sync fails", { fatal: true }));
      });
      let syncing = false;
      cluster.meddling.disk = (act, at) => {
        if (act !== "sync" || !at.startsWith("c/wal")) return undefined;
        syncing = true;
        return failed;
      };
      const writing = cluster.write("a", "k", "v");
      await cluster.until("the log is being synced", () => syncing);
      const removing = remove().catch(() => undefined);
      failSync();
      assert.match((await fatal()).message, /sync fails/u);
      await removing;
      await writing;
    });

    it("deletes one that is only being opened", async () => {
      const node = cluster.node("c");
      const options = { namespace: NAMESPACE, shard: 7, storeId: STORE, options: undefined };
      const begun = new Promise<void>((resolve) => {
        cluster.meddling.disk = (_act, at) => {
          if (at.startsWith("c/wal/default/7")) resolve();
        };
      });
      const opened = node.openShard(options);
      await begun;
      await node.deleteShard(NAMESPACE, 7, 0, STORE);
      await opened;
      assert.throws(() => node.replica(NAMESPACE, 7), { reason: "SHARD_NOT_FOUND" });
    });
  });

  it("closes in order without room for a last checkpoint", async () => {
    await cluster.write("a", "k", "v");
    await cluster.until("it is applied", () => cluster.status("c").commitOffset >= 1);
    fail("freeBytes", /^c\/state/u, { fatal: false, code: "NO_SPACE" });
    await cluster.stop("c");
    delete cluster.meddling.disk;
    await cluster.open("c");
    assert.equal(cluster.status("c").head?.offset, 1);
  });
});
