import assert from "node:assert/strict";
import { dirname } from "node:path";
import { createNodeDisk } from "../../../sidecar/os/node-disk.ts";
import { ProtocolError } from "../../../sidecar/protocol/errors.ts";
import { ServingStatus } from "../../../sidecar/protocol/status.ts";
import type { NodeRuntime } from "../../../sidecar/runtime/ports.ts";
import { readReplicaMeta, writeReplicaMeta } from "../../../sidecar/runtime/replica-meta.ts";
import type { ReplicaOptions } from "../../../sidecar/runtime/replica-options.ts";
import { NAMESPACE, SHARD, STORE, TestCluster, TRIMMED } from "./cluster-fixture.ts";
import { HandCoordinator } from "./hand-coordinator.ts";

const MIB = 1024 * 1024;
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe("full volumes", function () {
  this.timeout(30_000);
  let cluster: TestCluster;
  let coordinator: HandCoordinator;

  async function start(options: Partial<ReplicaOptions> = {}): Promise<void> {
    cluster = await TestCluster.start(options);
    coordinator = new HandCoordinator(cluster);
    await coordinator.bootstrap("a");
    await cluster.write("a", "before", "1");
  }

  /** What the volumes of the states of these nodes have free; all else has plenty. */
  function stateRoom(freeBytes: number | null, ...names: readonly string[]): void {
    cluster.volumes.freeBytes = (path) =>
      names.some((name) => path.includes(`/${name}/state/`)) ? freeBytes : null;
  }

  /** Writes until one is refused for want of space; returns why. */
  async function writeUntilRefused(): Promise<string> {
    const giveUp = AbortSignal.timeout(10_000);
    for (let n = 0; !giveUp.aborted; n += 1) {
      try {
        await cluster.write("a", `fill-${n}`, "x");
      } catch (error) {
        assert.ok(error instanceof ProtocolError);
        assert.equal(error.reason, "NO_SPACE");
        return error.message;
      }
    }
    return assert.fail("every write was taken");
  }

  async function assertGoesOn(): Promise<void> {
    await cluster.until("writes are taken again", () => cluster.status("a").noSpace === false);
    const giveUp = AbortSignal.timeout(10_000);
    for (;;) {
      try {
        await cluster.write("a", "after", "2");
        break;
      } catch (error) {
        if (giveUp.aborted || (error as { reason?: unknown }).reason !== "NO_SPACE") throw error;
        // A refusal takes no time, and the keeper needs some.
        await turn();
      }
    }
    assert.equal(await cluster.read("a", "before"), "1");
    assert.equal(await cluster.read("a", "after"), "2");
    await cluster.assertEqualStates("a");
  }

  afterEach(async () => {
    cluster.volumes.freeBytes = () => null;
    await cluster.close();
  });

  it("a leader refuses writes while the volume of its state is nearly full, and serves reads", async () => {
    await start({ clientStateFreeBytesMin: 64 * MIB, stateFreeBytesMin: 32 * MIB });
    stateRoom(48 * MIB, "a");
    assert.match(
      await writeUntilRefused(),
      /^the volume of \S+\/a\/state\/default\/0 has \d+ bytes free, writes need >= 67108864$/u,
    );
    assert.equal(cluster.status("a").noSpace, false);
    assert.equal(await cluster.read("a", "before"), "1");
    stateRoom(null);
    await assertGoesOn();
  });

  it("followers put entries off while the volumes of their states are full", async () => {
    await start({ clientStateFreeBytesMin: 64 * MIB, stateFreeBytesMin: 32 * MIB });
    stateRoom(0, "b", "c");
    let refusal = "";
    const writes: Promise<void>[] = [];
    // One that is taken just before the last of them is full is answered when there is room.
    await cluster.until("a write is refused", () => {
      const write = cluster.write("a", `fill-${writes.length}`, "x");
      writes.push(
        write.catch((error: unknown) => {
          assert.ok(error instanceof ProtocolError);
          assert.equal(error.reason, "NO_SPACE");
          refusal = error.message;
        }),
      );
      return refusal !== "";
    });
    assert.match(refusal, /too few replicas have room on their volumes/u);
    assert.ok(cluster.status("b").noSpace || cluster.status("c").noSpace);
    assert.equal(await cluster.read("a", "before"), "1");
    stateRoom(null);
    await Promise.all(writes);
    await assertGoesOn();
  });

  it("a leader whose checkpoint finds no space refuses writes, and goes on when there is some", async () => {
    await start();
    // Less than the engine asks for, though no limit says so.
    stateRoom(MIB, "a");
    assert.match(
      await writeUntilRefused(),
      /a\/state\/default\/0 has \d+ bytes free, writes need enough for a checkpoint \(the engine needs/u,
    );
    assert.equal(cluster.status("a").noSpace, true);
    assert.equal(await cluster.read("a", "before"), "1");
    stateRoom(null);
    await assertGoesOn();
  });

  it("closes though its last checkpoint finds no space, and replays the log", async () => {
    await start({ checkpointIntervalMs: 3_600_000 });
    stateRoom(0, "b");
    await cluster.stop("b");
    stateRoom(null);
    await cluster.open("b");
    await coordinator.attach("b");
    await cluster.assertEqualStates("a");
  });

  describe("at a restart", () => {
    const KEY = `${NAMESPACE}/${SHARD}`;

    /** Neither a promise nor anything else of this shard's log finds space on node b. */
    function fillLogOf(shard: string): void {
      cluster.volumes.full = (path) => path.includes(`/b/wal/${shard}/`);
    }

    afterEach(() => {
      cluster.volumes.full = () => false;
    });

    it("a shard without room to be opened says so, the others serve, and it is opened later", async () => {
      await start();
      const node = (): NodeRuntime => cluster.node("b");
      await node().openShard({
        namespace: NAMESPACE,
        shard: 1,
        storeId: STORE,
        options: undefined,
      });
      const { replicaUid, bootCounter, term } = cluster.status("b");
      await cluster.stop("b");
      fillLogOf(KEY);
      await cluster.open("b");

      const waiting = cluster.status("b");
      assert.match(waiting.fault, /^its volume has no room to open it, .*: no space$/u);
      assert.equal(waiting.noSpace, true);
      assert.deepEqual(
        [waiting.replicaUid, waiting.term, waiting.status],
        [replicaUid, term, ServingStatus.FENCED],
      );
      assert.equal(node().replica(NAMESPACE, 1).status().fault, "");
      await assert.rejects(coordinator.newTerm("b"), { reason: "RESOURCE_UNAVAILABLE" });
      await cluster.write("a", "meanwhile", "1");

      cluster.volumes.full = () => false;
      await cluster.until("it is opened", () => cluster.status("b").fault === "");
      assert.ok(cluster.status("b").bootCounter > bootCounter);
      await coordinator.attach("b");
      await cluster.assertEqualStates("a");
    });

    it("a shard that waits for room can be deleted, and a node that waits can be stopped", async () => {
      await start();
      await cluster.stop("b");
      fillLogOf(KEY);
      await cluster.open("b");
      const { term } = cluster.status("b");
      await cluster.stop("b");
      await cluster.open("b");
      await cluster.node("b").deleteShard(NAMESPACE, SHARD, term, STORE);
      assert.deepEqual(cluster.node("b").status().replicas, []);
      cluster.volumes.full = () => false;
      await cluster.stop("b");
      await cluster.open("b");
      assert.deepEqual(cluster.node("b").status().replicas, []);
    });
  });

  describe("at a restart with an identity that is lost", () => {
    afterEach(() => {
      cluster.volumes.full = () => false;
    });

    it("nobody is taken for whole whose state is gone, while the log has no room", async () => {
      await start();
      const { replicaUid } = cluster.status("b");
      await cluster.stop("b");
      await cluster.wipe("b", ["state"]);
      cluster.volumes.full = (path) => path.includes("/b/wal/");
      await cluster.open("b");
      assert.deepEqual(cluster.node("b").status().replicas, []);
      cluster.volumes.full = () => false;
      await cluster.until("it is opened", () => cluster.node("b").replicas().length > 0);
      assert.notEqual(cluster.status("b").replicaUid, replicaUid);
    });

    it("nor one whose damage was noted", async () => {
      await start();
      const { replicaUid } = cluster.status("b");
      await cluster.stop("b");
      const dir = dirname(cluster.logDir("b"));
      const meta = await readReplicaMeta(createNodeDisk(), dir);
      assert.ok(meta !== null);
      await writeReplicaMeta(createNodeDisk(), dir, { ...meta, fault: "a bad record" });
      cluster.volumes.full = (path) => path.includes("/b/wal/");
      await cluster.open("b");
      assert.deepEqual(cluster.node("b").status().replicas, []);
      cluster.volumes.full = () => false;
      await cluster.until("it is opened", () => cluster.node("b").replicas().length > 0);
      assert.notEqual(cluster.status("b").replicaUid, replicaUid);
    });

    it("a shard without room for a new one can be deleted, and does not come back", async () => {
      await start();
      await cluster.stop("b");
      await cluster.wipe("b", ["wal"]);
      cluster.volumes.full = (path) => path.includes("/b/wal/");
      await cluster.open("b");
      assert.deepEqual(cluster.node("b").status().replicas, []);
      await cluster.node("b").deleteShard(NAMESPACE, SHARD, coordinator.term, STORE);
      assert.equal(await cluster.holdsFiles("b"), false);
      cluster.volumes.full = () => false;
      await cluster.stop("b");
      await cluster.open("b");
      assert.deepEqual(cluster.node("b").status().replicas, []);
    });
  });

  describe("at an enrolment", () => {
    let tries = 0;

    /** c loses these, and finds no space to open a state in. */
    async function wipeAndFill(...what: readonly ("wal" | "state")[]): Promise<void> {
      await start();
      await cluster.stop("c");
      await cluster.wipe("c", what);
      await cluster.open("c");
      // Not told the order of keys, it opens nothing yet.
      const shard = { namespace: NAMESPACE, shard: SHARD, storeId: STORE, options: undefined };
      await cluster.node("c").openShard(shard);
      await coordinator.openShard("c");
      tries = 0;
      cluster.volumes.full = (path) => {
        const full = path.includes("/c/state/");
        if (full) tries += 1;
        return full;
      };
    }

    afterEach(() => {
      cluster.volumes.full = () => false;
      delete cluster.meddling.disk;
    });

    it("a new identity is refused, and taken once there is room", async () => {
      await wipeAndFill("wal", "state");
      await assert.rejects(coordinator.enrol("c"), { code: "NO_SPACE" });
      await assert.rejects(coordinator.enrol("c"), { code: "NO_SPACE" });
      cluster.volumes.full = () => false;
      await coordinator.enrol("c");
      await coordinator.promote("c");
      await cluster.assertEqualStates("a");
    });

    it("one that sets old files aside waits for room, and its process goes on", async () => {
      await wipeAndFill("wal");
      const enrolled = coordinator.enrol("c");
      await cluster.until("it found no space twice", () => tries > 1);
      cluster.volumes.full = () => false;
      await enrolled;
      await coordinator.promote("c");
      await cluster.assertEqualStates("a");
    });

    it("orders that wait for room are not kept when who gave them has gone", async () => {
      await wipeAndFill("wal");
      const first = coordinator.enrol("c");
      await cluster.until("it found no space twice", () => tries > 1);
      let saves = 0;
      cluster.meddling.disk = (act, path) => {
        if (act === "open" && path.includes("c/wal/") && path.endsWith("replica.json.new"))
          saves += 1;
      };
      for (let n = 0; n < 20; n += 1) {
        const caller = new AbortController();
        coordinator.signal = caller.signal;
        const again = coordinator.enrolAgain("c");
        caller.abort(new Error("the caller has gone"));
        await assert.rejects(again, /the caller has gone/u);
      }
      coordinator.signal = new AbortController().signal;
      const last = coordinator.enrolAgain("c");
      cluster.volumes.full = () => false;
      await Promise.all([first, last]);
      assert.equal(saves, 1);
      await coordinator.promote("c");
      await cluster.assertEqualStates("a");
    });

    it("the room for a snapshot is measured while old files lie there, too", async () => {
      const roomOf = (): number => cluster.status("c").roomBytes;
      await wipeAndFill("wal");
      cluster.volumes.freeBytes = (path) => (path.includes("/c/state/") ? 0 : null);
      await cluster.until("none is left", () => roomOf() < MIB);
      cluster.volumes.freeBytes = (path) => (path.includes("/c/state/") ? 1024 * MIB : null);
      await cluster.until("the volume has grown", () => roomOf() > 512 * MIB);
    });

    it("its log is opened once, whoever is first when there is room", async () => {
      await wipeAndFill("wal");
      const first = coordinator.enrol("c");
      await cluster.until("it found no space twice", () => tries > 1);
      const opened: string[] = [];
      cluster.meddling.disk = (act, path) => {
        if (act === "open" && /^c\/wal\/.*\/log\/marks$/u.test(path)) opened.push(path);
      };
      cluster.volumes.full = () => false;
      await Promise.all([first, coordinator.enrol("c")]);
      assert.equal(opened.length, 1);
      await coordinator.promote("c");
      await cluster.assertEqualStates("a");
    });

    it("a shard that is deleted while it is opened leaves nothing", async () => {
      await wipeAndFill("wal", "state");
      cluster.volumes.full = () => false;
      let goOn = (): void => {};
      let isHeld = false;
      const held = new Promise<void>((resolve) => {
        goOn = resolve;
      });
      cluster.meddling.disk = (act, path) => {
        if (act !== "syncDir" || path !== `c/state/${NAMESPACE}/${SHARD}`) return undefined;
        isHeld = true;
        return held;
      };
      const enrolled = coordinator.enrol("c").catch((error: unknown) => error);
      await cluster.until("it is being opened", () => isHeld);
      let isDeleted = false;
      const deleted = cluster
        .node("c")
        .deleteShard(NAMESPACE, SHARD, coordinator.term, STORE)
        .then(() => {
          isDeleted = true;
        });
      for (let n = 0; n < 1_000 && !isDeleted; n += 1) await turn();
      goOn();
      await deleted;
      assert.ok((await enrolled) instanceof ProtocolError);
      assert.equal(await cluster.holdsFiles("c"), false);
    });
  });

  describe("the log, and a transfer", () => {
    /** A transfer to c that stalls; returns an offset at or above its snapshot's. */
    async function stallTransfer(): Promise<number> {
      await start(TRIMMED);
      await cluster.writeToCheckpoint("a", "before");
      await cluster.stop("c");
      await cluster.wipe("c", ["wal", "state"]);
      await cluster.open("c");
      await coordinator.openShard("c");
      let chunks = 0;
      cluster.meddling.chunk = (_to, chunk) => (chunks++ < 3 ? [chunk] : []);
      await coordinator.enrol("c");
      await cluster.until("the transfer stalls", () => chunks > 3);
      return cluster.status("a").durableOffset;
    }

    /** What was swallowed on the way is not sent again: c's streams are made anew. */
    async function assertRebuilt(): Promise<void> {
      cluster.meddling.chunk = (_to, chunk) => [chunk];
      await cluster.stop("c");
      await cluster.open("c");
      await coordinator.promote("c");
      await cluster.assertEqualStates("a");
    }

    afterEach(() => {
      cluster.meddling.chunk = undefined as never;
    });

    it("a learner that was short of room takes entries again when the snapshot made it", async () => {
      await start({ ...TRIMMED, freeBytesMin: 1 });
      await cluster.writeToCheckpoint("a", "before");
      await cluster.stop("c");
      await cluster.wipe("c", ["wal", "state"]);
      await cluster.open("c");
      await coordinator.openShard("c");
      cluster.volumes.freeBytes = (path) => (path.includes("/c/wal/") ? 0 : null);
      cluster.meddling.disk = (act, path) => {
        if (act === "open" && /^c\/state\/.*\/staging-/u.test(path)) {
          return cluster.until("c is short of room", () => cluster.status("c").noSpace);
        }
        // The pointer's rename commits the snapshot, which empties the log.
        if (act !== "rename" || !/^c\/state\/.*\/CURRENT$/u.test(path)) return undefined;
        delete cluster.meddling.disk;
        cluster.volumes.freeBytes = () => null;
        return undefined;
      };
      await coordinator.enrol("c");
      await cluster.until("c has room", () => {
        const { noSpace, recovery } = cluster.status("c");
        return (recovery?.installedMs ?? 0) > 0 && !noSpace;
      });
      assert.equal(cluster.meddling.disk, undefined);
      await coordinator.promote("c");
      await assertGoesOn();
    });

    it("is told of what failed no longer than until it votes", async () => {
      await start(TRIMMED);
      await cluster.writeToCheckpoint("a", "before");
      await cluster.stop("c");
      await cluster.wipe("c", ["wal", "state"]);
      await cluster.open("c");
      await coordinator.openShard("c");
      const errors = (): readonly string[] => cluster.status("c").recovery?.lastErrors ?? [];
      cluster.volumes.full = (path) => /\/c\/state\/.*\/staging-/u.test(path);
      await coordinator.enrol("c");
      await cluster.until("it fails", () => errors().length > 0);
      cluster.volumes.full = () => false;
      await coordinator.promote("c");
      await cluster.until("c votes", () => cluster.status("c").votes && errors().length === 0);
    });

    it("is kept for it while the stream is down, too", async () => {
      const pinned = await stallTransfer();
      await cluster.stop("c");
      await cluster.writeToCheckpoint("a", "meanwhile");
      const { logFirstOffset } = cluster.status("a");
      assert.ok(logFirstOffset <= pinned + 1, `the log begins at ${logFirstOffset}, pin ${pinned}`);
      await cluster.open("c");
      await assertRebuilt();
    });

    it("goes before clients are refused for it, and the transfer begins anew", async () => {
      const pinned = await stallTransfer();
      await cluster.writeToCheckpoint("a", "meanwhile");
      const { logFirstOffset } = cluster.status("a");
      assert.ok(logFirstOffset <= pinned + 1, `the log begins at ${logFirstOffset}, pin ${pinned}`);
      cluster.volumes.freeBytes = (path) => (path.includes("/a/wal/") ? 4095 : null);
      await cluster.until("the log goes", () => cluster.status("a").logFirstOffset > pinned + 1);
      const follower = cluster.status("a").followers.find(({ node }) => node === "c");
      assert.match(
        follower?.lastError ?? "",
        /^dropped for the log that is kept for it: the volume of \S+ has \d+ bytes free of 4096$/u,
      );
      await cluster.write("a", "still", "taken");
      cluster.volumes.freeBytes = () => null;
      await assertRebuilt();
    });
  });
});
