import assert from "node:assert/strict";
import type { Effect } from "../../../sidecar/core/effect.ts";
import type { Leader } from "../../../sidecar/core/leader.ts";
import type { Replica } from "../../../sidecar/core/replica.ts";
import { LogEntryValue, MemberRole } from "../../../sidecar/protocol/gen/resilver.ts";
import {
  answer,
  LEAD,
  leading,
  member,
  order,
  persist,
  serving,
  sync,
} from "./coordinator-orders.ts";
import { head, kinds, only } from "./following-replica.ts";

const leaderOf = (core: Replica): Leader => {
  assert(core.leader !== null);
  return core.leader;
};

const commitOf = (core: Replica): number => core.state.commit;

/** The follower of a cursor holds everything up to here. */
const acks = (core: Replica, cursorId: number, ackOffset: number): readonly Effect[] => {
  const cursor = leaderOf(core).cursorById(cursorId);
  if (cursor?.state === "connecting") core.step({ kind: "cursorOpened", cursorId });
  return answer(core, cursorId, { ackOffset, synced: true });
};

const learner = (node: string, offset: number): ReturnType<typeof member> =>
  member(node, MemberRole.LEARNER, { target: { ...head([]), offset } });

const write = (core: Replica, id: number): readonly Effect[] =>
  core.step({ kind: "propose", id, value: Uint8Array.of(10, 0), nowMs: 1 });

describe("replication core: who counts for a leader", () => {
  it("voters only: what a learner holds commits nothing (R2, I11)", () => {
    const core = leading({}, { members: [member("a"), learner("c", 9)] });
    sync(core);
    acks(core, 2, 0);
    assert.equal(commitOf(core), -1);
    assert.equal(leaderOf(core).tracker.isVoter("c"), false);
    assert.equal(only(acks(core, 1, 0), "reply").id, 2);
    assert.equal(commitOf(core), 0);
  });

  it("itself once its own log is durable, not before", () => {
    const core = leading();
    acks(core, 1, 0);
    assert.equal(commitOf(core), -1);
    sync(core);
    assert.equal(commitOf(core), 0);
  });

  it("no entry of an older term by itself (R7, H2)", () => {
    const core = leading({ terms: [1, 1] });
    sync(core);
    acks(core, 1, 1);
    assert.equal(commitOf(core), -1);
    acks(core, 1, 2);
    assert.equal(commitOf(core), 2);
  });

  it("not who was made a learner again, until it holds its new target (R16)", () => {
    const core = serving();
    const effects = order(core, "addFollower", { term: 3, member: learner("a", 1) });
    assert.equal(only(effects, "closeCursor").cursorId, 1);
    assert.equal(only(effects, "openCursor").cursorId, 3);
    assert.equal(leaderOf(core).tracker.isVoter("a"), false);
    write(core, 9);
    sync(core);
    acks(core, 3, 1);
    assert.equal(commitOf(core), 0);
    order(core, "promote", { term: 3, node: "a", replicaUid: "a1" });
    assert.equal(commitOf(core), 1);
  });

  it("not what another uid of the node had acknowledged (R4, H12)", () => {
    const core = serving();
    write(core, 9);
    acks(core, 1, 1);
    const other = member("a", MemberRole.VOTER, { replicaUid: "a2" });
    const effects = order(core, "addFollower", { term: 3, member: other });
    assert.equal(only(effects, "closeCursor").cursorId, 1);
    assert.equal(leaderOf(core).tracker.ackedBy("a"), -1);
    sync(core);
    assert.equal(commitOf(core), 0);
  });

  it("a member that is named again as it was: nothing changes", () => {
    const core = serving();
    const effects = order(core, "addFollower", { term: 3, member: member("a") });
    assert.deepEqual(kinds(effects), ["reply"]);
    assert.equal(leaderOf(core).tracker.ackedBy("a"), 0);
  });

  it("who is named as a voter, with what it holds by then", () => {
    const core = leading({}, { members: [learner("a", 5), member("c")] });
    sync(core);
    acks(core, 1, 0);
    assert.equal(commitOf(core), -1);
    order(core, "addFollower", { term: 3, member: learner("a", 7) });
    assert.equal(leaderOf(core).cursors.get("a")?.target?.offset, 7);
    order(core, "addFollower", { term: 3, member: member("a") });
    assert.equal(leaderOf(core).cursors.get("a")?.target?.offset, 7);
    assert.equal(leaderOf(core).tracker.ackedBy("a"), 0);
    assert.equal(leaderOf(core).cursors.get("a")?.voter, true);
  });

  it("a cursor that is down is opened at once when its member is named again", () => {
    const core = serving();
    core.step({ kind: "cursorClosed", cursorId: 1, reason: "gone", observedUid: null, nowMs: 5 });
    const effects = order(core, "addFollower", { term: 3, member: member("a") });
    assert.equal(only(effects, "openCursor").cursorId, 1);
  });
});

describe("replication core: a promotion", () => {
  const promote = (core: Replica, replicaUid: string, node = "a"): readonly Effect[] =>
    order(core, "promote", { term: 3, node, replicaUid });
  const recovering = (): Replica => {
    const core = leading({}, { members: [learner("a", 1), member("c")] });
    sync(core);
    acks(core, 2, 0);
    write(core, 9);
    sync(core);
    return core;
  };

  it("is refused for a node without a cursor and for another uid of it", () => {
    const core = recovering();
    acks(core, 1, 1);
    for (const effects of [promote(core, "a2"), promote(core, "z1", "z")]) {
      const { refusal } = only(effects, "refuse");
      assert.equal(refusal.reason, "INVALID_STATUS");
      assert.match(refusal.metadata["uid"] ?? "", /^[az]/);
    }
    assert.equal(leaderOf(core).tracker.isVoter("a"), false);
  });

  it("is refused below its target, or without one, and counts at once when it is reached (R16)", () => {
    const core = recovering();
    acks(core, 1, 0);
    const { refusal } = only(promote(core, "a1"), "refuse");
    assert.deepEqual(refusal.metadata, { ackOffset: "0", target: "1" });
    acks(core, 1, 1);
    assert.equal(commitOf(core), 0);
    const effects = promote(core, "a1");
    assert.deepEqual(kinds(effects), ["apply", "reply"]);
    assert.equal(commitOf(core), 1);
    assert.deepEqual(kinds(promote(core, "a1")), ["reply"]);
    const bare = leading({}, { members: [member("a", MemberRole.LEARNER), member("c")] });
    acks(bare, 1, 0);
    assert.equal(only(promote(bare, "a1"), "refuse").refusal.metadata["target"], "none");
  });

  it("of who votes already asks for nothing", () => {
    const core = leading();
    assert.deepEqual(kinds(promote(core, "a1")), ["reply"]);
  });
});

describe("replication core: what waits for a commit", () => {
  const change = (core: Replica, sets: readonly string[][], id: number): readonly Effect[] =>
    order(core, "updateEnsemble", { term: 3, voterSets: sets.map((nodes) => ({ nodes })) }, id);

  it("is answered when its own entry is committed, and once (R13)", () => {
    const core = leading();
    change(
      core,
      [
        ["a", "b", "c"],
        ["a", "b"],
      ],
      8,
    );
    sync(core);
    const first = acks(core, 1, 0);
    assert.equal(only(first, "reply").id, 2);
    const second = acks(core, 1, 1);
    const { id, reply } = only(second, "reply");
    assert.equal(id, 8);
    assert(reply.kind === "updateEnsemble");
    assert.equal(reply.response.committed?.offset, 1);
    assert.ok(!kinds(acks(core, 2, 1)).includes("reply"));
  });

  it("is not answered when its asker has gone", () => {
    const core = leading();
    change(core, [["a", "b"]], 8);
    core.step({ kind: "cancelled", id: 8 });
    sync(core);
    assert.equal(only(acks(core, 1, 1), "reply").id, 2);
  });

  it("is told when a newer term begins", () => {
    const core = leading();
    const effects = order(core, "newTerm", { term: 4 }, 5);
    const { id, refusal } = only(effects, "refuse");
    assert.deepEqual([id, refusal.reason], [2, "INVALID_TERM"]);
  });

  it("needs both ensembles of a joint change (R13), and takes no commit back", () => {
    const core = serving();
    change(
      core,
      [
        ["a", "b", "c"],
        ["b", "d", "e"],
      ],
      8,
    );
    sync(core);
    acks(core, 1, 1);
    acks(core, 2, 1);
    assert.equal(commitOf(core), 0);
    persist(core, order(core, "addFollower", { term: 3, member: member("d") }));
    const effects = acks(core, 3, 1);
    assert.equal(only(effects, "reply").id, 8);
    assert.equal(commitOf(core), 1);
  });

  it("takes no commit back when the new ensemble holds less (I8)", () => {
    const core = serving();
    write(core, 9);
    sync(core);
    acks(core, 1, 1);
    assert.equal(commitOf(core), 1);
    const sets = [
      ["a", "b", "c"],
      ["b", "d"],
    ];
    change(core, sets, 8);
    order(core, "addFollower", { term: 3, member: member("d") });
    // The barrier of this very term is all that both ensembles hold.
    acks(core, 3, 0);
    assert.equal(commitOf(core), 1);
  });

  it("bears the epoch of the loss (R6)", () => {
    const core = serving({ promised: { lossEpoch: 6 } });
    const effects = change(core, [["a", "b", "c"]], 8);
    const { value } = LogEntryValue.decode(only(effects, "appendLog").entry.value);
    assert.deepEqual(value, {
      $case: "controlRequest",
      value: { request: { $case: "barrier", value: { lossEpoch: 6 } } },
    });
  });
});

describe("replication core: reads of a leader", () => {
  const read = (core: Replica, id: number): readonly Effect[] => core.step({ kind: "read", id });

  it("wait for a round that voters confirmed, sent after they came (R15)", () => {
    const core = serving({}, { members: [member("a"), member("c"), learner("d", 9)] });
    core.step({ kind: "cursorOpened", cursorId: 3 });
    const asked = read(core, 5).filter((effect) => effect.kind === "heartbeat");
    assert.deepEqual(
      asked.map(({ cursorId, round, targetVotes }) => [cursorId, round, targetVotes]),
      [
        [1, 1, true],
        [2, 1, true],
      ],
    );
    assert.deepEqual(kinds(read(core, 6)), []);
    assert.ok(!kinds(answer(core, 3, { round: 1 })).includes("releaseReads"));
    const effects = answer(core, 1, { round: 1 });
    assert.deepEqual(only(effects, "releaseReads").requestIds, [5]);
    assert.equal(only(effects, "releaseReads").offset, 0);
    // The next round is on its way for who came meanwhile; an answer to the last one says nothing.
    assert.ok(kinds(effects).includes("heartbeat"));
    assert.deepEqual(kinds(answer(core, 2, { round: 1 })), []);
    assert.deepEqual(only(answer(core, 2, { round: 2 }), "releaseReads").requestIds, [6]);
    // Nobody waits: nobody is asked.
    assert.deepEqual(kinds(answer(core, 1, { round: 2 })), []);
  });

  it("are not confirmed by the replica that was there before a wiped one (R4)", () => {
    const core = serving();
    order(core, "removeFollower", { term: 3, node: "c", replicaUid: "c1" });
    read(core, 5);
    const other = member("a", MemberRole.VOTER, { replicaUid: "a2" });
    answer(core, 1, { round: 0 });
    order(core, "addFollower", { term: 3, member: other });
    assert.ok(!kinds(answer(core, 1, { round: 1 })).includes("releaseReads"));
    core.step({ kind: "cursorOpened", cursorId: 3 });
    assert.deepEqual(only(answer(core, 3, { round: 1 }), "releaseReads").requestIds, [5]);
  });
});

describe("replication core: what a leader says of itself", () => {
  it("that a majority holds what is committed: itself and who is fed and has it", () => {
    const core = serving();
    assert.equal(leaderOf(core).majorityHolds(), true);
    core.step({ kind: "cursorClosed", cursorId: 1, reason: "gone", observedUid: null, nowMs: 5 });
    assert.equal(leaderOf(core).majorityHolds(), true);
    write(core, 9);
    sync(core);
    acks(core, 2, 1);
    assert.equal(commitOf(core), 1);
    core.step({ kind: "cursorClosed", cursorId: 2, reason: "gone", observedUid: null, nowMs: 5 });
    assert.equal(leaderOf(core).majorityHolds(), false);
    core.step({ kind: "tick", nowMs: 1_000 });
    core.step({ kind: "cursorOpened", cursorId: 1 });
    // Fed again, but what it holds is not known.
    answer(core, 1, { ackOffset: 0, synced: true });
    assert.equal(leaderOf(core).cursorById(1)?.state, "stream");
    assert.equal(leaderOf(core).majorityHolds(), false);
    answer(core, 1, { ackOffset: 1, synced: true });
    assert.equal(leaderOf(core).majorityHolds(), true);
    assert.equal(leaderOf(leading({}, LEAD)).majorityHolds(), false);
  });

  it("the lowest entry that a transfer in progress needs (R17)", () => {
    const core = serving({ terms: [1, 1, 1] });
    const leader = leaderOf(core);
    assert.equal(leader.transferFloor(), 3);
    for (const [cursorId, offset] of [
      [1, 1],
      [2, 2],
    ] as const) {
      core.step({ kind: "cursorBehind", cursorId });
      core.step({ kind: "snapshotPinned", cursorId, offset });
    }
    assert.equal(leader.transferFloor(), 1);
    core.step({ kind: "snapshotDone", cursorId: 1, base: head([1, 1]) });
    assert.equal(leader.transferFloor(), 2);
    core.step({ kind: "snapshotFailed", cursorId: 2, reason: "broken", refused: false, nowMs: 5 });
    assert.equal(leader.transferFloor(), 3);
  });
});
