/** A leader that hangs while a coordinator starts: it takes connections, and says nothing. */
import assert from "node:assert/strict";
import { CallFailed } from "../../../operator/controller/ports.ts";
import { SHARED_TIMINGS } from "../../../operator/controller/timings.ts";
import { FakeCluster, whileQuiet } from "./fake-cluster.ts";

/** A steady cluster whose coordinator has ended; the name of its leader. */
async function withoutCoordinator(cluster: FakeCluster): Promise<string> {
  const coordinator = cluster.coordinator();
  const running = coordinator.run();
  await cluster.untilSteady();
  await coordinator.close();
  await running;
  cluster.events.length = 0;
  return cluster.leader() ?? "";
}

describe("a node of which nothing was ever heard", () => {
  it("is silent after a while: another leads", async () => {
    const cluster = new FakeCluster(["a", "b", "c"]);
    const leader = await withoutCoordinator(cluster);
    cluster.node(leader).frozen = true;
    const coordinator = cluster.coordinator();
    const running = coordinator.run();
    try {
      const { term } = cluster.record;
      await cluster.clock.until("another leads", 10_000, () => {
        const { leader: now, term: newer } = cluster.record;
        return newer > term && now !== null && now.node !== leader;
      });
      cluster.node(leader).frozen = false;
      await cluster.untilSteady();
    } finally {
      await coordinator.close();
      await running;
      await cluster.close();
    }
  });

  it("is waited for when it answers, and is none that is down", async () => {
    const cluster = new FakeCluster(["a", "b", "c"]);
    const leader = await withoutCoordinator(cluster);
    const streams = cluster.watchStatus.bind(cluster);
    // This process is slow to read what the streams bring.
    cluster.watchStatus = async function* (to, request, signal) {
      await cluster.clock.sleep(2_500, signal);
      yield* streams(to, request, signal);
    };
    const coordinator = cluster.coordinator();
    const running = coordinator.run();
    try {
      const { term } = cluster.record;
      await cluster.clock.pass(6_000);
      assert.deepEqual([cluster.record.term, cluster.leader()], [term, leader]);
      assert.ok(cluster.events.every(({ kind }) => kind !== "nodeDown"));
    } finally {
      await coordinator.close();
      await running;
      await cluster.close();
    }
  });

  for (const [what, elsewhere] of [
    ["its pod's state changes", false],
    ["its pod is seen elsewhere", true],
  ] as const) {
    it(`is none that is down when ${what} meanwhile`, async () => {
      const cluster = new FakeCluster(["a", "b", "c"]);
      const leader = await withoutCoordinator(cluster);
      const streams = cluster.watchStatus.bind(cluster);
      let opened = 0;
      cluster.watchStatus = async function* (to, request, signal) {
        if (to.node === leader) opened += 1;
        await cluster.clock.sleep(500, signal);
        yield* streams(to, request, signal);
      };
      const coordinator = cluster.coordinator();
      const running = coordinator.run();
      try {
        const { term } = cluster.record;
        await cluster.clock.pass(200);
        coordinator.lookAgain(leader, elsewhere);
        await cluster.clock.pass(2_000);
        assert.deepEqual([cluster.record.term, cluster.leader()], [term, leader]);
        assert.ok(cluster.events.every(({ kind }) => kind !== "nodeDown"));
        assert.equal(opened, elsewhere ? 2 : 1);
      } finally {
        await coordinator.close();
        await running;
        await cluster.close();
      }
    });
  }

  it("is none that is down when its connection is only late to be made", async () => {
    const cluster = new FakeCluster(["a", "b", "c"]);
    const leader = await withoutCoordinator(cluster);
    const streams = cluster.watchStatus.bind(cluster);
    let opened = 0;
    cluster.watchStatus = async function* (to, request, signal) {
      if (to.node === leader && ++opened === 1) {
        await cluster.clock.sleep(1_400, signal);
        throw new CallFailed(to.node, "no connection in time", true);
      }
      yield* streams(to, request, signal);
    };
    const coordinator = cluster.coordinator();
    const running = coordinator.run();
    try {
      const { term } = cluster.record;
      await cluster.clock.pass(3_000);
      assert.deepEqual([cluster.record.term, cluster.leader()], [term, leader]);
      assert.ok(cluster.events.every(({ kind }) => kind !== "nodeDown"));
    } finally {
      await coordinator.close();
      await running;
      await cluster.close();
    }
  });

  it("is away while another node reports from its address", () =>
    whileQuiet(SHARED_TIMINGS, async (cluster) => {
      const [away = "", there = ""] = [...cluster.nodes.keys()].filter((node) => {
        return node !== cluster.leader();
      });
      const { record } = cluster;
      const streams = cluster.watchStatus.bind(cluster);
      cluster.watchStatus = (to, request, signal) => {
        const { endpoint } = cluster.node(to.node === away ? there : to.node);
        return streams(endpoint, request, signal);
      };
      cluster.kill(away);
      await cluster.clock.pass(5_000);
      assert.deepEqual(cluster.record.members, record.members);
      assert.ok(cluster.events.every(({ kind }) => kind !== "recoveryStarted"));
    }));

  it("is not waited for when it answers and never reports", async () => {
    const cluster = new FakeCluster(["a", "b", "c"]);
    const leader = await withoutCoordinator(cluster);
    const streams = cluster.watchStatus.bind(cluster);
    cluster.watchStatus = async function* (to, request, signal) {
      if (to.node === leader) await cluster.clock.sleep(60_000, signal);
      if (signal.aborted) throw new CallFailed(to.node, "stream dropped", false);
      yield* streams(to, request, signal);
    };
    const coordinator = cluster.coordinator();
    const running = coordinator.run();
    try {
      await cluster.clock.until("another leads", 10_000, () => {
        const now = cluster.record.leader;
        return now !== null && now.node !== leader;
      });
    } finally {
      await coordinator.close();
      await running;
      await cluster.close();
    }
  });
});
