import assert from "node:assert/strict";
import { LIMITS } from "../../../sidecar/limits.ts";
import { ProtocolError } from "../../../sidecar/protocol/errors.ts";
import {
  ListRequest,
  PutRequest,
  WriteRequest,
} from "../../../sidecar/protocol/gen/oxia-client.ts";
import { KeySortingType } from "../../../sidecar/protocol/gen/resilver.ts";
import { ServingStatus } from "../../../sidecar/protocol/status.ts";
import type { ReplicaOptions } from "../../../sidecar/runtime/replica-options.ts";
import { TestCluster } from "./cluster-fixture.ts";
import { HandCoordinator } from "./hand-coordinator.ts";

/** Logs in segments that are trimmed as soon as a checkpoint covers them. */
const TRIMMED: Partial<ReplicaOptions> = {
  segmentBytes: 4096,
  walRetentionMs: 0,
  walRetentionBytes: 0,
};

const LIST_ALL = ListRequest.create({ shard: 0, includeInternalKeys: false });

describe("cluster of three nodes", function () {
  this.timeout(30_000);
  let cluster: TestCluster;
  let coordinator: HandCoordinator;

  async function start(options: Partial<ReplicaOptions> = {}): Promise<void> {
    cluster = await TestCluster.start(options);
    coordinator = new HandCoordinator(cluster);
    await coordinator.bootstrap("a");
  }

  async function writeMany(count: number, prefix = "key"): Promise<void> {
    const all: Promise<void>[] = [];
    for (let i = 0; i < count; i += 1) {
      all.push(cluster.write(coordinator.leader, `${prefix}-${i}`, `value-${i}`.padEnd(64, "x")));
    }
    await Promise.all(all);
  }

  async function assertReadable(count: number, prefix = "key"): Promise<void> {
    for (let i = 0; i < count; i += 1) {
      const found = await cluster.read(coordinator.leader, `${prefix}-${i}`);
      assert.equal(found, `value-${i}`.padEnd(64, "x"), `${prefix}-${i}`);
    }
  }

  async function wipeAndReopen(name: string, what: readonly ("wal" | "state")[]): Promise<string> {
    await cluster.stop(name);
    await cluster.wipe(name, what);
    await cluster.open(name);
    return coordinator.openShard(name);
  }

  function follower(name: string): { readonly state: string; readonly observedUid: string } {
    const { followers } = cluster.status(coordinator.leader);
    const found = followers.find((one) => one.node === name);
    assert(found !== undefined);
    return found;
  }

  afterEach(async () => {
    cluster.meddling.append = undefined as never;
    cluster.meddling.chunk = undefined as never;
    await cluster.close();
  });

  it("starts, writes and reads", async () => {
    await start();
    await writeMany(20);
    await assertReadable(20);
    assert.equal(await cluster.read("a", "none"), null);
    await cluster.assertEqualStates("a");
    await assert.rejects(cluster.write("b", "k", "v"), { reason: "NODE_IS_NOT_LEADER" });
    await assert.rejects(cluster.read("b", "key-0"), { reason: "NODE_IS_NOT_LEADER" });
  });

  it("keeps nothing of readers that have gone while no majority answers", async () => {
    await start();
    const atOnce = 20_000;
    for (const name of ["b", "c"]) await cluster.stop(name);
    for (let sent = 0; sent <= LIMITS.pendingReadsMax; sent += atOnce) {
      const clients = Array.from({ length: atOnce }, () => new AbortController());
      const reads = clients.map(({ signal }) =>
        cluster
          .replica("a")
          .readBarrier(signal)
          .then(() => "read", String),
      );
      for (const client of clients) client.abort(new Error("the client has gone"));
      const answers = new Set(await Promise.all(reads));
      assert.deepEqual([...answers], ["Error: the client has gone"]);
    }
    for (const name of ["b", "c"]) await cluster.open(name);
    await cluster.read("a", "none");
  });

  for (const what of [["wal"], ["state"], ["wal", "state"]] as const) {
    it(`rebuilds a wiped ${what.join(" and ")} in the order of its shard's keys`, async () => {
      cluster = await TestCluster.start();
      coordinator = new HandCoordinator(cluster);
      coordinator.keySorting = KeySortingType.NATURAL;
      await coordinator.bootstrap("a");
      // By parts between slashes b would come first; by bytes it does not.
      for (const key of ["a/b/c", "b", "a/z"]) await cluster.write("a", key, "v");
      await cluster.stop("c");
      await cluster.wipe("c", what);
      // Its process finds the shard by itself, if anything is left of it.
      await cluster.open("c");
      if (cluster.node("c").replicas().length === 0) await coordinator.openShard("c");
      await coordinator.enrol("c");
      await coordinator.promote("c");
      const [all] = cluster.replica("c").list({ ...LIST_ALL });
      assert.deepEqual(all, ["a/b/c", "a/z", "b"]);
      const request = WriteRequest.create({
        shard: 0,
        deleteRanges: [{ startInclusive: "a", endExclusive: "b" }],
      });
      await cluster.replica("a").write(request, WriteRequest.encode(request).finish());
      await cluster.assertEqualStates("a");
      await cluster.stop("c");
      await cluster.open("c");
      await coordinator.attach("c");
      await cluster.assertEqualStates("a");
    });
  }

  it("refuses an order of keys that is not that of what is stored", async () => {
    await start();
    coordinator.keySorting = KeySortingType.NATURAL;
    await assert.rejects(coordinator.newTerm("c"), {
      reason: "INVALID_ARGUMENT",
      message: "options.key_sorting is NATURAL, allowed: HIERARCHICAL",
    });
  });

  it("applies a long delete range in turns, in order with what comes behind it", async () => {
    await start();
    const puts = Array.from({ length: 5_000 }, (_, n) => ({
      key: `k${n}`,
      value: Buffer.from("v"),
    }));
    const send = (request: Partial<WriteRequest>): Promise<unknown> => {
      const whole = WriteRequest.create({ shard: 0, ...request });
      return cluster.replica("a").write(whole, WriteRequest.encode(whole).finish());
    };
    await send({ puts: puts.map((put) => PutRequest.create(put)) });
    const order: string[] = [];
    await Promise.all([
      send({ deleteRanges: [{ startInclusive: "k", endExclusive: "l" }] }).then(() =>
        order.push("range"),
      ),
      cluster.write("a", "k7", "later").then(() => order.push("write")),
    ]);
    assert.deepEqual(order, ["range", "write"]);
    assert.deepEqual(
      [await cluster.read("a", "k7"), await cluster.read("a", "k8")],
      ["later", null],
    );
    await cluster.assertEqualStates("a");
  });

  it("goes on with one voter away, and feeds it when it comes back", async () => {
    await start();
    await cluster.stop("a");
    // The first name of the ensemble is away: the new leader must not take itself for it.
    await coordinator.elect("b", ["b", "c"]);
    await writeMany(20);
    await cluster.open("a");
    await coordinator.attach("a");
    await cluster.stop("c");
    await writeMany(20, "later");
    await assertReadable(20, "later");
    await cluster.assertEqualStates("b");
  });

  it("calls a shard gone, or opens it anew, only when its files are removed", async () => {
    await start();
    const node = cluster.node("c");
    const replica = cluster.replica("c");
    const { namespace, shard, storeId, term, replicaUid } = replica.status();
    const first = node.deleteShard(namespace, shard, term, storeId);
    const order: string[] = [];
    const again = node.deleteShard(namespace, shard, term, storeId).then(() => order.push("gone"));
    const opened = node.openShard({ namespace, shard, storeId, options: undefined });
    await first.then(() => order.unshift("removed"));
    await again;
    assert.deepEqual(order, ["removed", "gone"]);
    assert.notEqual((await opened).replicaUid, replicaUid);
    assert.equal((await opened).formattedBefore, false);
    // Who still holds the old replica is refused, not left waiting.
    await assert.rejects(replica.readBarrier(new AbortController().signal), {
      reason: "RESOURCE_UNAVAILABLE",
    });
  });

  it("keeps a shard that is to go by an older record than it has heard of (R18)", async () => {
    await start();
    const node = cluster.node("c");
    const { namespace, shard, storeId, term, replicaUid, generation } = cluster
      .replica("c")
      .status();
    assert.ok(generation > 1);
    await assert.rejects(node.deleteShard(namespace, shard, term, storeId, generation - 1), {
      reason: "STALE_GENERATION",
    });
    assert.equal(cluster.replica("c").status().replicaUid, replicaUid);
    await node.deleteShard(namespace, shard, term, storeId, generation);
    assert.deepEqual(node.replicas(), []);
  });

  it("a restarted leader needs a new term (R7)", async () => {
    await start();
    await writeMany(10);
    await cluster.stop("a");
    await cluster.open("a");
    assert.equal(cluster.status("a").status, ServingStatus.FENCED);
    await assert.rejects(
      coordinator.becomeLeader("a", new Map([["a", { bootCounter: 1 } as never]])),
      (error) => error instanceof ProtocolError && error.reason === "INVALID_STATUS",
    );
    await coordinator.elect("a");
    await assertReadable(10);
    await writeMany(10, "later");
    await cluster.assertEqualStates("a");
  });

  it("fencing drains: the head reported is all that was appended, and durable (R8)", async () => {
    await start();
    const writes = Array.from({ length: 200 }, (_, i) =>
      cluster.write("a", `k-${i}`, "v").then(
        () => true,
        () => false,
      ),
    );
    await cluster.until("some entries arrive", () => (cluster.status("b").head?.offset ?? 0) > 20);
    coordinator.term += 1;
    const reply = await coordinator.newTerm("b");
    const head = cluster.status("b").head;
    assert.deepEqual(reply.headEntryId, { term: head?.term, offset: head?.offset });
    assert.equal(reply.headCrc, head?.crc);
    await cluster.stop("b");
    await cluster.open("b");
    assert.deepEqual(cluster.status("b").head, head);
    const replies = new Map([["b", await coordinator.newTerm("b")]]);
    for (const name of ["a", "c"]) replies.set(name, await coordinator.newTerm(name));
    await coordinator.becomeLeader("a", replies);
    const acknowledged = await Promise.all(writes);
    for (const [i, done] of acknowledged.entries()) {
      if (done) assert.equal(await cluster.read("a", `k-${i}`), "v");
    }
    await cluster.assertEqualStates("a");
  });

  describe("Follower: snapshot recovery from NOT_MEMBER", () => {
    for (const [log, options, entries] of [
      ["from 0, short", {}, 10],
      ["from 0, long", {}, 300],
      ["trimmed", TRIMMED, 300],
    ] as const) {
      for (const what of [["wal", "state"], ["wal"], ["state"]] as const) {
        it(`log ${log}, lost ${what.join(" and ")}, quiet`, async () => {
          await start(options);
          await writeMany(entries);
          if (options === TRIMMED) await untilTrimmed();
          const old = coordinator.uid("c");
          const uid = await wipeAndReopen("c", what);
          assert.notEqual(uid, old);
          assert.equal(cluster.status("c").status, ServingStatus.NOT_MEMBER);
          await cluster.until(
            "the leader meets the new uid",
            () => follower("c").observedUid === uid,
          );
          assert.equal(follower("c").state, "NotMember");
          await coordinator.enrol("c");
          await coordinator.promote("c");
          await assertCounts("c");
          await assertReadable(entries);
        });
      }

      it(`log ${log}, writes going on`, async () => {
        await start(options);
        await writeMany(entries);
        if (options === TRIMMED) await untilTrimmed();
        const stop = new AbortController();
        const writing = writeUntil(stop.signal);
        await wipeAndReopen("c", ["wal", "state"]);
        await cluster.until("the leader meets the new uid", () => follower("c").observedUid !== "");
        await coordinator.enrol("c");
        await coordinator.promote("c");
        stop.abort();
        const written = await writing;
        await assertCounts("c");
        await assertReadable(entries);
        await assertReadable(written, "during");
      });
    }

    it("a new term during the transfer interrupts it at once; the next one finishes it", async () => {
      await start({ ...TRIMMED, snapshotChunkBytes: 4096 });
      await writeMany(600);
      await untilTrimmed();
      await wipeAndReopen("c", ["wal", "state"]);
      await cluster.until("the leader meets the new uid", () => follower("c").observedUid !== "");
      // The stream goes silent after two chunks, and stays open.
      let chunks = 0;
      cluster.meddling.chunk = (_to, chunk) => (chunks++ < 3 ? [chunk] : []);
      await coordinator.enrol("c");
      await cluster.until("the transfer is under way", () => chunks > 3);
      assert.equal(cluster.status("c").status, ServingStatus.NOT_MEMBER);
      coordinator.term += 1;
      const replies = new Map<string, Awaited<ReturnType<typeof coordinator.newTerm>>>();
      for (const name of ["c", "a", "b"]) replies.set(name, await coordinator.newTerm(name));
      cluster.meddling.chunk = (_to, chunk) => [chunk];
      await coordinator.becomeLeader("b", replies);
      await coordinator.enrol("c");
      await coordinator.promote("c");
      await assertCounts("c");
      await assertReadable(600);
    });

    it("twice in a row, the second time after the leader changed to the rebuilt replica", async () => {
      await start(TRIMMED);
      await writeMany(300);
      for (const [victim, next] of [
        ["c", "c"],
        ["a", "a"],
      ] as const) {
        await wipeAndReopen(victim, ["wal", "state"]);
        await cluster.until("the leader meets it", () => follower(victim).observedUid !== "");
        await coordinator.enrol(victim);
        await coordinator.promote(victim);
        await coordinator.elect(next);
        await assertReadable(300);
      }
      await cluster.assertEqualStates("a");
    });

    async function untilTrimmed(): Promise<void> {
      await cluster.until("the leader trims", () => cluster.status("a").logFirstOffset > 0);
    }

    async function writeUntil(signal: AbortSignal): Promise<number> {
      let written = 0;
      while (!signal.aborted) {
        await cluster.write("a", `during-${written}`, `value-${written}`.padEnd(64, "x"));
        written += 1;
      }
      return written;
    }

    /** The rebuilt replica holds the same state, and its acks are enough for a quorum. */
    async function assertCounts(name: string): Promise<void> {
      await cluster.assertEqualStates(coordinator.leader);
      const other = cluster.names.find((one) => one !== name && one !== coordinator.leader);
      await cluster.stop(other ?? "");
      await writeMany(10, "counted");
      await assertReadable(10, "counted");
      await cluster.assertEqualStates(coordinator.leader);
      await cluster.until("it hears that it votes", () => cluster.status(name).votes);
    }
  });
});
