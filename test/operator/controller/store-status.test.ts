import assert from "node:assert/strict";
import {
  isInSync,
  rebuildingPods,
  shardStatus,
  type StatusTrouble,
  storeSummary,
} from "../../../operator/controller/store-status.ts";
import { STOP_REASONS } from "../../../operator/core/stops.ts";
import type { Condition, ShardView } from "../../../operator/core/status.ts";
import { replicaView, shardViewOf, wholeShard } from "../local/status-fixture.ts";

const PODS = ["resilver-0", "resilver-1", "resilver-2"];

function summary(
  views: readonly ShardView[],
  rollout: string | null = null,
  there = 3,
  trouble: StatusTrouble | null = null,
  settled = views,
) {
  const pods = PODS.slice(0, there).map((name) => ({ name, ready: name !== "resilver-2" }));
  const { conditions, ...columns } = storeSummary({
    views,
    settled,
    pods,
    expectedPods: 3,
    rollout,
    nodeLoss: null,
    trouble,
  });
  const told = conditions.map(({ type, status, reason }) => `${type}=${status} ${reason}`);
  return { columns, told, messages: conditions.map(({ message }) => message) };
}

/** The last of three is being rebuilt. */
function rebuilding(shard = 0): ShardView {
  const learner = { role: "learner", voting: false, phase: "Transferring" } as const;
  const [first, second] = wholeShard().replicas;
  assert.ok(first !== undefined && second !== undefined);
  return shardViewOf([first, second, replicaView("resilver-2", learner)], { shard });
}

describe("status of a store", () => {
  it("whole", () => {
    const { columns, told } = summary([wholeShard()]);
    assert.deepEqual(columns, {
      ready: "2/3",
      quorate: "1/1",
      rebuilding: 0,
      leaders: "resilver-0",
      state: "Available",
    });
    assert.deepEqual(told, [
      "Available=true AllShardsServe",
      "Progressing=false Idle",
      "Degraded=false AllVoting",
    ]);
  });

  it("a pod with two replicas being rebuilt counts once; the store serves, degraded", () => {
    const { columns, told, messages } = summary([rebuilding(0), rebuilding(1)]);
    assert.equal(columns.rebuilding, 1);
    assert.equal(columns.state, "Degraded");
    assert.equal(told[2], "Degraded=true ReplicasNotVoting");
    assert.match(messages[2] ?? "", /^not voting: resilver-2 \(Transferring\);/u);
    assert.equal(
      messages[0],
      `all shards serve, but ${messages[2]}`,
      "the only one that a column shows",
    );
    assert.equal(summary([wholeShard()]).messages[0], "all shards serve");
  });

  it("an object that cannot be brought about is told beside what the shards do", () => {
    const trouble = { reason: "StorageCannotGrow", message: "the claim cannot grow" };
    const whole = summary([wholeShard()], null, 2, trouble);
    assert.deepEqual(whole.told, [
      "Available=true AllShardsServe",
      "Progressing=false StorageCannotGrow",
      "Degraded=true StorageCannotGrow",
    ]);
    assert.equal(whole.columns.state, "Degraded");
    const behind = summary([rebuilding()], "is being made anew", 3, trouble);
    assert.deepEqual(behind.told.slice(1), [
      "Progressing=false StorageCannotGrow",
      "Degraded=true ReplicasNotVoting",
    ]);
  });

  it("a stop comes before everything, by its own reason", () => {
    const stop = { reason: "QuorumLost", message: "two of three are gone" } as const;
    const stopped = { ...wholeShard(), shard: 1, serving: false, stop };
    const { columns, told, messages } = summary([wholeShard(), stopped]);
    assert.equal(columns.state, "QuorumLost");
    assert.equal(columns.quorate, "1/2");
    assert.equal(told[0], "Available=false QuorumLost");
    assert.equal(
      messages[0],
      "default/1: two of three are gone; see runbooks/conditions/QuorumLost.md",
    );
  });

  it("without a leader: which shards, and why", () => {
    const why = {
      type: "Available",
      status: false,
      reason: "Electing",
      message: "an election is under way",
    } as const;
    const { columns, messages } = summary([
      { ...wholeShard(), leader: null, serving: false, conditions: [why] },
    ]);
    assert.deepEqual([columns.state, columns.leaders], ["Electing", ""]);
    assert.equal(messages[0], "not serving: default/0; an election is under way");
  });

  it("a shard that is only just made takes nothing from the others", () => {
    const replicas = PODS.map((name) => replicaView(name, { voting: false }));
    const change = { shard: 1, initialized: false, leader: null, serving: false };
    const made = shardViewOf(replicas, change);
    const { columns, told, messages } = summary([wholeShard(), made], null, 3, null, [
      wholeShard(),
    ]);
    assert.deepEqual([columns.quorate, columns.state], ["1/2", "Available"]);
    assert.deepEqual(
      [told[0], told[2]],
      ["Available=true AllShardsServe", "Degraded=false AllVoting"],
    );
    assert.equal(messages[0], "all shards serve but those that are being made, default/1");
    // A store of which all is new is not there yet.
    assert.equal(summary([made], null, 3, null, []).told[0], "Available=false NoLeader");
  });

  it("being rebuilt is what waits for nothing and nobody", () => {
    const wiped = (change: object): ShardView =>
      shardViewOf([replicaView("resilver-2", { role: "wiped", voting: false, ...change })]);
    const counts = (view: ShardView) => {
      return [summary([view]).columns.rebuilding, shardStatus(view).learners];
    };
    assert.deepEqual(counts(wiped({})), [1, 1]);
    assert.deepEqual(counts(wiped({ phase: "Deferred(Paused)" })), [0, 0], "a person has to order");
    assert.deepEqual(counts(wiped({ fault: "the disk is of another store" })), [0, 0]);
    assert.deepEqual(counts(wiped({ reach: "down" })), [0, 0], "its pod has to come back");
    const stop = { reason: "QuorumLost", message: "" } as const;
    assert.deepEqual(counts({ ...wiped({}), stop }), [0, 0]);
  });

  it("a leader that lost its data leads no more, and its commit offset is not known", () => {
    const gone = { role: "wiped", voting: false, status: "NOT_MEMBER", commitOffset: -1 } as const;
    const [, ...others] = wholeShard().replicas;
    const view = shardViewOf([replicaView("resilver-0", gone), ...others], { serving: false });
    assert.equal(summary([view]).columns.leaders, "");
    assert.equal(shardStatus(view).commitOffset, undefined);
    const silent = replicaView("resilver-0", { role: "leader", reach: "down", commitOffset: -1 });
    assert.equal(shardStatus(shardViewOf([silent])).commitOffset, undefined, "never heard of");
  });

  it("pods that do not start are told of with the platform's word for it", () => {
    const told = (rollout: string | null) => {
      const pods = PODS.map((name, at) => ({ name, ready: true, waiting: at === 1 ? "Why" : "" }));
      const rest = { expectedPods: 3, rollout, nodeLoss: null, trouble: null };
      const views = [wholeShard()];
      return storeSummary({ views, settled: views, pods, ...rest }).conditions[1];
    };
    assert.equal(told(null)?.reason, "WaitingForPods");
    assert.equal(told(null)?.message, "resilver-1 does not start: Why");
    assert.equal(told("goes on")?.message, "goes on", "which says it, too");
  });

  it("nothing is known yet: neither available nor not", () => {
    const { columns, told } = summary([]);
    assert.equal(columns.state, "Starting");
    assert.equal(told[0], "Available=Unknown Starting");
  });

  it("missing pods are told before the rollout, the rollout before shards", () => {
    assert.equal(summary([wholeShard()], "waits", 2).told[1], "Progressing=true WaitingForPods");
    assert.equal(summary([wholeShard()], "waits").told[1], "Progressing=true RollingOut");
    const busy = { type: "Progressing", status: true, reason: "rebuild", message: "" } as const;
    const { told } = summary([{ ...wholeShard(), conditions: [busy] }]);
    assert.equal(told[1], "Progressing=true Rebuild");
  });

  it("is not as it ought to be while a shard says otherwise; one that is busy says so first", () => {
    const type = "Progressing";
    const idle = { type, status: false, reason: "Idle", message: "all is well" } as const;
    const held = { type, status: false, reason: "RebuildDeferred", message: "a gate" } as const;
    const busy = { type, status: true, reason: "elect", message: "an election" } as const;
    const of = (...conditions: readonly Condition[]) =>
      summary(conditions.map((one, shard) => shardViewOf([], { shard, conditions: [one] })));
    const stuck = of(idle, held);
    assert.equal(stuck.told[1], "Progressing=false RebuildDeferred");
    assert.equal(stuck.messages[1], "default/1: a gate");
    assert.equal(of(idle, held, busy).told[1], "Progressing=true Elect");
    assert.equal(of(idle, idle).messages[1], "everything is as it ought to be");
  });

  it("a replica that does not vote is told by its fault, its phase, or that it is away", () => {
    const word = (change: object) => {
      const behind = replicaView("resilver-2", { voting: false, ...change });
      return summary([shardViewOf([behind])]).messages[2]?.split(";")[0];
    };
    assert.equal(word({ fault: "EIO" }), "not voting: resilver-2 (fault: EIO)");
    assert.equal(word({ phase: "Deferred(Paused)" }), "not voting: resilver-2 (Deferred(Paused))");
    assert.equal(word({ reach: "silent" }), "not voting: resilver-2 (not reached: silent)");
    assert.equal(word({ role: "wiped" }), "not voting: resilver-2 (wiped)");
  });

  it("fewer copies than are wanted are degraded, though all that are there vote", () => {
    const alone = (shard: number) =>
      shardViewOf([replicaView("resilver-0", { role: "leader" })], {
        shard,
        ensemble: ["resilver-0"],
        desired: PODS,
      });
    const one = summary([wholeShard(), alone(1)]);
    assert.deepEqual([one.columns.state, one.told[2]], ["Degraded", "Degraded=true FewerCopies"]);
    const lacks = "default/1 has 1 of 3 copies that are wanted; to come: resilver-1, resilver-2";
    assert.equal(one.messages[2], lacks);
    const two = summary([alone(1), alone(2)]).messages[2];
    assert.equal(two, `${lacks}; too few as well: 1 more`);
    assert.equal(summary([alone(1), rebuilding()]).told[2], "Degraded=true ReplicasNotVoting");
  });

  it("a pod that waits for a lost machine is told first of what is degraded", () => {
    const nodeLoss = "resilver-2: its volumes are on m2 (gone)";
    const pods = PODS.map((name) => ({ name, ready: true }));
    const under = { rollout: null, nodeLoss, trouble: null };
    const views = [rebuilding()];
    const input = { views, settled: views, pods, expectedPods: 3, ...under };
    const { state, conditions } = storeSummary(input);
    assert.equal(state, "Degraded");
    assert.equal(conditions[2]?.reason, "NodeLost");
    assert.equal(conditions[2]?.message, nodeLoss);
  });

  it("in sync: all of the pod's replicas vote, and something is known", () => {
    assert.equal(isInSync([], "resilver-0"), false);
    assert.equal(isInSync([wholeShard(), rebuilding(1)], "resilver-0"), true);
    assert.equal(isInSync([wholeShard(), rebuilding(1)], "resilver-2"), false);
    // A namespace that was just added keeps nobody from the others; alone it is no start.
    const added = shardViewOf([], { shard: 1, initialized: false });
    assert.equal(isInSync([wholeShard(), added], "resilver-0"), true);
    assert.equal(isInSync([added], "resilver-0"), false);
    // Nor while its first leader is elected.
    const floor = { term: -1, offset: -1 };
    const electing = { ...rebuilding(1), serving: false, commitFloor: floor };
    assert.equal(isInSync([wholeShard(), electing], "resilver-2"), true);
    assert.equal(isInSync([electing], "resilver-0"), false);
    assert.equal(isInSync([wholeShard()], "resilver-3"), true, "it holds no replica");
  });

  for (const reason of STOP_REASONS) {
    const distrusted = /^(Record|WrongStore)/u.test(reason);
    it(`in sync under ${reason}: ${distrusted ? "nobody can say" : "who votes, of the others"}`, () => {
      const stop = { reason, message: "x" };
      // What an operator that starts makes of a record that it cannot read.
      const floor = { term: -1, offset: -1 };
      const fresh = shardViewOf([], { shard: 1, initialized: false, commitFloor: floor, stop });
      const stale = { ...rebuilding(1), stop };
      for (const stopped of [fresh, stale]) {
        const said = isInSync([wholeShard(), stopped], "resilver-2");
        assert.equal(said, distrusted ? null : stopped === fresh);
        assert.equal(isInSync([rebuilding(), stopped], "resilver-2"), false, "another shard says");
      }
      assert.equal(isInSync([fresh], "resilver-0"), distrusted ? null : false);
    });
  }

  it("to be rebuilt: wiped, learning, or held back", () => {
    const views = [
      shardViewOf([
        replicaView("c", { role: "wiped" }),
        replicaView("b", { phase: "Deferred(Cooldown)" }),
        replicaView("a", { role: "learner" }),
        replicaView("d", { role: "leaving" }),
      ]),
    ];
    assert.deepEqual(rebuildingPods(views), ["a", "b", "c"]);
  });

  it("of a shard: votes of its ensemble, and the leader's commit offset", () => {
    const { voters, learners, commitOffset, state, replicas } = shardStatus(rebuilding());
    assert.deepEqual([voters, learners, commitOffset, state], ["2/3", 1, 1_000, "Available"]);
    assert.equal(replicas?.length, 3);
    assert.deepEqual(replicas?.[1]?.head, { term: 3, offset: 1_000 });
    const unheard = replicaView("resilver-2", { headTerm: -1, headOffset: -1 });
    const [told] = shardStatus(shardViewOf([unheard])).replicas ?? [];
    assert.equal(told?.head, undefined, "what is not known looks like no empty log");
    const headless = shardStatus({ ...rebuilding(), leader: null, serving: false });
    assert.deepEqual([headless.commitOffset, headless.state], [undefined, "NoLeader"]);
  });
});
