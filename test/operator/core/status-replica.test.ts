/** What people see of one replica. */
import assert from "node:assert/strict";
import type { Observed, ObservedNode } from "../../../operator/core/observed.ts";
import type { Plan } from "../../../operator/core/plan.ts";
import type { ShardRecord } from "../../../operator/core/record.ts";
import { shardView, type ReplicaView } from "../../../operator/core/status.ts";
import {
  MemberRole,
  RecoveryProgress,
  ServingStatus,
} from "../../../sidecar/protocol/gen/resilver.ts";
import { fed, NODES, observedOf, recordOf, replicaOf, voter, withVoter } from "./shard-fixture.ts";

const QUIET: Plan = { actions: [], stop: null, deferrals: [], waiting: null };

function viewOf(
  node: string,
  observed: Observed = observedOf(),
  record: ShardRecord = recordOf(),
  plan: Plan = QUIET,
): ReplicaView {
  const view = shardView(record, observed, plan).replicas.find((other) => other.node === node);
  assert.ok(view !== undefined);
  return view;
}

/** The view of b, where its node is changed so. */
const viewOfB = (change: Partial<ObservedNode>, record = recordOf()): ReplicaView =>
  viewOf("b", observedOf({ b: change }), record);

describe("the view of a replica", () => {
  it("of a voter that has everything", () => {
    assert.deepEqual(viewOf("b"), {
      node: "b",
      uid: "b1",
      reach: "up",
      role: "voter",
      voting: true,
      holdsCommitted: true,
      lacksEntries: 0,
      status: "FOLLOWER",
      term: 5,
      headTerm: 5,
      headOffset: 10,
      commitOffset: 10,
      lagEntries: 0,
      phase: "",
      reason: "",
      bytesDone: 0,
      bytesTotal: 0,
      startedMs: 0,
      firstByteMs: 0,
      installedMs: 0,
      attempts: 0,
      lastErrors: [],
      fault: "",
    });
  });

  it("of the leader, which lacks nothing", () => {
    const { role, status, voting, holdsCommitted, lacksEntries } = viewOf("a");
    assert.deepEqual(
      [role, status, voting, holdsCommitted, lacksEntries],
      ["leader", "LEADER", true, true, 0],
    );
  });

  it("of one that nothing is known of: by the record", () => {
    const { nodes, ...about } = observedOf();
    const seen = { ...about, nodes: new Map([...nodes].filter(([node]) => node !== "b")) };
    const { uid, reach, role, voting, status, term, headOffset, commitOffset, lagEntries, fault } =
      viewOf("b", seen);
    assert.deepEqual(
      [uid, reach, role, voting, status],
      ["b1", "unknown", "voter", false, "unknown"],
    );
    assert.deepEqual([term, headOffset, commitOffset, lagEntries, fault], [-1, -1, -1, null, ""]);
  });

  it("of one that is away: what it last said, but for its status", () => {
    const { role, status, term, headOffset, voting } = viewOfB({ reach: "down" });
    assert.deepEqual([role, status, term, headOffset, voting], ["voter", "unknown", 5, 10, false]);
  });

  it("of a node that is no member yet", () => {
    const record = recordOf({ next: { ensemble: ["b", "c", "d"], joint: false } });
    const empty = viewOf("d", observedOf({ d: { replica: null } }), record);
    assert.deepEqual([empty.role, empty.uid, empty.voting], ["none", "", false]);
  });
});

describe("the role of a replica", () => {
  it("is wiped when its node shows another one, or is here without it", () => {
    const other = viewOfB({ replica: replicaOf("b", { replicaUid: "b2" }) });
    assert.deepEqual([other.role, other.uid], ["wiped", "b2"]);
    const none = viewOfB({ replica: null });
    assert.deepEqual([none.role, none.uid], ["wiped", "b1"]);
    assert.equal(viewOfB({ replica: null, reach: "down" }).role, "voter");
  });

  it("is leader for the recorded one alone", () => {
    const record = recordOf({ leader: null });
    assert.equal(viewOf("a", observedOf(), record).role, "voter");
    assert.equal(viewOfB({}, withVoter("b", { role: "learner" })).role, "learner");
  });
});

describe("a replica votes", () => {
  const votes = (
    b: Parameters<typeof replicaOf>[1],
    record = recordOf(),
    progress: Parameters<typeof fed>[1] = {},
  ): boolean => {
    const followers = [fed("b", progress), fed("c")];
    const changes = {
      a: { replica: replicaOf("a", { followers }) },
      b: { replica: replicaOf("b", b) },
    };
    return viewOf("b", observedOf(changes), record).voting;
  };

  it("when it follows the recorded term by a stream that works", () => {
    assert.equal(votes({}), true);
    assert.equal(votes({ status: ServingStatus.FENCED }), false);
    assert.equal(votes({ term: 4 }), false);
    assert.equal(votes({}, recordOf(), { state: "Down" }), false);
  });

  it("with a vote by the record and by its leader, and no fault", () => {
    assert.equal(votes({}, withVoter("b", { role: "learner", enrolTerm: 5 })), false);
    assert.equal(votes({}, recordOf(), { role: MemberRole.LEARNER }), false);
    assert.equal(votes({ fault: "checksum" }), false);
    assert.equal(votes({ replicaUid: "b2" }), false);
    assert.equal(votes({}, recordOf(), { replicaUid: "b2" }), false);
  });

  it("only under a leader that is steady", () => {
    const observed = observedOf({ a: { reach: "down" } });
    assert.deepEqual(
      NODES.map((node) => viewOf(node, observed).voting),
      [false, false, false],
    );
    const { lacksEntries, holdsCommitted, lagEntries } = viewOf("b", observed);
    assert.deepEqual([lacksEntries, holdsCommitted, lagEntries], [null, false, null]);
  });
});

describe("a follower, as its leader that committed up to 7 shows it", () => {
  const cases = [
    ["Stream", 7, true, 0],
    ["Stream", 9, true, 0],
    ["Stream", 5, true, 2],
    ["NoSpace", 5, true, null],
    ["Snapshot", -1, true, null],
    ["Probe", 7, false, null],
    ["Connecting", 7, false, null],
    ["Down", 7, false, null],
  ] as const;
  for (const [state, ackOffset, voting, lacksEntries] of cases) {
    it(`${state}, acknowledged to ${ackOffset}`, () => {
      const followers = [fed("b", { state, ackOffset }), fed("c")];
      const leader = replicaOf("a", { commitOffset: 7, followers });
      const view = viewOf("b", observedOf({ a: { replica: leader } }));
      const told = [view.voting, view.lacksEntries, view.holdsCommitted];
      assert.deepEqual(told, [voting, lacksEntries, lacksEntries === 0]);
    });
  }
});

describe("how far a replica is behind", () => {
  const lag = (leaderHead: number | null, head: number | null): number | null => {
    const at = (offset: number | null) =>
      offset === null ? undefined : { term: 5, offset, crc: 0 };
    const observed = observedOf({
      a: { replica: replicaOf("a", { head: at(leaderHead) }) },
      b: { replica: replicaOf("b", { head: at(head) }) },
    });
    return viewOf("b", observed).lagEntries;
  };

  it("is counted by heads, and never less than nothing", () => {
    assert.deepEqual([lag(10, 4), lag(10, 12), lag(10, null)], [6, 0, 11]);
    assert.equal(lag(null, 4), null);
  });

  it("is not known of the entries that it lacks while it has no vote", () => {
    const record = withVoter("b", { role: "learner", enrolTerm: 5 });
    assert.equal(viewOfB({}, record).lacksEntries, null);
  });
});

describe("the recovery of a replica", () => {
  const learner = withVoter("b", { role: "learner", enrolTerm: 5, reason: "Corrupt" });

  it("is the gate that defers it, before anything else", () => {
    const deferral = { node: "b", gate: "Cooldown", reason: "VolumeEmpty", message: "" } as const;
    const { phase, reason } = viewOf("b", observedOf(), learner, {
      ...QUIET,
      deferrals: [deferral],
    });
    assert.deepEqual([phase, reason], ["Deferred(Cooldown)", "VolumeEmpty"]);
    const other = viewOf("c", observedOf(), learner, { ...QUIET, deferrals: [deferral] });
    assert.deepEqual([other.phase, other.reason], ["", ""]);
  });

  it("has a phase while it learns, by its own word or its leader's", () => {
    const { phase, reason } = viewOfB({}, learner);
    assert.deepEqual([phase, reason], ["CatchingUp", "Corrupt"]);
    const own = (value: string): string => {
      const recovery = RecoveryProgress.fromPartial({ phase: value });
      const observed = observedOf({
        a: { replica: replicaOf("a", { followers: [fed("b", { state: "Down" })] }) },
        b: { replica: replicaOf("b", { recovery }) },
      });
      return viewOf("b", observed, learner).phase;
    };
    assert.deepEqual(["Transferring", "Installing", "CatchingUp", "Unheard"].map(own), [
      "Transferring",
      "Installing",
      "CatchingUp",
      "Enrolled",
    ]);
  });

  it("has a reason and no phase when it is over, or the replica leaves", () => {
    const { phase, reason } = viewOfB({}, withVoter("b", { role: "leaving", reason: "Joining" }));
    assert.deepEqual([phase, reason], ["", "Joining"]);
  });

  it("shows the progress of whichever side counted more, and what went wrong on both", () => {
    const recovery = RecoveryProgress.fromPartial({
      bytesDone: 5,
      bytesTotal: 100,
      startedMs: 1,
      firstByteMs: 2,
      installedMs: 3,
      attempts: 4,
      lastErrors: ["torn chunk"],
    });
    const sent = { snapshotBytesDone: 9, snapshotBytesTotal: 90, lastError: "no space" };
    const progress = (change: typeof sent): Partial<ReplicaView> => {
      const followers = [fed("b", change), fed("c")];
      const { bytesDone, bytesTotal, startedMs, firstByteMs, installedMs, attempts, lastErrors } =
        viewOf(
          "b",
          observedOf({
            a: { replica: replicaOf("a", { followers }) },
            b: { replica: replicaOf("b", { recovery }) },
          }),
          recordOf({ members: [voter("a"), voter("b", { role: "learner" }), voter("c")] }),
        );
      return { bytesDone, bytesTotal, startedMs, firstByteMs, installedMs, attempts, lastErrors };
    };
    const own = { startedMs: 1, firstByteMs: 2, installedMs: 3, attempts: 4 };
    assert.deepEqual(progress(sent), {
      ...own,
      bytesDone: 9,
      bytesTotal: 100,
      lastErrors: ["torn chunk", "no space"],
    });
    assert.deepEqual(progress({ snapshotBytesDone: 2, snapshotBytesTotal: 200, lastError: "" }), {
      ...own,
      bytesDone: 5,
      bytesTotal: 200,
      lastErrors: ["torn chunk"],
    });
  });
});
