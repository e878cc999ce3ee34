/** A coordinator among very many in one process: it is told, or it does next to nothing. */
import assert from "node:assert/strict";
import type { Coordinator } from "../../../operator/controller/coordinator.ts";
import { SHARED_TIMINGS } from "../../../operator/controller/timings.ts";
import { RecordInvalid } from "../../../operator/core/record.ts";
import { FakeCluster, whileQuiet } from "./fake-cluster.ts";

const KEY = { namespace: "default", shard: 0 };

describe("Coordinator: a quiet store", () => {
  it("costs a read of its record a minute", () =>
    whileQuiet(SHARED_TIMINGS, async (cluster) => {
      const { reads, saves } = cluster.records;
      await cluster.clock.pass(120_000);
      assert.equal(cluster.records.saves, saves);
      assert.ok(cluster.records.reads - reads <= 2, `${cluster.records.reads - reads} reads`);
    }));

  it("reads a record that somebody else changed when it is seen", () =>
    whileQuiet(SHARED_TIMINGS, async (cluster, coordinator) => {
      const { record, records } = cluster;
      records.text = JSON.stringify({ ...record, term: record.term + 1, leader: null });
      records.version += 1;
      coordinator.sawRecord(KEY, String(records.version));
      await cluster.clock.until("a leader is saved", 2_000, () => cluster.record.leader !== null);
    }));

  it("stops when it is told that its record is gone", () =>
    whileQuiet(SHARED_TIMINGS, async (cluster, coordinator) => {
      cluster.records.text = null;
      coordinator.sawRecord(KEY, "");
      await cluster.clock.until(
        "it stops",
        2_000,
        () => coordinator.views()[0]?.stop?.reason === "RecordLost",
      );
    }));

  it("reads none for the version that it saved itself", () =>
    whileQuiet(SHARED_TIMINGS, async (cluster, coordinator) => {
      const { reads } = cluster.records;
      coordinator.sawRecord(KEY, String(cluster.records.version));
      await cluster.clock.pass(2_000);
      assert.equal(cluster.records.reads, reads);
    }));

  it("notes other claims when it is told to look", () =>
    whileQuiet(SHARED_TIMINGS, async (cluster, coordinator) => {
      for (const [name, node] of cluster.nodes) node.claims = { data: name, wal: name };
      coordinator.platformChanged();
      await cluster.clock.until("they are noted", 500, () =>
        cluster.record.members.every(({ node, pvcUids }) => pvcUids?.data === node),
      );
    }));

  it("replaces a leader that hangs within three seconds", () =>
    whileQuiet(SHARED_TIMINGS, async (cluster) => {
      const before = cluster.leader() ?? "";
      cluster.node(before).frozen = true;
      await cluster.clock.until("another leads", 3_000, () => {
        const now = cluster.leader();
        return now !== null && now !== before;
      });
    }));
});

describe("Coordinator: a node that was away for long", () => {
  it("is tried seldom, and often again from when the platform saw it start", () =>
    whileQuiet(SHARED_TIMINGS, async (cluster, coordinator) => {
      const away = cluster.leader() === "c" ? "b" : "c";
      cluster.kill(away);
      await cluster.clock.pass(120_000);
      let tries = 0;
      cluster.onCall = (name, node) => {
        if (name === "getInfo" && node === away) tries += 1;
      };
      await cluster.clock.pass(60_000);
      assert.ok(tries <= 7, `${tries} tries a minute`);
      coordinator.lookAgain(away);
      // Its process is there a little later than its container.
      await cluster.clock.pass(1_500);
      cluster.start(away);
      await cluster.clock.until("it is seen to vote", 500, () =>
        coordinator.views().every(({ replicas }) => replicas.every(({ voting }) => voting)),
      );
    }));
});

describe("Coordinator: before it has looked", () => {
  /** A new coordinator over a store that serves; the first reads of its record end so. */
  async function starting(
    failure: Error,
    act: (cluster: FakeCluster, coordinator: Coordinator) => Promise<void>,
  ): Promise<void> {
    const cluster = new FakeCluster(["a", "b", "c"]);
    const first = cluster.coordinator();
    const ran = first.run();
    await cluster.untilSteady();
    await first.close();
    await ran;
    const read = cluster.records.read.bind(cluster.records);
    let left = 2;
    cluster.records.read = async () => {
      left -= 1;
      if (left >= 0) throw failure;
      return await read();
    };
    const coordinator = cluster.coordinator();
    const running = coordinator.run();
    try {
      await act(cluster, coordinator);
    } finally {
      await coordinator.close();
      await running;
      await cluster.close();
    }
  }

  it("says so while a record cannot be read, and which", () =>
    starting(new Error("too many requests"), async (cluster, coordinator) => {
      await cluster.clock.pass(1_000);
      assert.equal(coordinator.hasLooked, false);
      assert.deepEqual(coordinator.unread, ["default/0: too many requests"]);
      await cluster.clock.until("it has", 10_000, () => coordinator.hasLooked);
      assert.deepEqual(coordinator.unread, []);
      assert.equal(coordinator.views()[0]?.initialized, true);
    }));

  it("has looked at a record that makes no sense", () =>
    starting(new RecordInvalid("term", "term: no number"), async (cluster, coordinator) => {
      await cluster.clock.until("it has", 1_000, () => coordinator.hasLooked);
      assert.equal(coordinator.views()[0]?.stop?.reason, "RecordInvalid");
    }));
});
