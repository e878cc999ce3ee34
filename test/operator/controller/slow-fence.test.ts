/** Elections without the leader, one of whose followers answers NewTerm late or not at all. */
import assert from "node:assert/strict";
import type { Coordinator } from "../../../operator/controller/coordinator.ts";
import { FakeCluster, KEY } from "./fake-cluster.ts";

const NODES = ["a", "b", "c"];

interface Busy {
  readonly cluster: FakeCluster;
  readonly coordinator: Coordinator;
  readonly leader: string;
  readonly quick: string;
  readonly slow: string;
  readonly term: number;
}

/** Under load: the leader holds what neither follower does, so that each covers only followers. */
async function underLoad(test: (busy: Busy) => Promise<void>): Promise<void> {
  const cluster = new FakeCluster(NODES);
  const coordinator = cluster.coordinator();
  const running = coordinator.run();
  try {
    await cluster.untilSteady();
    const leader = cluster.leader() ?? "";
    const [quick = "", slow = ""] = NODES.filter((name) => name !== leader);
    const { term } = cluster.record;
    for (const name of [quick, slow]) cluster.replica(name).behind = 1;
    cluster.replica(leader).log.push({ term, value: "under way" });
    await cluster.clock.pass(100);
    cluster.onCall = (name) => {
      if (name !== "becomeLeader") return;
      for (const node of NODES) cluster.replica(node).behind = 0;
    };
    await test({ cluster, coordinator, leader, quick, slow, term });
  } finally {
    await coordinator.close();
    await running;
    await cluster.close();
  }
}

/** The first `count` times, NewTerm waits at `slow` for as long. */
function delayNewTerm({ cluster, slow }: Busy, delayMs: number, count: number): void {
  let left = count;
  cluster.delayMs = (name, node) => {
    if (name !== "newTerm" || node !== slow || left === 0) return 0;
    left -= 1;
    return delayMs;
  };
}

function elections(cluster: FakeCluster): readonly string[] {
  return cluster.events.flatMap((event) => (event.kind === "electionStarted" ? [event.why] : []));
}

describe("an election without the leader", () => {
  it("waits for a follower without which nobody else may lead", async () => {
    await underLoad(async (busy) => {
      const { cluster, coordinator, leader, quick, term } = busy;
      delayNewTerm(busy, 300, 1);
      coordinator.preferLeader(KEY, quick);
      await cluster.clock.until("another leads", 5_000, () => cluster.leader() !== leader);
      await cluster.untilSteady();
      assert.deepEqual([cluster.record.leader?.node, cluster.record.term], [quick, term + 1]);
    });
  });

  it("is held once more without an isolated leader when it failed", async () => {
    await underLoad(async (busy) => {
      const { cluster, leader, term } = busy;
      cluster.replica(leader).cutOff = true;
      delayNewTerm(busy, 2_000, 1);
      await cluster.clock.until("it failed", 10_000, () => cluster.record.term === term + 1);
      await cluster.clock.until("somebody leads", 5_000, () => cluster.record.leader !== null);
      assert.notEqual(cluster.record.leader?.node, leader);
      assert.deepEqual(elections(cluster).slice(-2), ["LeaderIsolated", "NoLeader"]);
      assert.equal(cluster.record.term, term + 2);
    });
  });

  it("is followed by one that a person wishes for the leader, when it failed", async () => {
    await underLoad(async (busy) => {
      const { cluster, coordinator, leader, quick, term } = busy;
      delayNewTerm(busy, 2_000, 1);
      coordinator.preferLeader(KEY, quick);
      await cluster.clock.until("it is held", 5_000, () => cluster.record.term === term + 1);
      coordinator.preferLeader(KEY, leader);
      await cluster.clock.until("somebody leads", 5_000, () => {
        return cluster.record.leader !== null && cluster.record.term > term;
      });
      assert.deepEqual([cluster.record.leader?.node, cluster.record.term], [leader, term + 2]);
      await cluster.untilSteady();
    });
  });

  it("is open to all when it failed twice", async () => {
    await underLoad(async (busy) => {
      const { cluster, coordinator, leader, quick, term } = busy;
      delayNewTerm(busy, 2_000, 3);
      coordinator.preferLeader(KEY, quick);
      await cluster.clock.until("it leads again", 8_000, () => {
        return cluster.record.leader?.node === leader && cluster.record.term > term;
      });
      assert.equal(cluster.record.term, term + 3);
      await cluster.untilSteady();
    });
  });
});
