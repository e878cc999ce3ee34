import assert from "node:assert/strict";
import { newRecord, type RecordMember, type ShardRecord } from "../../operator/core/record.ts";
import { VoterHistory } from "./voter-history.ts";

const NODES = ["a", "b", "c"];
const LEADER = { node: "a", uid: "a1", bootCounter: 1 };

/** Term 1, led by `a`; all vote but for what `more` says of them. */
function record(more: Readonly<Record<string, Partial<RecordMember>>> = {}): ShardRecord {
  const start = newRecord({
    storeId: "store",
    namespace: "default",
    shard: 0,
    ensemble: NODES,
    replicationFactor: 3,
    keySorting: "hierarchical",
    notifications: false,
  });
  const members = NODES.map((node): RecordMember => {
    return { node, replicaUid: `${node}1`, role: "voter", ackedTerm: 1, ...more[node] };
  });
  return { ...start, initialized: true, generation: 1, term: 1, leader: LEADER, members };
}

/** True when `a` may commit with `b`, whose identity there is this. */
function counts(history: VoterHistory, uid = "b1"): boolean {
  return history.quorum(1, (holder) => holder === "a1" || holder === uid);
}

describe("simulator: who may be counted", () => {
  const demoted = record({ b: { role: "learner", reason: "RolledBack" } });

  it("goes on to count a vote that was taken, until the leader is told", () => {
    const history = new VoterHistory();
    history.recordSaved(record());
    history.recordSaved(demoted);
    assert.ok(counts(history));
    history.recordSaved(demoted);
    assert.ok(counts(history), "it was not told by another save");
    history.discarded(1, "c1");
    assert.ok(counts(history), "it was told of another");
    history.discarded(1, "b1");
    assert.ok(!counts(history));
  });

  /** As the voter sets are while `d` takes the place of `c`. */
  const joint = (now: ShardRecord): ShardRecord => ({
    ...now,
    next: { ensemble: ["a", "b", "d"], joint: true },
  });

  it("goes on to count it where the voter sets change before the leader is told", () => {
    const history = new VoterHistory();
    history.recordSaved(record());
    history.recordSaved(demoted);
    history.recordSaved(joint(demoted));
    assert.ok(counts(history));
    history.discarded(1, "b1");
    assert.ok(!counts(history), "under no voter sets");
  });

  it("does not count it under the voter sets before, once the leader is told", () => {
    const history = new VoterHistory();
    history.recordSaved(record());
    history.recordSaved(joint(record()));
    history.recordSaved(joint(demoted));
    assert.ok(counts(history));
    history.discarded(1, "b1");
    assert.ok(!counts(history));
  });

  it("does not count one that is enrolled: its leader was told before", () => {
    const history = new VoterHistory();
    history.recordSaved(record());
    history.recordSaved(demoted);
    history.recordSaved(record({ b: { role: "learner", enrolTerm: 1 } }));
    assert.ok(!counts(history));
    history.recordSaved(record());
    assert.ok(counts(history), "it was promoted");
  });

  it("does not count one whose leader began without its vote", () => {
    const history = new VoterHistory();
    history.recordSaved({ ...record(), leader: null });
    history.recordSaved(demoted);
    assert.ok(!counts(history));
  });

  it("does not count an identity after the record names another there", () => {
    const history = new VoterHistory();
    history.recordSaved(record());
    history.recordSaved(record({ b: { replicaUid: "b2", role: "learner", enrolTerm: 1 } }));
    assert.ok(!counts(history));
    assert.ok(!counts(history, "b2"));
  });
});
