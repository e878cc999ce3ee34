/** Whether the recorded leader still leads, and who could be elected without it. */
import assert from "node:assert/strict";
import {
  cannotCommit,
  couldElect,
  followerAt,
  isClaimReplaced,
  isCutOff,
  isFed,
  isIdle,
  isIsolated,
  isSuspect,
  isWiped,
  judgeLeader,
  shardNodes,
  voterReach,
  type Observed,
  type ObservedNode,
} from "../../../operator/core/observed.ts";
import type { ShardRecord } from "../../../operator/core/record.ts";
import { MemberRole, ServingStatus } from "../../../sidecar/protocol/gen/resilver.ts";
import {
  fed,
  NODES,
  nodeOf,
  observedOf,
  recordOf,
  replicaOf,
  voter,
  withVoter,
} from "./shard-fixture.ts";

type Change = NonNullable<Parameters<typeof replicaOf>[1]>;

/** The leader's node changed so. */
const leader = (change: Change, about: Partial<Observed> = {}): Observed =>
  observedOf({ a: { replica: replicaOf("a", change) } }, about);

function judged(observed: Observed, record: ShardRecord = recordOf()): string {
  const judgement = judgeLeader(record, observed);
  return judgement.state === "lost" ? judgement.why : judgement.state;
}

describe("the recorded leader", () => {
  it("is steady while the same process leads the recorded term", () => {
    const judgement = judgeLeader(recordOf(), observedOf());
    assert.deepEqual(judgement, { state: "steady", replica: replicaOf("a") });
  });

  it("is lost when its node is known to be gone, not when nothing is known of it", () => {
    const reach = (value: ObservedNode["reach"]): string =>
      judged(observedOf({ a: { reach: value } }));
    assert.deepEqual(
      [reach("down"), reach("silent"), reach("unknown")],
      ["LeaderDown", "LeaderSilent", "waiting"],
    );
    assert.equal(judged({ ...observedOf(), nodes: new Map() }), "waiting");
    assert.equal(judged(observedOf(), recordOf({ leader: null })), "NoLeader");
  });

  it("is lost when another process, replica or no replica answers there (R16)", () => {
    assert.equal(judged(observedOf({ a: { replica: null } })), "LeaderRestarted");
    assert.equal(judged(leader({ bootCounter: 2 })), "LeaderRestarted");
    assert.equal(judged(leader({ replicaUid: "a2" })), "LeaderWiped");
  });

  it("is lost with its log or its disk", () => {
    assert.equal(judged(leader({ fault: "checksum" })), "LeaderFaulty");
    assert.equal(judged(leader({ stalledMs: 5_000 })), "LeaderStalled");
    assert.equal(judged(leader({ stalledMs: 4_999 })), "steady");
  });

  it("is lost when it does not lead the term, unless its report may be older than the election", () => {
    const changes = [
      { status: ServingStatus.FENCED },
      { term: 4 },
      { bootCounter: 0 },
    ] as const satisfies readonly Change[];
    for (const change of changes) {
      assert.equal(judged(leader(change)), "LeaderNotLeading");
      assert.equal(judged(leader(change, { leaderSettling: true })), "waiting");
    }
  });
});

describe("a leader that reaches too few voters", () => {
  const feeding = (b: string, c: string, about: Partial<Observed> = {}): Observed =>
    leader({ followers: [fed("b", { state: b }), fed("c", { state: c })] }, about);

  it("is cut off by its own current report, in its term, only", () => {
    const record = recordOf();
    const none = { followers: [] };
    assert.equal(isCutOff(record, leader(none)), true);
    assert.equal(isCutOff(record, feeding("Down", "Stream")), false);
    assert.equal(isCutOff(record, feeding("Down", "Probe")), true);
    assert.equal(
      isCutOff(record, observedOf({ a: { replica: replicaOf("a", none), reach: "down" } })),
      false,
    );
    assert.equal(isCutOff(record, leader({ ...none, replicaUid: "a2" })), false);
    assert.equal(isCutOff(record, leader({ ...none, term: 4 })), false);
    assert.equal(isCutOff(record, leader({ ...none, status: ServingStatus.FENCED })), false);
    assert.equal(isCutOff(recordOf({ leader: null }), leader(none)), false);
    assert.equal(isCutOff(record, { nodes: new Map() }), false);
  });

  it("is not saved by learners, nor by voters of one set of a change alone (R13)", () => {
    const learner = withVoter("b", { role: "learner" });
    assert.equal(isCutOff(learner, feeding("Stream", "Down")), true);
    const joint = recordOf({
      members: [...NODES, "d"].map((node) => voter(node)),
      next: { ensemble: ["b", "c", "d"], joint: true },
    });
    assert.equal(isCutOff(joint, feeding("Stream", "Down")), true);
    assert.equal(isCutOff(joint, feeding("Stream", "Stream")), false);
  });

  it("answers no write while its voters are sent snapshots, though it reaches them", () => {
    const observed = feeding("Snapshot", "Down");
    assert.deepEqual(
      [cannotCommit(recordOf(), observed), isCutOff(recordOf(), observed)],
      [true, false],
    );
    assert.equal(cannotCommit(recordOf(), feeding("NoSpace", "Down")), false);
    const states = ["Stream", "NoSpace", "Snapshot", "Probe", "Down"];
    assert.deepEqual(
      states.map((state) => isFed(fed("b", { state }))),
      [true, true, true, false, false],
    );
    assert.equal(isFed(undefined), false);
  });

  it("is taken for that after five seconds of it", () => {
    const cut = (leaderCutOffMs: number): Observed => feeding("Down", "Down", { leaderCutOffMs });
    assert.deepEqual(
      [isIsolated(recordOf(), cut(4_999)), isIsolated(recordOf(), cut(5_000))],
      [false, true],
    );
    assert.equal(isIsolated(recordOf(), observedOf({}, { leaderCutOffMs: 9_000 })), false);
    const idle = (leaderIdleMs: number): Observed => feeding("Snapshot", "Down", { leaderIdleMs });
    assert.deepEqual(
      [isIdle(recordOf(), idle(4_999)), isIdle(recordOf(), idle(5_000))],
      [false, true],
    );
    assert.equal(isIdle(recordOf(), observedOf({}, { leaderIdleMs: 9_000 })), false);
  });

  it("is replaced only where the others could elect one without it (R16)", () => {
    const cut = { followers: [] };
    const about = { leaderCutOffMs: 5_000 };
    assert.equal(judged(leader(cut, about)), "LeaderIsolated");
    assert.equal(judged(leader(cut)), "steady");
    const alone = observedOf({ a: { replica: replicaOf("a", cut) }, b: { reach: "down" } }, about);
    assert.equal(judged(alone), "steady");
  });

  it("is not replaced in a pair: there the other one is no majority without it", () => {
    const pair = recordOf({ ensemble: ["a", "b"] });
    const observed = leader({ followers: [] }, { leaderCutOffMs: 5_000 });
    assert.equal(judged(observed, pair), "steady");
  });

  it("is lost for what else is wrong with it first", () => {
    const faulty = { followers: [], fault: "checksum" };
    assert.equal(judged(leader(faulty, { leaderCutOffMs: 5_000 })), "LeaderFaulty");
  });

  it("feeds a voter only where the record has it: a copy of its volume is another", () => {
    const copied = replicaOf("a", { followers: [fed("c", { replicaUid: "b1" })] });
    assert.equal(followerAt(copied, voter("b")), undefined);
  });
});

describe("who could elect", () => {
  const could = (nodes: readonly string[], exclude: string | null, record = recordOf()): boolean =>
    couldElect(record, new Set(nodes), new Set(exclude));

  it("is a majority of each set, without whom is to be excluded", () => {
    assert.equal(could(["b", "c"], "a"), true);
    assert.equal(could(["a", "b"], "a"), false);
    assert.equal(could(["a", "b"], null), true);
    const next = { ensemble: ["b", "c", "d"], joint: true };
    assert.equal(could(["a", "b"], null, recordOf({ next })), false);
    assert.equal(could(["a", "b", "d"], null, recordOf({ next })), true);
  });

  it("is, of a pair, both: whoever leaves has to promise too", () => {
    const pair = recordOf({ ensemble: ["a", "b"] });
    assert.equal(could(["a", "b"], "a", pair), true);
    assert.equal(could(["b"], "a", pair), false);
  });
});

describe("who is there", () => {
  const reach = (changes: Parameters<typeof observedOf>[0], record = recordOf()): string => {
    const { intact, reachable, unknown } = voterReach(record, observedOf(changes));
    return [intact, reachable, unknown].map((nodes) => [...nodes].join("")).join("/");
  };

  it("all voters, at best", () => {
    assert.equal(reach({}), "abc/abc/");
  });

  it("intact, not reachable: away, not heard of, faulty, or with a disk that hangs", () => {
    assert.equal(reach({ b: { reach: "down" } }), "abc/ac/");
    assert.equal(reach({ b: { reach: "unknown" } }), "abc/ac/b");
    assert.equal(reach({ b: { replica: null } }), "abc/ac/");
    assert.equal(reach({ b: { replica: replicaOf("b", { fault: "checksum" }) } }), "abc/ac/");
    assert.equal(reach({ b: { replica: replicaOf("b", { stalledMs: 5_000 }) } }), "abc/ac/");
  });

  it("nowhere: learners, the wiped, those set back (R2, R3)", () => {
    assert.equal(reach({}, withVoter("b", { role: "learner" })), "ac/ac/");
    assert.equal(reach({ b: { replica: replicaOf("b", { replicaUid: "b2" }) } }), "ac/ac/");
    assert.equal(reach({ b: { replica: replicaOf("b", { rolledBack: true }) } }), "ac/ac/");
  });

  it("of a voter that no node is known for: intact, not heard of", () => {
    const { unknown, intact } = voterReach(recordOf(), {
      ...observedOf(),
      nodes: new Map([["a", nodeOf("a")]]),
    });
    assert.deepEqual([[...intact].join(""), [...unknown].join("")], ["abc", "bc"]);
  });

  it("a replica without a name yet is not taken for another one", () => {
    const nameless = observedOf({ b: { replica: replicaOf("b", { replicaUid: "" }) } });
    assert.equal(isWiped(nameless, voter("b")), false);
  });
});

describe("a voter under suspicion (R3)", () => {
  const suspect = (
    change: Change,
    member: Parameters<typeof withVoter>[1] = {},
    about: Partial<ObservedNode> = {},
  ): boolean => {
    const record = withVoter("b", member);
    const observed = observedOf({ b: { replica: replicaOf("b", change), ...about } });
    return isSuspect(record, observed, voter("b", member));
  };

  it("says so itself, or is a later process below the term that it promised", () => {
    assert.equal(suspect({}), false);
    assert.equal(suspect({ rolledBack: true }), true);
    assert.equal(suspect({ bootCounter: 2, term: 4 }), true);
    // The report may be older than the promise.
    assert.equal(suspect({ bootCounter: 1, term: 4 }), false);
    assert.equal(suspect({ bootCounter: 2, term: 5 }), false);
    const { ackedBoot: _ackedBoot, ...unknown } = voter("b");
    const late = observedOf({ b: { replica: replicaOf("b", { bootCounter: 9, term: 1 }) } });
    assert.equal(isSuspect(recordOf(), late, unknown), false);
  });

  it("is a voter that the record holds to something, with the recorded uid", () => {
    assert.equal(suspect({ rolledBack: true }, { ackedTerm: -1 }), false);
    assert.equal(suspect({ rolledBack: true }, { role: "learner" }), false);
    assert.equal(suspect({ rolledBack: true, replicaUid: "b2" }), false);
  });

  it("lies on another claim than the record says, while it is here to show it", () => {
    const member = { pvcUids: { data: "d1", wal: "w1" } };
    const on = (data: string, wal: string, reach: ObservedNode["reach"] = "up"): boolean =>
      suspect({}, member, { claims: { data, wal }, reach });
    assert.equal(on("d1", "w1"), false);
    assert.equal(on("d2", "w1"), true);
    assert.equal(on("d1", "w2"), true);
    assert.equal(on("d2", "w2", "down"), false);
    assert.equal(suspect({}, member), false, "the claims are not known");
    assert.equal(suspect({}, {}, { claims: { data: "d2", wal: "w2" } }), false);
    const claims = { data: "d2", wal: "w2" };
    assert.equal(suspect({}, { ...member, role: "learner" }, { claims }), false);
    assert.equal(suspect({ replicaUid: "b2" }, member, { claims }), false);
  });

  it("is not on another claim while its node is away, or was never heard of", () => {
    const member = voter("b", { pvcUids: { data: "d1", wal: "w1" } });
    const claims = { data: "d2", wal: "w2" };
    const replaced = (observed: Observed): boolean => isClaimReplaced(observed, member);
    assert.equal(replaced(observedOf({ b: { claims } })), true);
    assert.equal(replaced(observedOf({ b: { claims, reach: "down" } })), false);
    assert.equal(replaced({ ...observedOf(), nodes: new Map() }), false);
  });

  it("lost what it had acknowledged, by its leader's word in this very term", () => {
    const told = (change: Change, record = recordOf(), member = voter("b")): boolean =>
      isSuspect(
        record,
        leader({
          followers: [fed("b", { state: "Regressed", role: MemberRole.VOTER })],
          ...change,
        }),
        member,
      );
    assert.equal(told({}), true);
    assert.equal(told({ term: 4 }), false);
    assert.equal(told({ replicaUid: "a2" }), false);
    assert.equal(told({}, recordOf({ leader: null })), false);
    assert.equal(told({}, recordOf(), voter("b", { role: "learner" })), false);
    assert.equal(told({}, recordOf(), voter("c")), false);
    assert.equal(isSuspect(recordOf(), observedOf({ a: { replica: null } }), voter("b")), false);
  });
});

describe("nodes that should have the shard open", () => {
  it("are those of both sets and of members, but for those that leave", () => {
    const record = recordOf({
      next: { ensemble: ["b", "c", "d"], joint: false },
      members: [...NODES.map((node) => voter(node)), voter("e", { role: "learner" })],
    });
    assert.deepEqual(shardNodes(record), ["a", "b", "c", "d", "e"]);
    const leaving = recordOf({
      members: [voter("a"), voter("b", { role: "leaving" }), voter("f", { role: "leaving" })],
    });
    assert.deepEqual(shardNodes(leaving), ["a", "c"]);
  });
});
