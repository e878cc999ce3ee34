/** A coordinator among very many in one process: it is told, or it does next to nothing. */
import assert from "node:assert/strict";
import type { Coordinator } from "../../../operator/controller/coordinator.ts";
import { SHARED_TIMINGS } from "../../../operator/controller/timings.ts";
import { FakeCluster } from "./fake-cluster.ts";

const KEY = { namespace: "default", shard: 0 };

/** Runs `act` once everything votes and has been quiet for a while. */
async function whileQuiet(
  act: (cluster: FakeCluster, coordinator: Coordinator) => Promise<void>,
): Promise<void> {
  const cluster = new FakeCluster(["a", "b", "c"]);
  cluster.timings = SHARED_TIMINGS;
  const coordinator = cluster.coordinator();
  const running = coordinator.run();
  try {
    await cluster.untilSteady();
    await cluster.clock.pass(5_000);
    await act(cluster, coordinator);
  } finally {
    await coordinator.close();
    await running;
    await cluster.close();
  }
}

describe("Coordinator: a quiet store", () => {
  it("costs a read of its record a minute", () =>
    whileQuiet(async (cluster) => {
      const { reads, saves } = cluster.records;
      await cluster.clock.pass(120_000);
      assert.equal(cluster.records.saves, saves);
      assert.ok(cluster.records.reads - reads <= 2, `${cluster.records.reads - reads} reads`);
    }));

  it("reads a record that somebody else changed when it is seen", () =>
    whileQuiet(async (cluster, coordinator) => {
      const { record, records } = cluster;
      records.text = JSON.stringify({ ...record, term: record.term + 1, leader: null });
      records.version += 1;
      coordinator.sawRecord(KEY, String(records.version));
      await cluster.clock.until("a leader is saved", 2_000, () => cluster.record.leader !== null);
    }));

  it("reads none for the version that it saved itself", () =>
    whileQuiet(async (cluster, coordinator) => {
      const { reads } = cluster.records;
      coordinator.sawRecord(KEY, String(cluster.records.version));
      await cluster.clock.pass(2_000);
      assert.equal(cluster.records.reads, reads);
    }));

  it("notes other claims when it is told to look", () =>
    whileQuiet(async (cluster, coordinator) => {
      for (const [name, node] of cluster.nodes) node.claims = { data: name, wal: name };
      coordinator.platformChanged();
      await cluster.clock.until("they are noted", 500, () =>
        cluster.record.members.every(({ node, pvcUids }) => pvcUids?.data === node),
      );
    }));

  it("replaces a leader that hangs within four seconds", () =>
    whileQuiet(async (cluster) => {
      const before = cluster.leader() ?? "";
      cluster.node(before).frozen = true;
      await cluster.clock.until("another leads", 4_000, () => {
        const now = cluster.leader();
        return now !== null && now !== before;
      });
    }));
});
