/** What the conditions of a shard say, and what a person reads in them. */
import assert from "node:assert/strict";
import type { Observed } from "../../../operator/core/observed.ts";
import type { Plan } from "../../../operator/core/plan.ts";
import type { ShardRecord } from "../../../operator/core/record.ts";
import { shardView, type Condition, type ShardView } from "../../../operator/core/status.ts";
import { fed, NODES, observedOf, recordOf, replicaOf, voter } from "./shard-fixture.ts";

const QUIET: Plan = { actions: [], stop: null, deferrals: [], waiting: null };

interface Given {
  readonly record?: ShardRecord;
  readonly observed?: Observed;
  readonly plan?: Partial<Plan>;
}

function viewOf({ record, observed, plan }: Given = {}): ShardView {
  return shardView(record ?? recordOf(), observed ?? observedOf(), { ...QUIET, ...plan });
}

function condition(type: Condition["type"], given: Given = {}): Omit<Condition, "type"> {
  const found = viewOf(given).conditions.find((other) => other.type === type);
  assert.ok(found !== undefined);
  const { type: _type, ...rest } = found;
  return rest;
}

const down = (node: string): Observed => observedOf({ [node]: { reach: "down" } });

describe("a shard as people see it", () => {
  it("is its record, with who leads", () => {
    const record = recordOf({ lossEpoch: 2 });
    const { replicas, conditions, ...rest } = viewOf({ record });
    assert.deepEqual(rest, {
      namespace: "default",
      shard: 0,
      term: 5,
      generation: 3,
      lossEpoch: 2,
      leader: "a",
      serving: true,
      commitFloor: { term: 5, offset: 0 },
      ensemble: NODES,
      desired: NODES,
      stop: null,
      initialized: true,
      changing: false,
    });
    assert.deepEqual(
      replicas.map(({ node }) => node),
      NODES,
    );
    assert.deepEqual(
      conditions.map(({ type }) => type),
      ["Available", "Progressing", "Degraded"],
    );
  });

  it("shows every node of both sets, and members of none, once", () => {
    const record = recordOf({
      next: { ensemble: ["b", "c", "d"], joint: false },
      members: [...NODES.map((node) => voter(node)), voter("e", { role: "leaving" })],
    });
    const view = viewOf({ record });
    assert.deepEqual(
      view.replicas.map(({ node, role }) => `${node} ${role}`),
      ["a leader", "b voter", "c voter", "d none", "e leaving"],
    );
    assert.equal(view.changing, true);
  });

  it("serves only under a leader that does, and that feeds enough voters", () => {
    const leading = (serving: boolean): Given => ({
      observed: observedOf({ a: { replica: replicaOf("a", { serving }) } }),
    });
    assert.deepEqual(
      [viewOf(leading(true)).serving, viewOf(leading(false)).serving],
      [true, false],
    );
    assert.equal(viewOf({ observed: down("a") }).serving, false);
    assert.equal(viewOf({ record: recordOf({ leader: null }) }).leader, null);
    const cut = observedOf(
      { a: { replica: replicaOf("a", { followers: [] }) } },
      { leaderIdleMs: 5_000 },
    );
    assert.equal(viewOf({ observed: cut }).serving, false);
  });
});

describe("condition Available", () => {
  it("names who leads", () => {
    const led = { status: true, reason: "Led", message: "a leads term 5" };
    assert.deepEqual(condition("Available"), led);
    const observed = observedOf({ a: { replica: replicaOf("a", { serving: false }) } });
    assert.deepEqual(condition("Available", { observed }), { ...led, status: false });
  });

  it("says what a stop says, whoever leads", () => {
    const stop = { reason: "QuorumLost", message: "bring back a disk" } as const;
    const stopped = condition("Available", { plan: { stop } });
    assert.deepEqual(stopped, { status: false, ...stop });
    assert.deepEqual(viewOf({ plan: { stop } }).stop, stop);
  });

  it("says what is waited for when nobody leads; else that there is an election", () => {
    const lost: Given = { observed: down("a") };
    const none = { status: false, reason: "NoLeader", message: "election" };
    assert.deepEqual(condition("Available", lost), none);
    const waiting = condition("Available", { ...lost, plan: { waiting: "too few voters" } });
    assert.deepEqual(waiting, { ...none, message: "too few voters" });
    const record = recordOf({ initialized: false, leader: null, members: [] });
    assert.equal(condition("Available", { record }).reason, "NotStarted");
  });

  describe("under a leader that answers no write", () => {
    const feeding = (
      states: Readonly<Record<"b" | "c", Parameters<typeof fed>[1]>>,
      about: Partial<Observed>,
    ): Given => {
      const followers = [fed("b", states.b), fed("c", states.c)];
      return { observed: observedOf({ a: { replica: replicaOf("a", { followers }) } }, about) };
    };
    const DOWN = { state: "Down" };
    const behind = { state: "Snapshot" };

    it("names the voters that catch up, and why they do not come on", () => {
      const idle = condition("Available", feeding({ b: behind, c: DOWN }, { leaderIdleMs: 5_000 }));
      assert.deepEqual([idle.status, idle.reason], [false, "VotersBehind"]);
      assert.match(idle.message, /^a leads term 5 and .* by a snapshot: b; sooner/u);
      const failing = { ...behind, lastError: "no space" };
      const given = feeding({ b: failing, c: behind }, { leaderIdleMs: 5_000 });
      assert.match(condition("Available", given).message, /by a snapshot: b \(no space\), c;/u);
    });

    it("says that it is cut off when no voter catches up, or it has been for too long", () => {
      const alone = condition("Available", feeding({ b: DOWN, c: DOWN }, { leaderIdleMs: 5_000 }));
      assert.deepEqual([alone.status, alone.reason], [false, "LeaderIsolated"]);
      assert.match(alone.message, /^a leads term 5 and reaches too few voters/u);
      // The voters of one set alone catch up: it reaches no majority of the other.
      const five = [...NODES, "d", "e"];
      const followers = [fed("b", behind), ...["c", "d", "e"].map((node) => fed(node, DOWN))];
      const record = recordOf({ ensemble: five });
      const observed = observedOf(
        {
          a: { replica: replicaOf("a", { followers }) },
          c: { reach: "down" },
          d: { reach: "down" },
        },
        { leaderCutOffMs: 5_000, leaderIdleMs: 5_000 },
      );
      assert.equal(condition("Available", { record, observed }).reason, "LeaderIsolated");
    });

    it("says nothing of it before five seconds of it", () => {
      const given = feeding({ b: behind, c: DOWN }, { leaderIdleMs: 4_999 });
      assert.equal(condition("Available", given).reason, "Led");
    });

    it("does not count learners among the voters that catch up", () => {
      const members = [voter("a"), voter("b"), voter("c", { role: "learner", enrolTerm: 5 })];
      const { observed } = feeding({ b: behind, c: behind }, { leaderIdleMs: 5_000 });
      assert.ok(observed !== undefined);
      const idle = condition("Available", { record: recordOf({ members }), observed });
      assert.match(idle.message, /by a snapshot: b; sooner/u);
    });
  });
});

describe("condition Progressing", () => {
  const words = (given: Given): readonly unknown[] => {
    const { status, reason, message } = condition("Progressing", given);
    return [status, reason, message];
  };
  const change = recordOf({ next: { ensemble: ["b", "c", "d"], joint: true } });

  it("names the next step; else the change of members that is under way", () => {
    assert.deepEqual(words({}), [false, "Idle", "everything is as it ought to be"]);
    const actions = [{ kind: "openShard", node: "b" }, { kind: "leaveJoint" }] as const;
    const next = "the next step is";
    assert.deepEqual(words({ plan: { actions } }), [true, "openShard", `${next} openShard of b`]);
    const last = { actions: actions.slice(1) };
    assert.deepEqual(words({ plan: last }), [true, "leaveJoint", `${next} leaveJoint`]);
    const message = "the voters change from a, b, c to b, c, d";
    assert.deepEqual(words({ record: change }), [true, "EnsembleChange", message]);
  });

  it("says what is waited for", () => {
    const waiting = "a report";
    assert.deepEqual(words({ plan: { waiting } }), [false, "Waiting", waiting]);
    const actions = [{ kind: "openShard", node: "b" }] as const;
    assert.deepEqual(words({ plan: { actions, waiting } }), [true, "openShard", waiting]);
  });

  it("says that a stop ends all progress, and where a person reads on", () => {
    const stop = { reason: "QuorumLost", message: "bring back a disk" } as const;
    const actions = [{ kind: "openShard", node: "b" }] as const;
    const message =
      "QuorumLost: nothing more is done by itself; see runbooks/conditions/QuorumLost.md";
    assert.deepEqual(words({ plan: { stop, actions } }), [false, "Stopped", message]);
  });

  it("says which gate holds a rebuild back, without what moves all the time", () => {
    const held = { node: "b", reason: "VolumeEmpty", message: "goes on in 7 s" } as const;
    const cooling = { deferrals: [{ ...held, gate: "Cooldown" }] } as const;
    const waits = "the rebuild of b waits for the gate";
    for (const record of [recordOf(), change]) {
      assert.deepEqual(words({ record, plan: cooling }), [
        false,
        "RebuildDeferred",
        `${waits} Cooldown; see runbooks/gates/Cooldown.md`,
      ]);
    }
    const paused = { deferrals: [{ ...held, gate: "Paused", message: "order it" }] } as const;
    const message = `${waits} Paused: order it; see runbooks/gates/Paused.md`;
    assert.equal(words({ plan: paused })[2], message);
  });

  it("is not at rest while a replica is rebuilt, or is waited for", () => {
    const members = [voter("a"), voter("b", { role: "learner", enrolTerm: 5 }), voter("c")];
    const [status, reason, message] = words({ record: recordOf({ members }) });
    assert.deepEqual([status, reason], [true, "Rebuilding"]);
    assert.match(String(message), /^being rebuilt: b \(\w+\)$/u);
    const away = "waits for what does not vote: b (down)";
    assert.deepEqual(words({ observed: down("b") }), [false, "ReplicasNotVoting", away]);
  });
});

describe("condition Degraded", () => {
  it("is false while all replicas vote", () => {
    const whole = { status: false, reason: "AllVoting", message: "all replicas vote" };
    assert.deepEqual(condition("Degraded"), whole);
  });

  it("names who does not vote, with the last thing that went wrong", () => {
    const degraded = condition("Degraded", { observed: down("b") });
    const message = "not voting now: b";
    assert.deepEqual(degraded, { status: true, reason: "ReplicasNotVoting", message });
    const failing = { state: "Down", lastError: "connection refused" };
    const followers = [fed("b", failing), fed("c", { state: "Down" })];
    const observed = observedOf({ a: { replica: replicaOf("a", { followers }) } });
    const said = condition("Degraded", { observed }).message;
    assert.equal(said, "not voting now: b (connection refused), c");
  });

  it("leaves the reason to the recovery where there is one", () => {
    const followers = [fed("b", { state: "Down", lastError: "no space" }), fed("c")];
    const observed = observedOf({ a: { replica: replicaOf("a", { followers }) } });
    const members = [voter("a"), voter("b", { role: "learner", enrolTerm: 5 }), voter("c")];
    const said = condition("Degraded", { record: recordOf({ members }), observed }).message;
    assert.equal(said, "not voting now: b");
  });

  it("names how many copies there are of those that are wanted, as after a forced quorum", () => {
    const alone = { ensemble: ["a"], desired: NODES, members: [voter("a")] };
    const observed = observedOf({
      a: { replica: replicaOf("a", { followers: [] }) },
      b: { reach: "down" },
      c: { reach: "down" },
    });
    const message = "1 of 3 copies that are wanted; to come: b, c";
    const few = { status: true, reason: "FewerCopies", message };
    assert.deepEqual(condition("Degraded", { record: recordOf(alone), observed }), few);
    const next = { ensemble: ["a", "b"], joint: false };
    const changing = { record: recordOf({ ...alone, next }), observed };
    assert.deepEqual(condition("Degraded", changing), few);
    // As many as are wanted, elsewhere for now.
    const moving = condition("Degraded", { record: recordOf({ desired: ["b", "c", "d"] }) });
    assert.equal(moving.status, false);
  });
});
