/** What clients are told while a shard has no leader, or while its record is not known. */
import assert from "node:assert/strict";
import { Coordinator } from "../../../operator/controller/coordinator.ts";
import type { RecordStore } from "../../../operator/controller/ports.ts";
import { RecordInvalid } from "../../../operator/core/record.ts";
import { SHARED_TIMINGS } from "../../../operator/controller/timings.ts";
import { FakeCluster, whileQuiet } from "./fake-cluster.ts";

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
function ofTwoNamespaces(cluster: FakeCluster, readOther: () => Promise<null>): Coordinator {
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
  /** What this node tells clients of the shard. */
  function told(cluster: FakeCluster, name: string): string | undefined {
    return cluster.node(name).assignments?.namespaces["default"]?.assignments[0]?.leader;
  }

  /** The election after which nobody leads. */
  function loseLeader(cluster: FakeCluster): void {
    const { record, records } = cluster;
    records.text = JSON.stringify({ ...record, term: record.term + 1, leader: null });
    records.version += 1;
  }

  it("names a voter that is there after a restart while nobody leads, and another when it goes", async () => {
    const cluster = await leftAlone();
    loseLeader(cluster);
    cluster.kill("a");
    cluster.kill("b");
    const coordinator = cluster.coordinator();
    const running = coordinator.run();
    try {
      const names = (at: string, name: string) => (): boolean =>
        told(cluster, at) === `${name}:6648`;
      await cluster.clock.until("c is named", 5_000, names("c", "c"));
      cluster.kill("c");
      cluster.start("b");
      await cluster.clock.until("b is named", 5_000, names("b", "b"));
      assert.equal(cluster.record.leader, null);
    } finally {
      await coordinator.close();
      await cluster.close();
      await running;
    }
  });

  it("tells a node that is back at once, though the stream to where it was before hangs", () =>
    whileQuiet(SHARED_TIMINGS, async (cluster) => {
      const leader = cluster.leader() ?? "";
      const follower = NODES.find((node) => node !== leader) ?? "";
      // Its machine is gone: nothing ends the stream, and nothing that is news is to be sent.
      cluster.kill(follower);
      cluster.node(follower).assignments = null;
      await cluster.clock.pass(500);
      cluster.start(follower);
      await cluster.clock.until("it is told", 1_000, () => told(cluster, follower) !== undefined);
    }));

  it("keeps a shard whose record is lost in what clients are told, after a restart too", async () => {
    const cluster = await leftAlone();
    cluster.records.text = null;
    cluster.records.version += 1;
    const coordinator = cluster.coordinator();
    const running = coordinator.run();
    try {
      await cluster.clock.until("it is told of", 5_000, () => told(cluster, "c") !== undefined);
      const [view] = coordinator.views();
      assert.equal(view?.stop?.reason, "RecordLost");
    } finally {
      await coordinator.close();
      await cluster.close();
      await running;
    }
  });

  it("sends nobody to a replica that stopped while another may come back", async () => {
    const cluster = await leftAlone();
    loseLeader(cluster);
    cluster.kill("a");
    cluster.kill("c");
    cluster.replica("b").fault = "its log is not the leader's";
    const coordinator = cluster.coordinator();
    const running = coordinator.run();
    try {
      await cluster.clock.pass(5_000);
      assert.equal(told(cluster, "b"), "a:6648");
      cluster.replica("b").fault = "";
      await cluster.clock.until("b is named", 5_000, () => told(cluster, "b") === "b:6648");
    } finally {
      await coordinator.close();
      await cluster.close();
      await running;
    }
  });

  it("tells of the others when the last record that it asked for is not there", async () => {
    const cluster = await leftAlone();
    // A new namespace waits for every node, and meanwhile nothing else happens.
    cluster.kill("a");
    await cluster.clock.pass(100);
    let answer: () => void = () => undefined;
    const held = new Promise<null>((resolve) => {
      answer = () => resolve(null);
    });
    const coordinator = ofTwoNamespaces(cluster, () => held);
    const running = coordinator.run();
    try {
      await cluster.clock.pass(5_000);
      assert.equal(cluster.node("c").assignments, null);
      answer();
      await cluster.clock.until("assignments", 1_000, () => told(cluster, "c") !== undefined);
      assert.deepEqual(Object.keys(cluster.node("c").assignments?.namespaces ?? {}), ["default"]);
    } finally {
      answer();
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
      const assignments = () => cluster.node("c").assignments;
      await cluster.clock.pass(5_000);
      assert.equal(assignments(), null);
      answer(new RecordInvalid("leader", "record: leader: nonsense"));
      await cluster.clock.until("assignments", 5_000, () => assignments() !== null);
      assert.deepEqual(Object.keys(assignments()?.namespaces ?? {}), ["default", "other"]);
      assert.equal(told(cluster, "c"), `${cluster.leader()}:6648`);
    } finally {
      answer(new RecordInvalid("leader", "record: leader: nonsense"));
      await coordinator.close();
      await cluster.close();
      await running;
    }
  });
});
