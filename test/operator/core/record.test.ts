/** The record as a store returns it: what is believed, and where it is wrong when it is not. */
import assert from "node:assert/strict";
import {
  memberOn,
  newRecord,
  parseRecord,
  RecordInvalid,
  shardKeyText,
  voterSets,
  withMember,
} from "../../../operator/core/record.ts";
import { isQuorum, voterSetsText } from "../../../operator/core/quorum.ts";
import { NODES, recordOf, voter } from "./shard-fixture.ts";

const TARGET = { term: 5, offset: 10, crc: 0 };

function invalid(value: unknown): RecordInvalid {
  try {
    parseRecord(value);
  } catch (error) {
    if (error instanceof RecordInvalid) return error;
    throw error;
  }
  throw new Error("it was believed");
}

describe("a record from a store", () => {
  const full = recordOf({
    ensembleTerm: 5,
    next: { ensemble: ["b", "c", "d"], joint: true },
    members: [
      voter("a", { pvcUids: { data: "d1", wal: "w1" } }),
      voter("b", {
        role: "learner",
        enrolTerm: 5,
        target: { term: 5, offset: 10, crc: 0xffff_ffff },
        reason: "Corrupt",
        recoveries: 1,
        lastRecoveryAtMs: 7,
      }),
      voter("c", { role: "leaving" }),
    ],
  });

  it("is believed with everything that may be in it", () => {
    assert.deepEqual(parseRecord(JSON.parse(JSON.stringify(full))), full);
    assert.equal(parseRecord({ ...full, leader: null }).leader, null);
  });

  it("is believed with what it starts from", () => {
    const start = {
      storeId: "s",
      namespace: "default",
      shard: 0,
      ensemble: NODES,
      replicationFactor: 3,
      keySorting: "natural",
      notifications: true,
    } as const;
    assert.deepEqual(parseRecord(newRecord(start)), {
      ...start,
      initialized: false,
      generation: 0,
      lossEpoch: 0,
      term: -1,
      leader: null,
      desired: NODES,
      members: [],
      commitFloor: { term: -1, offset: -1 },
    });
  });

  it("is refused with the place, and what is wrong there", () => {
    const cases: readonly (readonly [string, object])[] = [
      ["term", { term: -2 }],
      ["generation", { generation: -1 }],
      ["lossEpoch", { lossEpoch: -1 }],
      ["storeId", { storeId: "" }],
      ["namespace", { namespace: "" }],
      ["shard", { shard: -1 }],
      ["ensemble", { ensemble: [] }],
      ["ensemble.0", { ensemble: [""] }],
      ["desired", { desired: [] }],
      ["next.ensemble", { next: { ensemble: [], joint: false } }],
      ["replicationFactor", { replicationFactor: 0 }],
      ["members.0.target.crc", { members: [voter("a", { target: { ...TARGET, crc: -1 } })] }],
      ["members.0.target.crc", { members: [voter("a", { target: { ...TARGET, crc: 2 ** 32 } })] }],
      ["members.0.ackedBoot", { members: [voter("a", { ackedBoot: -1 })] }],
      ["members.0.recoveries", { members: [voter("a", { recoveries: -1 })] }],
      ["members.0.lastRecoveryAtMs", { members: [voter("a", { lastRecoveryAtMs: -1 })] }],
      ["members.0.pvcUids.wal", { members: [voter("a", { pvcUids: { data: "d", wal: "" } })] }],
    ];
    for (const [field, change] of cases) {
      const error = invalid({ ...recordOf(), ...change });
      assert.equal(error.field, field);
      assert.match(error.message, new RegExp(`^record: ${field}: .{8}`, "u"));
    }
  });

  it("is refused for what nobody wrote into it, in its parts too", () => {
    assert.equal(invalid({ ...recordOf(), surprise: 1 }).field, "surprise");
    const members = [{ ...voter("a"), surprise: 1 }];
    assert.equal(invalid({ ...recordOf(), members }).field, "members.0.surprise");
  });

  it("is refused when it is none at all", () => {
    for (const value of [null, undefined, 3, "record", []]) {
      assert.equal(invalid(value).field, "(record)");
    }
  });

  it("names a node once in each place", () => {
    const twice = ["a", "a"];
    const cases: readonly (readonly [string, object])[] = [
      ["ensemble", { ensemble: twice }],
      ["desired", { desired: twice }],
      ["next.ensemble", { next: { ensemble: twice, joint: false } }],
      ["members", { members: [voter("a"), voter("a", { replicaUid: "a2" })] }],
    ];
    for (const [field, change] of cases) {
      const error = invalid({ ...recordOf(), ...change });
      assert.equal(error.field, field);
      assert.match(error.message, /: a, a names a node twice$/u);
    }
  });

  it("is led by one of its members", () => {
    const leader = { node: "a", uid: "a2", bootCounter: 1 };
    assert.equal(invalid(recordOf({ leader })).field, "leader.uid");
  });
});

describe("the members of a record", () => {
  it("are one for each node", () => {
    const changed = withMember(recordOf(), voter("b", { replicaUid: "b2" }));
    assert.deepEqual(
      changed.members.map(({ replicaUid }) => replicaUid),
      ["a1", "b2", "c1"],
    );
    const more = withMember(recordOf(), voter("d"));
    assert.deepEqual(
      more.members.map(({ node }) => node),
      ["a", "b", "c", "d"],
    );
    assert.equal(memberOn(more, "d")?.replicaUid, "d1");
    assert.equal(memberOn(more, "z"), undefined);
  });
});

describe("the voter sets of a record (R13)", () => {
  const next = ["b", "c", "d"];

  it("are one, or both while a change is joint", () => {
    assert.deepEqual(voterSets(recordOf()), [NODES]);
    assert.deepEqual(voterSets(recordOf({ next: { ensemble: next, joint: false } })), [NODES]);
    assert.deepEqual(voterSets(recordOf({ next: { ensemble: next, joint: true } })), [NODES, next]);
  });

  it("have one name, however their nodes are ordered", () => {
    assert.equal(voterSetsText([["c", "a", "b"]]), "a,b,c");
    assert.equal(voterSetsText([NODES, next]), "a,b,c & b,c,d");
    assert.notEqual(voterSetsText([NODES, next]), voterSetsText([next, NODES]));
  });

  it("need a majority of each", () => {
    assert.equal(isQuorum([NODES], new Set(["a", "b", "z"])), true);
    assert.equal(isQuorum([NODES], new Set(["a", "z"])), false);
    assert.equal(isQuorum([NODES, next], new Set(["a", "b"])), false);
    assert.equal(isQuorum([NODES, next], new Set(["b", "c"])), true);
  });
});

describe("a shard", () => {
  it("is named by its namespace and number", () => {
    assert.equal(shardKeyText(recordOf({ namespace: "n", shard: 4 })), "n/4");
  });
});
