/**
 * Properties of the small decisions: quorums, elections, ensembles, hash ranges, gates, records.
 */
import assert from "node:assert/strict";
import fc from "fast-check";
import { compareEntryIds } from "../../../sidecar/protocol/entry.ts";
import { hashRange, shardAssignments, standIns } from "../../../operator/core/assignment.ts";
import { tally, type FenceReply } from "../../../operator/core/election.ts";
import { nextEnsemble } from "../../../operator/core/ensemble.ts";
import {
  DEFAULT_RECOVERY_POLICY,
  firstClosedGate,
  gateMessage,
  GATE_NAMES,
  type GateInput,
} from "../../../operator/core/gates.ts";
import {
  countLeaderships,
  defaultReplicationFactor,
  placeShard,
} from "../../../operator/core/placement.ts";
import { isQuorum, majority } from "../../../operator/core/quorum.ts";
import { newRecord, parseRecord, type ShardRecord } from "../../../operator/core/record.ts";

const NODES = ["a", "b", "c", "d", "e"];

function record(nodes: readonly string[], floor = { term: -1, offset: -1 }): ShardRecord {
  const start = newRecord({
    storeId: "s",
    namespace: "default",
    shard: 0,
    ensemble: nodes,
    replicationFactor: nodes.length,
    keySorting: "hierarchical",
    notifications: false,
  });
  const members = nodes.map((node) => ({
    node,
    replicaUid: `${node}1`,
    role: "voter" as const,
    ackedTerm: 0,
  }));
  return { ...start, initialized: true, members, commitFloor: floor };
}

describe("quorums", () => {
  it("any two intersect, of one set or of adjacent ones (I17)", () => {
    const some = fc.subarray(NODES);
    const ensemble = fc.shuffledSubarray(NODES, { minLength: 1 });
    fc.assert(
      fc.property(ensemble, ensemble, some, some, (from, to, one, two) => {
        const next = nextEnsemble(from, to);
        if (next === null) return;
        const old = new Set(one);
        const joint = new Set(two);
        // Old alone against joint, joint against new alone: what ever counts at the same time.
        for (const set of [from, next]) {
          if (!isQuorum([set], old) || !isQuorum([from, next], joint)) continue;
          assert.ok(set.some((node) => old.has(node) && joint.has(node)));
        }
      }),
    );
  });

  it("are more than half of the whole set", () => {
    for (let size = 1; size < 10; size += 1) {
      assert.ok(majority(size) * 2 > size && (majority(size) - 1) * 2 <= size);
    }
  });
});

describe("tally", () => {
  const replies = fc.subarray(NODES, { minLength: 1 }).chain((nodes) =>
    fc.tuple(
      ...nodes.map((node) =>
        fc.record({
          node: fc.constant(node),
          replicaUid: fc.oneof(
            { weight: 5, arbitrary: fc.constant(`${node}1`) },
            { weight: 1, arbitrary: fc.constant(`${node}2`) },
          ),
          bootCounter: fc.constant(1),
          head: fc.record({
            term: fc.integer({ min: -1, max: 3 }),
            offset: fc.integer({ min: -1, max: 5 }),
          }),
          previousTerm: fc.integer({ min: -1, max: 1 }),
        }),
      ),
    ),
  );

  it("elects only who holds everything that a majority acknowledged (I4, R2, R3, R6)", () => {
    const name = fc.option(fc.constantFrom(...NODES));
    const names = fc.subarray([...NODES], { maxLength: 2 });
    const floor = fc.record({
      term: fc.integer({ min: -1, max: 1 }),
      offset: fc.integer({ min: -1, max: 3 }),
    });
    fc.assert(
      fc.property(replies, name, names, floor, (answers, prefer, left, commitFloor) => {
        const exclude = new Set(left);
        const choice = { leaderships: new Map<string, number>(), prefer, exclude };
        const result = tally(record(NODES, commitFloor), answers, choice);
        if (result.kind !== "elected") return;
        const { leader } = result;
        assert.ok(leader.replicaUid === `${leader.node}1` && leader.previousTerm >= 0);
        assert.ok(!exclude.has(leader.node));
        assert.ok(compareEntryIds(leader.head, commitFloor) >= 0);
        const newer = (reply: FenceReply): boolean => compareEntryIds(reply.head, leader.head) > 0;
        // An acknowledged entry is on a majority; those with older heads than the leader are one.
        const counted = result.counted.filter((reply) => !newer(reply));
        assert.ok(counted.length >= 3, "a majority of five holds no more than the leader");
      }),
      { numRuns: 2_000 },
    );
  });

  it("never elects by fewer than a majority of the full ensemble, however few can vote", () => {
    const two = ["a", "b"].map((node) => ({
      node,
      replicaUid: `${node}1`,
      bootCounter: 1,
      head: { term: 0, offset: 9 },
      previousTerm: 0,
    }));
    const choice = {
      leaderships: new Map<string, number>(),
      prefer: null,
      exclude: new Set<string>(),
    };
    assert.equal(tally(record(NODES), two, choice).kind, "noQuorum");
    assert.equal(tally(record(["a", "b", "c"]), two, choice).kind, "elected");
  });

  describe("among equals", () => {
    const all = ["a", "b", "c"].map((node) => ({
      node,
      replicaUid: `${node}1`,
      bootCounter: 1,
      head: { term: 0, offset: 9 },
      previousTerm: 0,
    }));
    const leaderships = new Map([
      ["a", 2],
      ["b", 1],
      ["c", 2],
    ]);
    const elected = (prefer: string | null, loads = leaderships, of = record(["a", "b", "c"])) => {
      const result = tally(of, all, { leaderships: loads, prefer, exclude: new Set() });
      return result.kind === "elected" ? result.leader.node : result.kind;
    };

    it("elects the node that leads fewest", () => {
      assert.equal(elected(null), "b");
    });

    it("elects whom people prefer, whatever it leads", () => {
      assert.deepEqual(
        ["a", "b", "c"].map((node) => elected(node)),
        ["a", "b", "c"],
      );
    });

    it("elects in the order of what is desired, and last who is to leave", () => {
      const leaving = { ...record(["a", "b", "c"]), desired: ["c", "b"] };
      assert.equal(elected(null, new Map(), leaving), "c");
      const loads = new Map([["c", 1]]);
      assert.equal(elected(null, loads, leaving), "b");
    });
  });
});

describe("ensembles", () => {
  it("reach what is desired, one replica at a time", () => {
    const ensemble = fc.shuffledSubarray(NODES, { minLength: 1 });
    fc.assert(
      fc.property(ensemble, ensemble, (from, to) => {
        let now: readonly string[] = from;
        for (let step = 0; ; step += 1) {
          const next = nextEnsemble(now, to);
          if (next === null) break;
          assert.ok(step < 5, "it comes to an end");
          const added = next.filter((node) => !now.includes(node));
          const removed = now.filter((node) => !next.includes(node));
          assert.ok(added.length <= 1 && removed.length <= 1);
          now = next;
        }
        assert.deepEqual(now.toSorted(), to.toSorted());
      }),
    );
  });

  it("spread replicas and leaders evenly, and refuse the impossible", () => {
    const nodes = NODES.slice(0, 4);
    const placed = [0, 1, 2, 3].map((ordinal) => placeShard(nodes, ordinal, 3));
    for (const node of nodes) {
      assert.equal(placed.filter((ensemble) => ensemble[0] === node).length, 1);
      assert.equal(placed.filter((ensemble) => ensemble.includes(node)).length, 3);
    }
    assert.throws(() => placeShard(nodes, 0, 5), /replicationFactor: 5: allowed: 1 to 4/u);
    assert.throws(() => placeShard(nodes, 0, 0), /replicationFactor: 0: allowed: 1 to 4/u);
    assert.deepEqual(placeShard(nodes, 6, 4), ["c", "d", "a", "b"]);
    assert.deepEqual(placeShard(nodes, 0, 1), ["a"]);
    assert.deepEqual([0, 1, 2, 3, 4, 5].map(defaultReplicationFactor), [1, 1, 1, 3, 3, 5]);
  });

  it("are counted by who leads them", () => {
    const counts = countLeaderships(["a", "b", null, "a"]);
    assert.deepEqual(
      [...counts],
      [
        ["a", 2],
        ["b", 1],
      ],
    );
  });
});

describe("shard assignments", () => {
  it("cover every hash exactly once", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 5_000 }), (count) => {
        let next = 0;
        for (let index = 0; index < count; index += 1) {
          const { min, max } = hashRange(index, count);
          assert.equal(min, next);
          assert.ok(max >= min);
          next = max + 1;
        }
        assert.equal(next, 2 ** 32);
      }),
      { numRuns: 50 },
    );
  });

  it("leave out a namespace that has a shard without a leader", () => {
    const shard = { index: 0, shards: 1 };
    const { namespaces } = shardAssignments([
      { namespace: "led", shard: 0, ...shard, address: "h:1" },
      { namespace: "new", shard: 1, ...shard, address: null },
    ]);
    assert.deepEqual(Object.keys(namespaces), ["led"]);
  });

  it("tell of each shard where it is and which hashes it has, and of each address once", () => {
    const led = (shard: number, index: number, address: string) => ({
      namespace: "n",
      shard,
      index,
      shards: 2,
      address,
    });
    const other = { namespace: "m", shard: 9, index: 0, shards: 1, address: "z:1" };
    const told = shardAssignments([led(7, 0, "z:1"), led(8, 1, "a:1"), other]);
    assert.deepEqual(told.allowedAuthorities, ["a:1", "z:1"]);
    const hashes = (minHashInclusive: number, maxHashInclusive: number) => ({
      $case: "int32HashRange",
      value: { minHashInclusive, maxHashInclusive },
    });
    assert.deepEqual(told.namespaces["n"]?.assignments, [
      { shard: 7, leader: "z:1", shardBoundaries: hashes(0, 2 ** 31 - 1) },
      { shard: 8, leader: "a:1", shardBoundaries: hashes(2 ** 31, 2 ** 32 - 1) },
    ]);
    assert.deepEqual(told.namespaces["m"]?.assignments, [
      { shard: 9, leader: "z:1", shardBoundaries: hashes(0, 2 ** 32 - 1) },
    ]);
    const nobody = { ...led(7, 0, "z:1"), address: null };
    assert.deepEqual(shardAssignments([nobody]), { namespaces: {}, allowedAuthorities: [] });
  });

  it("send clients of an initialized shard without a leader to a voter, best one that is up", () => {
    const member = { replicaUid: "u", ackedTerm: 0 };
    const record = {
      initialized: true,
      ensemble: ["a", "b", "c"],
      members: [
        { ...member, node: "a", role: "learner" as const },
        { ...member, node: "b", role: "voter" as const },
        { ...member, node: "c", role: "voter" as const },
      ],
    };
    assert.deepEqual(
      standIns(record, () => "away"),
      ["b", "c", "a"],
    );
    assert.deepEqual(
      standIns(record, (node) => (node === "c" ? "answers" : "away")),
      ["c", "b", "a"],
    );
    assert.deepEqual(
      standIns(record, (node) => (node === "b" ? "stopped" : "away")),
      ["c", "a", "b"],
    );
    assert.deepEqual(
      standIns({ ...record, initialized: false }, () => "answers"),
      [],
    );
  });
});

describe("gates", () => {
  const open: GateInput = {
    node: "a",
    policy: DEFAULT_RECOVERY_POLICY,
    leader: "steady",
    quorumWithout: true,
    recoveringNodes: new Set(),
    ordered: false,
    recoveries: 0,
    lastRecoveryAtMs: null,
    nowMs: 1_000_000,
    volumeTerminating: false,
    confirmedByNode: true,
    roomBytes: 0,
    neededBytes: 2,
  };
  // What closes each, in the order of the list: the first closed one names the deferral.
  const closing: readonly Partial<GateInput>[] = [
    { policy: { ...DEFAULT_RECOVERY_POLICY, mode: "Manual" } },
    { leader: "lost", quorumWithout: false },
    { leader: "waiting" },
    { recoveringNodes: new Set(["b"]) },
    { recoveries: 1, lastRecoveryAtMs: 999_999 },
    { volumeTerminating: true },
    { confirmedByNode: false },
    { roomBytes: 1 },
  ];

  it("are tried in their order", () => {
    assert.equal(firstClosedGate(open), null);
    for (let first = 0; first < closing.length; first += 1) {
      const input = Object.assign({}, open, ...closing.slice(first).toReversed()) as GateInput;
      assert.equal(firstClosedGate(input), GATE_NAMES[first]);
    }
  });

  it("let the cooldown double, end, and not wait for a clock that went back", () => {
    const at = (recoveries: number, sinceMs: number): boolean =>
      firstClosedGate({ ...open, recoveries, lastRecoveryAtMs: open.nowMs - sinceMs }) === null;
    assert.deepEqual(
      [at(1, 9_999), at(1, 10_000), at(2, 19_999), at(2, 20_000), at(3, 40_000)],
      [false, true, false, true, true],
    );
    assert.ok(at(5, -1));
    const policy = { ...DEFAULT_RECOVERY_POLICY, cooldownMs: 0 };
    const input = { ...open, policy, recoveries: 9, lastRecoveryAtMs: open.nowMs };
    assert.equal(firstClosedGate(input), null);
  });

  it("let the cooldown begin with the first recovery, and end when they are counted anew", () => {
    const just = { ...open, lastRecoveryAtMs: open.nowMs };
    assert.equal(firstClosedGate({ ...just, recoveries: 0 }), null);
    assert.equal(firstClosedGate({ ...open, recoveries: 9, lastRecoveryAtMs: null }), null);
    const policy = { ...DEFAULT_RECOVERY_POLICY, cooldownMs: 900_000, cooldownResetMs: 10_000 };
    const since = (sinceMs: number): unknown =>
      firstClosedGate({
        ...open,
        policy,
        recoveries: 1,
        lastRecoveryAtMs: open.nowMs - sinceMs,
      });
    assert.deepEqual([since(9_999), since(10_000)], ["Cooldown", null]);
  });

  it("let the cooldown grow no longer than its limit", () => {
    const policy = { ...DEFAULT_RECOVERY_POLICY, cooldownMaxMs: 15_000 };
    const at = (sinceMs: number): unknown =>
      firstClosedGate({ ...open, policy, recoveries: 9, lastRecoveryAtMs: open.nowMs - sinceMs });
    assert.deepEqual([at(14_999), at(15_000)], ["Cooldown", null]);
  });

  it("let a person's order pass Manual and the cooldown, not Paused", () => {
    const manual = { ...DEFAULT_RECOVERY_POLICY, mode: "Manual" } as const;
    const paused = { ...DEFAULT_RECOVERY_POLICY, mode: "Paused" } as const;
    const cooling = { ...open, recoveries: 3, lastRecoveryAtMs: open.nowMs };
    assert.equal(firstClosedGate({ ...cooling, policy: manual }), "Paused");
    assert.equal(firstClosedGate({ ...cooling, policy: manual, ordered: true }), null);
    assert.equal(firstClosedGate({ ...open, policy: paused, ordered: true }), "Paused");
  });

  it("count by node: one that is being rebuilt may be in another shard, too", () => {
    const busy = { ...open, recoveringNodes: new Set(["a"]) };
    assert.equal(firstClosedGate(busy), null);
    assert.equal(firstClosedGate({ ...busy, node: "b" }), "RecoveryLimit");
    const policy = { ...DEFAULT_RECOVERY_POLICY, maxConcurrent: 2 };
    assert.equal(firstClosedGate({ ...busy, node: "b", policy }), null);
  });

  it("do without a majority where a leader holds everything (R16)", () => {
    assert.equal(firstClosedGate({ ...open, quorumWithout: false }), null);
    const lost = { ...open, leader: "lost" } as const;
    assert.equal(firstClosedGate({ ...lost, quorumWithout: true }), "LeaderUnknown");
  });

  it("ask for room only where it is known, for as much as is needed", () => {
    const room = (roomBytes: number): unknown => firstClosedGate({ ...open, roomBytes });
    assert.deepEqual([room(0), room(1), room(2)], [null, "NotEnoughSpace", null]);
  });

  it("tell people what to do about them", () => {
    const manual = { ...DEFAULT_RECOVERY_POLICY, mode: "Manual" } as const;
    const paused = { ...DEFAULT_RECOVERY_POLICY, mode: "Paused" } as const;
    assert.match(gateMessage("Paused", { ...open, policy: manual }), /ReplicaRecovery/u);
    assert.match(gateMessage("Paused", { ...open, policy: paused }), /set it to Automatic/u);
    const cooling = { ...open, recoveries: 1, lastRecoveryAtMs: open.nowMs - 7_500 };
    assert.match(gateMessage("Cooldown", cooling), /^rebuilt 1 times before; goes on in 3 s\./u);
    const busy = { ...open, recoveringNodes: new Set(["b"]) };
    assert.match(gateMessage("RecoveryLimit", busy), /^1 of at most 1 nodes/u);
  });
});

describe("record", () => {
  it("comes back from JSON as it was", () => {
    const before = record(["a", "b", "c"]);
    assert.deepEqual(parseRecord(JSON.parse(JSON.stringify(before))), before);
  });

  it("is refused with the name of the field", () => {
    const good = record(["a", "b", "c"]);
    const bad: readonly (readonly [string, object])[] = [
      ["term", { term: 1.5 }],
      ["members.0.role", { members: [{ ...good.members[0], role: "king" }] }],
      ["members.0.replicaUid", { members: [{ ...good.members[0], replicaUid: "" }] }],
      ["ensemble", { ensemble: ["a", "a"] }],
      ["members", { members: [good.members[0], good.members[0]] }],
      ["leader.uid", { leader: { node: "a", uid: "stranger", bootCounter: 1 } }],
      ["commitFloor.offset", { commitFloor: { term: 0, offset: -2 } }],
      ["surprise", { surprise: 1 }],
      ["keySorting", { keySorting: "random" }],
    ];
    for (const [field, change] of bad) {
      assert.throws(() => parseRecord({ ...good, ...change }), { name: "RecordInvalid", field });
    }
    assert.throws(() => parseRecord(null), { name: "RecordInvalid", field: "(record)" });
  });
});
