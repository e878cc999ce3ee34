/**
 * The coordinator dies before every call, and before and after every save, of whole scenarios;
 * another takes over.
 */
import assert from "node:assert/strict";
import type { Coordinator } from "../../../operator/controller/coordinator.ts";
import { FakeCluster, KEY } from "./fake-cluster.ts";

interface Scenario {
  readonly name: string;
  readonly nodes: readonly string[];
  readonly begin: (cluster: FakeCluster, coordinator: Coordinator) => Promise<unknown>;
  readonly done: (cluster: FakeCluster) => boolean;
  readonly steps: number;
}

const SCENARIOS: readonly Scenario[] = [
  {
    name: "recovery of a wiped follower",
    nodes: ["a", "b", "c"],
    begin: async (cluster) => {
      const follower = ["a", "b", "c"].find((name) => name !== cluster.leader());
      cluster.wipe(follower ?? "");
      await Promise.resolve();
    },
    done: (cluster) => cluster.steady(),
    steps: 8,
  },
  {
    name: "recovery of a wiped leader",
    nodes: ["a", "b", "c"],
    begin: async (cluster) => {
      cluster.wipe(cluster.leader() ?? "");
      await Promise.resolve();
    },
    done: (cluster) => cluster.steady(),
    steps: 14,
  },
  {
    name: "a follower swapped for another node",
    nodes: ["a", "b", "c", "d"],
    begin: (cluster, coordinator) => {
      const gone = ["b", "c"].find((name) => name !== cluster.leader());
      const kept = ["a", "b", "c"].filter((name) => name !== gone);
      return coordinator.changeEnsemble(KEY, [...kept, "d"]).catch(() => undefined);
    },
    done: (cluster) =>
      cluster.record.ensemble.toSorted().join() === cluster.record.desired.toSorted().join() &&
      cluster.steady(),
    steps: 16,
  },
  {
    name: "the leader swapped for another node",
    nodes: ["a", "b", "c", "d"],
    begin: (cluster, coordinator) => {
      const kept = ["a", "b", "c"].filter((name) => name !== cluster.leader());
      return coordinator.changeEnsemble(KEY, [...kept, "d"]).catch(() => undefined);
    },
    done: (cluster) =>
      cluster.record.ensemble.toSorted().join() === cluster.record.desired.toSorted().join() &&
      cluster.steady(),
    steps: 24,
  },
];

/** Runs a scenario with a crash at the `at`-th point; returns how many points there were. */
async function run(scenario: Scenario, at: number): Promise<number> {
  const cluster = new FakeCluster(scenario.nodes);
  let coordinator = cluster.coordinator(scenario.nodes);
  let running = coordinator.run();
  try {
    await cluster.untilSteady();
    await cluster.write("w1");
    let points = 0;
    const crashes: Promise<void>[] = [];
    const point = (): void => {
      points += 1;
      if (points !== at) return;
      crashes.push(coordinator.close());
      throw new Error("crash");
    };
    cluster.onCall = point;
    cluster.records.beforeSave = point;
    cluster.records.afterSave = point;
    const begun = scenario.begin(cluster, coordinator);
    await cluster.clock.until(`crash at ${at} or the end`, 30_000, () => {
      return crashes.length > 0 || (scenario.done(cluster) && points > 0);
    });
    if (crashes.length > 0) {
      await Promise.all(crashes);
      await running;
      coordinator = cluster.coordinator(scenario.nodes);
      running = coordinator.run();
    }
    await begun;
    await cluster.clock.until(`the end after a crash at ${at}`, 30_000, () =>
      scenario.done(cluster),
    );
    await cluster.write("w2");
    await cluster.clock.until("everything everywhere", 5_000, () =>
      cluster.record.ensemble.every((name) => {
        const log = cluster.replica(name).log.map((entry) => entry.value);
        return log.includes("w1") && log.includes("w2");
      }),
    );
    return points;
  } catch (error) {
    if (process.env["DEBUG"] !== undefined) {
      console.log(JSON.stringify(cluster.events.slice(-15), null, 0));
      console.log(JSON.stringify(cluster.record, null, 0));
      console.log(JSON.stringify(coordinator.views()));
      console.log(cluster.calls.slice(-15).join(" | "));
    }
    throw error;
  } finally {
    await coordinator.close();
    await cluster.close();
    await running;
  }
}

describe("Coordinator killed at each step", () => {
  for (const scenario of SCENARIOS) {
    it(scenario.name, async () => {
      const points = await run(scenario, 0);
      assert.ok(points >= scenario.steps, `only ${points} crash points`);
      for (let at = 1; at <= points; at += 1) await run(scenario, at);
    });
  }
});
