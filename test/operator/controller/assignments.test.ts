/** What clients are told while a shard has no leader, or while its record is not known. */
import assert from "node:assert/strict";
import { Coordinator } from "../../../operator/controller/coordinator.ts";
import type { RecordStore } from "../../../operator/controller/ports.ts";
import { RecordInvalid } from "../../../operator/core/record.ts";
import { FakeCluster } from "./fake-cluster.ts";

const NODES = ["a", "b", "c"];

/** A cluster that was steady once; its coordinator is gone and nobody was told of anything. */
async function leftAlone(): Promise<FakeCluster> {
  const cluster = new FakeCluster(NODES);
  const coordinator = cluster.coordinator();
  const running = coordinator.run();
  await cluster.untilSteady();
  await coordinator.close();
  await running;
  for (const node of cluster.nodes.values()) node.assignments = null;
  return cluster;
}

/** A coordinator of the cluster's shard and of another namespace with a shard of its own. */
function ofTwoNamespaces(cluster: FakeCluster, readOther: () => Promise<never>): Coordinator {
  const { clock, events, records } = cluster;
  const both: RecordStore = {
    read: (key) => (key.namespace === "default" ? records.read() : readOther()),
    create: (record) => records.create(record),
    replace: (record, version) => records.replace(record, version),
  };
  const kind = { replicationFactor: 3, keySorting: "hierarchical", notifications: false } as const;
  return new Coordinator({
    spec: {
      storeId: "store",
      nodes: NODES.map((name) => cluster.node(name).endpoint),
      namespaces: [
        { name: "default", shards: 1, ...kind },
        { name: "other", shards: 1, ...kind },
      ],
    },
    records: both,
    sidecars: cluster,
    platform: { isStopped: cluster.isStopped },
    clock,
    events: { emit: (event) => void events.push(event) },
  });
}

describe("Coordinator: assignments", () => {
  it("names a voter after a restart while the shard has no leader and no quorum", async () => {
    const cluster = await leftAlone();
    const { record, records } = cluster;
    records.text = JSON.stringify({ ...record, term: record.term + 1, leader: null });
    records.version += 1;
    cluster.kill("a");
    cluster.kill("b");
    const coordinator = cluster.coordinator();
    const running = coordinator.run();
    try {
      const told = () => cluster.node("c").assignments;
      await cluster.clock.until("assignments", 5_000, () => told() !== null);
      const leader = told()?.namespaces["default"]?.assignments[0]?.leader;
      assert.ok(
        NODES.some((name) => leader === `${name}:6648`),
        String(leader),
      );
      assert.equal(cluster.record.leader, null);
    } finally {
      await coordinator.close();
      await cluster.close();
      await running;
    }
  });

  it("tells of nothing before it has asked for every record, and waits for none for ever", async () => {
    const cluster = await leftAlone();
    let answer: (error: Error) => void = () => undefined;
    const held = new Promise<never>((_resolve, reject) => {
      answer = reject;
    });
    const coordinator = ofTwoNamespaces(cluster, () => held);
    const running = coordinator.run();
    try {
      const told = () => cluster.node("c").assignments;
      await cluster.clock.pass(5_000);
      assert.equal(told(), null);
      answer(new RecordInvalid("leader", "record: leader: nonsense"));
      await cluster.clock.until("assignments", 5_000, () => told() !== null);
      assert.deepEqual(Object.keys(told()?.namespaces ?? {}), ["default", "other"]);
      const leader = told()?.namespaces["default"]?.assignments[0]?.leader;
      assert.equal(leader, `${cluster.leader()}:6648`);
    } finally {
      answer(new RecordInvalid("leader", "record: leader: nonsense"));
      await coordinator.close();
      await cluster.close();
      await running;
    }
  });
});
