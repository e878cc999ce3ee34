/** What is done for each member under a leader, and what waits for a gate. */
import assert from "node:assert/strict";
import { DEFAULT_RECOVERY_POLICY } from "../../../operator/core/gates.ts";
import { withLearner } from "../../../operator/core/membership.ts";
import type { Observed, ObservedNode } from "../../../operator/core/observed.ts";
import { plan, type Plan } from "../../../operator/core/plan.ts";
import { memberOn, type RecordMember, type ShardRecord } from "../../../operator/core/record.ts";
import { MemberRole, type FollowerProgress } from "../../../sidecar/protocol/gen/resilver.ts";
import { fed, NODES, observedOf, recordOf, replicaOf, voter, withVoter } from "./shard-fixture.ts";

const TARGET = { term: 5, offset: 8, crc: 0 };

const learner = (node: string, change: Partial<RecordMember> = {}): RecordMember =>
  voter(node, { role: "learner", ackedTerm: -1, enrolTerm: 5, target: TARGET, ...change });

/** The leader feeds so, and `b` is so. */
function seen(
  followers: readonly FollowerProgress[],
  b: Partial<ObservedNode> = {},
  c: Partial<ObservedNode> = {},
): Observed {
  const leads = { replica: replicaOf("a", { followers: [...followers] }) };
  return observedOf({ a: leads, b, c });
}

function planned(record: ShardRecord, observed: Observed): Plan {
  return plan(record, observed, DEFAULT_RECOVERY_POLICY);
}

/** `kind node` of each action. */
function steps(record: ShardRecord, observed: Observed): readonly string[] {
  return planned(record, observed).actions.map((action) =>
    "node" in action ? `${action.kind} ${action.node}` : action.kind,
  );
}

const deferred = (record: ShardRecord, observed: Observed): readonly string[] =>
  planned(record, observed).deferrals.map(({ node, gate }) => `${node} ${gate}`);

const asLearner = (node: string, change: Partial<FollowerProgress> = {}): FollowerProgress =>
  fed(node, { role: MemberRole.LEARNER, ...change });

describe("membership: a voter", () => {
  it("is attached when the leader does not feed it, or met another replica there", () => {
    assert.deepEqual(steps(recordOf(), seen([fed("c")])), ["attach b"]);
    const met = seen([fed("b", { state: "NotMember" }), fed("c")]);
    assert.deepEqual(steps(recordOf(), met), ["attach b"]);
  });

  it("that was set back only loses its vote: nothing else is done for it before", () => {
    const back = seen([fed("c")], { replica: replicaOf("b", { rolledBack: true }) });
    assert.deepEqual(steps(recordOf(), back), ["demote b"]);
  });

  it("is not rebuilt as a replica that has no name yet", () => {
    const nameless = seen([fed("b"), fed("c")], { replica: replicaOf("b", { replicaUid: "" }) });
    assert.deepEqual(steps(recordOf(), nameless), []);
    assert.deepEqual(deferred(recordOf(), nameless), []);
  });

  it("that is away is rebuilt when the node itself shows what the leader met", () => {
    const met = (observedUid: string): Observed =>
      seen([fed("b", { observedUid }), fed("c")], { reach: "down" });
    assert.deepEqual(deferred(recordOf(), met("b2")), ["b StaleView"]);
    assert.deepEqual(deferred(recordOf(), met("b1")), []);
    assert.deepEqual(deferred(recordOf(), met("")), []);
    const { nodes, ...about } = met("b2");
    const unheard = { ...about, nodes: new Map([...nodes].filter(([node]) => node !== "b")) };
    assert.deepEqual(deferred(recordOf(), unheard), ["b StaleView"]);
  });
});

describe("membership: a learner", () => {
  it("is promoted when it reached its target, under its own enrolment", () => {
    const record = withVoter("b", learner("b"));
    const reached = [asLearner("b", { reachedTarget: true }), fed("c")];
    const enrolled = { replica: replicaOf("b", { enrolledTerm: 5 }) };
    assert.deepEqual(steps(record, seen(reached, enrolled)), ["promote b"]);
    // It does not show the enrolment: what it holds may be from before.
    assert.deepEqual(steps(record, seen(reached)), ["enrol b"]);
    assert.deepEqual(steps(record, seen([fed("c")], enrolled)), ["enrol b"]);
    assert.deepEqual(steps(record, seen([asLearner("b"), fed("c")], enrolled)), []);
  });

  it("begins again without a target, or in a new term, past gates that it has passed", () => {
    const { target: _target, ...aimless } = learner("b", { reason: "VolumeEmpty" });
    const record = recordOf({ members: [voter("a"), aimless, voter("c")] });
    const observed = seen([asLearner("b", { reachedTarget: true }), fed("c")]);
    const again = { ...DEFAULT_RECOVERY_POLICY, mode: "Paused" } as const;
    const kinds = (given: ShardRecord): readonly unknown[] =>
      plan(given, observed, again).actions.map((action) =>
        action.kind === "recover" ? [action.kind, action.counted] : action.kind,
      );
    assert.deepEqual(kinds(record), [["recover", false]]);
    const back = learner("b", { reason: "RolledBack", enrolTerm: 4 });
    assert.deepEqual(kinds(withVoter("b", back)), [["recover", false]]);
    // One that only lost its vote has passed none yet.
    const { enrolTerm: _enrolTerm, ...demoted } = back;
    const waiting = recordOf({ members: [voter("a"), demoted, voter("c")] });
    assert.deepEqual(kinds(waiting), []);
  });

  it("is promoted alone, while other things are done for others", () => {
    const both = recordOf({ members: [voter("a"), learner("b"), learner("c")] });
    const reached = { reachedTarget: true };
    const enrolled = (node: string): Partial<ObservedNode> => ({
      replica: replicaOf(node, { enrolledTerm: 5 }),
    });
    const all = [asLearner("b", reached), asLearner("c", reached)];
    assert.deepEqual(steps(both, seen(all, enrolled("b"), enrolled("c"))), ["promote b"]);
    assert.deepEqual(steps(both, seen(all, enrolled("b"))), ["promote b", "enrol c"]);
    assert.deepEqual(steps(both, seen(all, {}, enrolled("c"))), ["enrol b", "promote c"]);
  });
});

describe("membership: recoveries while nobody leads", () => {
  const other = { replica: replicaOf("b", { replicaUid: "b2" }) };

  it("are deferred, whether the leader is lost or none is recorded", () => {
    const down = observedOf({ a: { reach: "down" }, b: other });
    assert.deepEqual(deferred(recordOf(), down), ["b NoQuorumWithoutMember"]);
    const none = recordOf({ leader: null });
    assert.deepEqual(deferred(none, observedOf({ b: other })), ["b LeaderUnknown"]);
  });

  it("are none of members that leave", () => {
    const members = [...NODES.map((node) => voter(node)), voter("d", { role: "leaving" })];
    const record = recordOf({ leader: null, members });
    const observed = observedOf({ d: { replica: replicaOf("d", { replicaUid: "d2" }) } });
    assert.deepEqual(deferred(record, observed), []);
  });
});

describe("membership: the record of a recovery that goes on", () => {
  it("counts nothing, and makes no count up", () => {
    const step = {
      kind: "recover",
      node: "b",
      oldUid: "b1",
      newUid: "b1",
      reason: "Joining",
      counted: false,
    } as const;
    const learning = (before: RecordMember): RecordMember | undefined => {
      const record = withVoter("b", before);
      return memberOn(withLearner(record, step, TARGET, DEFAULT_RECOVERY_POLICY, 7), "b");
    };
    const fresh = {
      node: "b",
      replicaUid: "b1",
      role: "learner",
      ackedTerm: -1,
      enrolTerm: 5,
      target: TARGET,
      reason: "Joining",
    };
    assert.deepEqual(learning(learner("b")), fresh);
    const counts = { recoveries: 2, lastRecoveryAtMs: 3 };
    assert.deepEqual(learning(learner("b", counts)), { ...fresh, ...counts });
  });
});
