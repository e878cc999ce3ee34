/** What the record says after each decision: it is saved before anybody is told. */
import assert from "node:assert/strict";
import {
  hasQuorum,
  raiseTerm,
  standingOf,
  tally,
  withAckedTerm,
  withLeader,
  withRegressed,
  type FenceReply,
} from "../../../operator/core/election.ts";
import {
  withDesired,
  withJoint,
  withNext,
  withoutJoint,
  withoutMember,
  withoutNext,
} from "../../../operator/core/ensemble.ts";
import { DEFAULT_RECOVERY_POLICY } from "../../../operator/core/gates.ts";
import { withLearner, withPromoted } from "../../../operator/core/membership.ts";
import {
  memberOn,
  newRecord,
  type RecordMember,
  type ShardRecord,
} from "../../../operator/core/record.ts";

const voter = (node: string, change: Partial<RecordMember> = {}): RecordMember => ({
  node,
  replicaUid: `${node}1`,
  role: "voter",
  ackedTerm: 4,
  ackedBoot: 2,
  ...change,
});

/** Three voters in term 5, which `a` leads. */
function record(change: Partial<ShardRecord> = {}): ShardRecord {
  const ensemble = ["a", "b", "c"];
  return {
    ...newRecord({
      storeId: "s",
      namespace: "default",
      shard: 0,
      ensemble,
      replicationFactor: 3,
      keySorting: "hierarchical",
      notifications: false,
    }),
    initialized: true,
    term: 5,
    leader: { node: "a", uid: "a1", bootCounter: 2 },
    members: ensemble.map((node) => voter(node)),
    commitFloor: { term: 4, offset: 10 },
    ...change,
  };
}

const reply = (node: string, change: Partial<FenceReply> = {}): FenceReply => ({
  node,
  replicaUid: `${node}1`,
  bootCounter: 2,
  head: { term: 4, offset: 10 },
  previousTerm: 4,
  ...change,
});

const CHOICE = { leaderships: new Map<string, number>(), prefer: null, exclude: new Set<string>() };

describe("record: an election", () => {
  it("counts the recorded uid of a voter whose term and boots did not go back (R2, R3)", () => {
    const with4 = record({ members: [voter("a"), voter("b", { role: "learner" }), voter("c")] });
    const standing = (node: string, change: Partial<FenceReply> = {}): string =>
      standingOf(with4, reply(node, change));
    assert.equal(standing("a"), "counts");
    assert.equal(standing("a", { replicaUid: "a2" }), "ignored");
    assert.equal(standing("b"), "ignored");
    assert.equal(standing("z"), "ignored");
    assert.equal(standing("a", { previousTerm: 3 }), "regressed");
    assert.equal(standing("a", { previousTerm: 9, bootCounter: 1 }), "regressed");
    assert.equal(standing("a", { bootCounter: 3 }), "counts");
    const { ackedBoot: _ackedBoot, ...unknown } = voter("a");
    assert.equal(
      standingOf(record({ members: [unknown] }), reply("a", { bootCounter: 0 })),
      "counts",
    );
  });

  it("has its quorum from those only, of both sets of a change (R13)", () => {
    const all = ["a", "b"].map((node) => reply(node));
    assert.equal(hasQuorum(record(), all), true);
    assert.equal(hasQuorum(record(), all.slice(1)), false);
    const other = [reply("a"), reply("b", { replicaUid: "b2" })];
    assert.equal(hasQuorum(record(), other), false);
    const joint = record({
      members: ["a", "b", "c", "d"].map((node) => voter(node)),
      next: { ensemble: ["b", "c", "d"], joint: true },
    });
    assert.equal(hasQuorum(joint, all), false);
    assert.equal(hasQuorum(joint, [...all, reply("d")]), true);
  });

  it("raises term and floor before anybody is asked, and nobody leads meanwhile (R6)", () => {
    const raised = raiseTerm(record(), [
      { term: 4, offset: 12 },
      { term: 3, offset: 90 },
    ]);
    assert.deepEqual(
      [raised.term, raised.leader, raised.commitFloor],
      [6, null, { term: 4, offset: 12 }],
    );
    assert.deepEqual(raiseTerm(record(), [{ term: 4, offset: 9 }]).commitFloor, {
      term: 4,
      offset: 10,
    });
  });

  it("elects nobody below the floor (R6), and says who came nearest", () => {
    const replies = [
      reply("a", { head: { term: 4, offset: 9 } }),
      reply("b", { head: { term: 4, offset: 8 } }),
    ];
    const result = tally(record(), replies, CHOICE);
    assert.equal(result.kind === "belowFloor" && result.best.node, "a");
    // Whoever was to lead, and covers a majority as well, may hold less.
    const three = [...replies, reply("c", { head: { term: 4, offset: 7 } })];
    const preferred = tally(record(), three, { ...CHOICE, prefer: "b" });
    assert.equal(preferred.kind === "belowFloor" && preferred.best.node, "a");
  });

  it("does not call lost what only the one that is left out holds", () => {
    const replies = [
      reply("a"),
      reply("b", { head: { term: 4, offset: 8 } }),
      reply("c", { head: { term: 4, offset: 8 } }),
    ];
    const result = tally(record(), replies, { ...CHOICE, exclude: new Set("a") });
    assert.equal(result.kind, "noQuorum");
    const lost = replies.map((one) => ({ ...one, head: { term: 4, offset: 9 } }));
    assert.equal(tally(record(), lost, { ...CHOICE, exclude: new Set("a") }).kind, "belowFloor");
  });

  it("prefers whom it is told, then who stays, then the newest log, then its place", () => {
    const three = (change: Partial<ShardRecord> = {}, choice = {}): string => {
      const replies = [
        reply("a"),
        reply("b", { head: { term: 4, offset: 11 } }),
        reply("c", { head: { term: 4, offset: 11 } }),
      ];
      const result = tally(record(change), replies, { ...CHOICE, ...choice });
      return result.kind === "elected" ? result.leader.node : result.kind;
    };
    assert.equal(three(), "b");
    assert.equal(three({ desired: ["c", "b", "a"] }), "c");
    assert.equal(three({}, { prefer: "c" }), "c");
    // It does not hold what a majority may have acknowledged.
    assert.equal(three({}, { prefer: "a" }), "b");
    assert.equal(three({ next: { ensemble: ["a", "c"], joint: false } }), "c");
    assert.equal(three({}, { leaderships: new Map([["b", 1]]) }), "c");
  });

  it("notes who leads, who promised, and takes the vote of who went back (R3)", () => {
    const replies = [reply("a"), reply("b", { bootCounter: 7 }), reply("c", { previousTerm: 1 })];
    const result = tally(record(), replies, CHOICE);
    assert(result.kind === "elected");
    const after = withLeader(record(), result);
    assert.deepEqual(after.leader, { node: "a", uid: "a1", bootCounter: 2 });
    assert.deepEqual(memberOn(after, "b"), voter("b", { ackedTerm: 5, ackedBoot: 7 }));
    assert.deepEqual(memberOn(after, "c"), {
      node: "c",
      replicaUid: "c1",
      role: "learner",
      ackedTerm: -1,
      reason: "RolledBack",
    });
  });

  it("never takes a promise back, nor takes another uid's for it", () => {
    const before = record();
    assert.equal(withAckedTerm(before, reply("a", { replicaUid: "a2" })), before);
    assert.equal(withAckedTerm(before, reply("z")), before);
    const promised = record({ members: [voter("a", { ackedTerm: 5 })] });
    assert.equal(withAckedTerm(promised, reply("a", { bootCounter: 9 })), promised);
    const learner = record({ members: [voter("a", { role: "learner" })] });
    assert.equal(withRegressed(learner, "a"), learner);
    assert.equal(withRegressed(learner, "z"), learner);
  });
});

describe("record: a recovery", () => {
  const step = {
    kind: "recover",
    node: "b",
    oldUid: "b1",
    newUid: "b2",
    reason: "VolumeEmpty",
    counted: true,
  } as const;
  const target = { term: 5, offset: 20, crc: 7 };
  const learn = (before: ShardRecord, counted = true, nowMs = 1_000): RecordMember | undefined =>
    memberOn(
      withLearner(before, { ...step, counted }, target, DEFAULT_RECOVERY_POLICY, nowMs),
      "b",
    );

  it("makes the new uid a learner of this term that owes what the leader had (R4, R16)", () => {
    assert.deepEqual(learn(record()), {
      node: "b",
      replicaUid: "b2",
      role: "learner",
      ackedTerm: -1,
      enrolTerm: 5,
      target,
      reason: "VolumeEmpty",
      recoveries: 1,
      lastRecoveryAtMs: 1_000,
    });
  });

  it("counts recoveries of a node until it was well for long enough", () => {
    const members = [voter("b", { recoveries: 3, lastRecoveryAtMs: 1_000 })];
    const { cooldownResetMs } = DEFAULT_RECOVERY_POLICY;
    const at = (sinceMs: number, counted = true): unknown => {
      const after = learn(record({ members }), counted, 1_000 + sinceMs);
      return [after?.recoveries, after?.lastRecoveryAtMs];
    };
    assert.deepEqual(at(cooldownResetMs - 1), [4, 1_000 + cooldownResetMs - 1]);
    assert.deepEqual(at(cooldownResetMs), [1, 1_000 + cooldownResetMs]);
    assert.deepEqual(at(5, false), [3, 1_000]);
    assert.deepEqual(Object.keys(learn(record(), false) ?? {}).includes("recoveries"), false);
  });

  it("ends with a vote only in the term and for the uid of its enrolment (R16)", () => {
    const enrolled = voter("b", {
      role: "learner",
      ackedTerm: -1,
      enrolTerm: 5,
      target,
      reason: "VolumeEmpty",
    });
    const learning = (change: Partial<RecordMember> = {}, more: Partial<ShardRecord> = {}) =>
      record({ members: [voter("a"), { ...enrolled, ...change }, voter("c")], ...more });
    const after = withPromoted(learning(), "b", "b1", { term: 5, offset: 25 });
    assert(after !== null);
    assert.deepEqual(memberOn(after, "b"), voter("b", { ackedTerm: 5 }));
    assert.deepEqual(after.commitFloor, { term: 5, offset: 25 });
    assert.equal(after.next, undefined);
    assert.deepEqual(withPromoted(learning(), "b", "b1", null)?.commitFloor, record().commitFloor);
    const low = withPromoted(learning(), "b", "b1", { term: 4, offset: 2 });
    assert.deepEqual(low?.commitFloor, record().commitFloor);
    assert.equal(withPromoted(learning(), "b", "b9", null), null);
    assert.equal(withPromoted(learning(), "z", "b1", null), null);
    assert.equal(withPromoted(learning({ enrolTerm: 4 }), "b", "b1", null), null);
    assert.equal(withPromoted(learning({}, { leader: null }), "b", "b1", null), null);
    assert.equal(withPromoted(learning({ role: "voter" }), "b", "b1", null), null);
    assert.equal(withPromoted(learning({ role: "leaving" }), "b", "b1", null), null);
  });

  it("of an ensemble's new node ends with its vote and the joint state at once (R13)", () => {
    const enrolled = voter("d", { role: "learner", enrolTerm: 5, target });
    const joining = (joint: boolean): ShardRecord =>
      record({
        members: [...record().members, enrolled],
        next: { ensemble: ["a", "b", "d"], joint },
      });
    const after = withPromoted(joining(false), "d", "d1", null);
    assert.deepEqual([after?.next?.joint, after?.ensembleTerm], [true, 5]);
    assert.deepEqual(after?.ensemble, ["a", "b", "c"]);
    assert.equal(withPromoted(joining(true), "d", "d1", null)?.ensembleTerm, undefined);
    // A voter of the old set that recovers meanwhile starts nothing.
    const old = record({
      members: [voter("a"), voter("b", { role: "learner", enrolTerm: 5, target }), voter("c")],
      next: { ensemble: ["a", "b", "d"], joint: false },
    });
    assert.equal(withPromoted(old, "b", "b1", null)?.next?.joint, false);
  });
});

describe("record: a change of the ensemble (R13)", () => {
  const begun = withNext(record(), ["a", "b"]);

  it("is joint before it is over, and who leaves stays known until its data is gone", () => {
    assert.deepEqual(begun.next, { ensemble: ["a", "b"], joint: false });
    assert.equal(withoutJoint(begun, null), null);
    const joint = withJoint(begun, null);
    assert(joint !== null);
    assert.deepEqual([joint.next?.joint, joint.ensembleTerm], [true, 5]);
    assert.equal(withJoint(joint, null), null);
    assert.equal(withoutNext(joint), null);
    const after = withoutJoint(joint, null);
    assert(after !== null);
    assert.deepEqual([after.ensemble, after.next, after.ensembleTerm], [["a", "b"], undefined, 5]);
    assert.deepEqual(
      after.members.map(({ node, role }) => [node, role]),
      [
        ["a", "voter"],
        ["b", "voter"],
        ["c", "leaving"],
      ],
    );
    assert.equal(memberOn(withoutMember(after, "c"), "c"), undefined);
    assert.equal(withoutMember(after, "c").members.length, 2);
  });

  it("raises the floor to what the leader has committed, at both ends of the joint state (R6)", () => {
    const joint = withJoint(begun, { term: 5, offset: 25 });
    assert.deepEqual(joint?.commitFloor, { term: 5, offset: 25 });
    assert(joint !== null);
    assert.deepEqual(withoutJoint(joint, { term: 5, offset: 31 })?.commitFloor, {
      term: 5,
      offset: 31,
    });
    // Never down, and not without a leader that says what is committed.
    for (const committed of [null, { term: 4, offset: 9 }]) {
      assert.deepEqual(withJoint(begun, committed)?.commitFloor, begun.commitFloor);
      assert.deepEqual(withoutJoint(joint, committed)?.commitFloor, joint.commitFloor);
    }
  });

  it("can be given up while it is not joint; its new node leaves", () => {
    const joining = record({
      members: [...record().members, voter("d", { role: "learner" })],
      next: { ensemble: ["a", "b", "d"], joint: false },
    });
    const after = withoutNext(joining);
    assert.equal(after?.next, undefined);
    assert.deepEqual(
      after?.members.map(({ role }) => role),
      ["voter", "voter", "voter", "leaving"],
    );
    assert.equal(withoutNext(record()), null);
    assert.equal(withJoint(record(), null), null);
    assert.equal(withoutJoint(record(), null), null);
  });

  it("is wished for with nodes, each once", () => {
    assert.deepEqual(withDesired(record(), ["c"]).desired, ["c"]);
    assert.throws(() => withDesired(record(), []), RangeError);
    assert.throws(
      () => withDesired(record(), ["a", "a"]),
      /must name at least one node, each once/,
    );
  });
});
