import assert from "node:assert/strict";
import type { Effect } from "../../../sidecar/core/effect.ts";
import type { CoordinationInput } from "../../../sidecar/core/input.ts";
import type { Replica } from "../../../sidecar/core/replica.ts";
import { ServingStatus } from "../../../sidecar/protocol/status.ts";
import {
  fenced,
  LEAD,
  leading,
  member,
  order,
  persist,
  serving,
  sync,
} from "./coordinator-orders.ts";
import { append, followingReplica, head, kinds, only, peer } from "./following-replica.ts";

function refusedFor(effects: readonly Effect[]): string {
  assert.deepEqual(kinds(effects), ["refuse"]);
  const { reason, metadata } = only(effects, "refuse").refusal;
  // Whoever asked has to be told what was wrong with it.
  if (reason === "INVALID_ARGUMENT") assert.ok((metadata["field"] ?? "") !== "");
  return reason;
}

describe("replication core: orders meant for somebody else", () => {
  const makes: Readonly<Record<string, () => Replica>> = {
    enrol: followingReplica,
    newTerm: followingReplica,
    becomeLeader: fenced,
  };
  const requests: readonly (readonly [
    CoordinationInput["kind"],
    Readonly<Record<string, unknown>>,
  ])[] = [
    ["newTerm", { term: 3 }],
    ["enrol", { term: 3, leaderUid: "a1" }],
    ["becomeLeader", LEAD],
    ["addFollower", { term: 3, member: member("d") }],
    ["removeFollower", { term: 3, node: "a", replicaUid: "a1" }],
    ["promote", { term: 3, node: "a", replicaUid: "a1" }],
    ["updateEnsemble", { term: 3, voterSets: [{ nodes: ["a", "b"] }] }],
  ];
  for (const [kind, request] of requests) {
    it(`${kind}: refused for another store, another uid, an older generation or term`, () => {
      const make = makes[kind] ?? serving;
      const refused = (change: object): string =>
        refusedFor(order(make(), kind, { ...request, ...change }));
      assert.equal(refused({ storeId: "other", targetUid: "b0", generation: 1 }), "WRONG_STORE");
      assert.equal(refused({ targetUid: "b0", generation: 1, term: 1 }), "NODE_IS_NOT_MEMBER");
      assert.equal(refused({ generation: 2, term: 1 }), "STALE_GENERATION");
      assert.equal(refused({ term: 1 }), "INVALID_TERM");
      const { refusal } = only(order(make(), kind, { ...request, generation: 2 }), "refuse");
      const { field, value, allowed } = refusal.metadata;
      assert.deepEqual([field, value, allowed], ["generation", "2", ">= 3"]);
    });
  }

  for (const [kind, request] of requests.slice(3)) {
    it(`${kind}: refused by who does not lead the term`, () => {
      assert.equal(refusedFor(order(fenced(), kind, request)), "INVALID_STATUS");
      assert.equal(refusedFor(order(serving(), kind, { ...request, term: 4 })), "INVALID_TERM");
    });
  }

  it("a later generation is saved before the order is answered (R18)", () => {
    const core = serving();
    const effects = order(core, "addFollower", { term: 3, member: member("a"), generation: 9 });
    assert.equal(only(effects, "persistMeta").promised.generation, 9);
    assert.deepEqual(kinds(effects), ["persistMeta"]);
    assert.deepEqual(kinds(persist(core, effects)), ["reply"]);
    const stale = order(core, "addFollower", { term: 3, member: member("a"), generation: 8 });
    assert.equal(refusedFor(stale), "STALE_GENERATION");
    // Nothing to save: answered at once.
    const same = order(core, "addFollower", { term: 3, member: member("a"), generation: 9 });
    assert.deepEqual(kinds(same), ["reply"]);
  });

  it("what waits for an earlier promise is answered once (R18)", () => {
    const core = serving();
    const first = order(core, "addFollower", { term: 3, member: member("a"), generation: 9 }, 7);
    const second = order(core, "addFollower", { term: 3, member: member("a"), generation: 10 }, 8);
    assert.deepEqual(
      persist(core, first).map((effect) => effect.kind === "reply" && effect.id),
      [7],
    );
    assert.deepEqual(
      persist(core, second).map((effect) => effect.kind === "reply" && effect.id),
      [8],
    );
  });
});

describe("replication core: a new term", () => {
  it("is answered once promise and log are durable, whichever comes last (R8)", () => {
    for (const last of ["promise", "log"]) {
      const core = followingReplica({ terms: [1] });
      core.step({ kind: "streamOpened", streamId: 1, peer: peer() });
      core.step({ kind: "append", streamId: 1, append: append(head([1]), 2) });
      const effects = order(core, "newTerm", { term: 3, generation: 8 });
      assert.deepEqual(kinds(effects), ["closeStream", "persistMeta", "syncLog"]);
      assert.equal(only(effects, "persistMeta").promised.generation, 8);
      const saved = (): readonly Effect[] => persist(core, effects);
      const [before, after] = last === "promise" ? [sync(core), saved()] : [saved(), sync(core)];
      assert.deepEqual(kinds(before), []);
      const { reply } = only(after, "reply");
      assert(reply.kind === "newTerm");
      assert.deepEqual(reply.response.headEntryId, { term: 2, offset: 1 });
      assert.equal(reply.response.headCrc, head([1, 2]).crc);
    }
  });

  it("lets no stream of its leader in before it is saved", () => {
    const core = followingReplica();
    const effects = order(core, "newTerm", { term: 3 });
    const open = { kind: "streamOpened", streamId: 2, peer: peer({ term: 3 }) } as const;
    assert.equal(only(core.step(open), "closeStream").refusal?.reason, "RESOURCE_UNAVAILABLE");
    persist(core, effects);
    assert.deepEqual(core.step(open), []);
  });

  it("never sets aside what the replica holds, nor does any other promise of a member", () => {
    const core = followingReplica();
    const aside = (effects: readonly Effect[]): boolean => only(effects, "persistMeta").setAside;
    const fence = order(core, "newTerm", { term: 3 });
    assert.equal(aside(fence), false);
    persist(core, fence);
    assert.equal(aside(order(core, "becomeLeader", { ...LEAD, lossEpoch: 4 })), false);
    const raised = order(core, "addFollower", { term: 3, member: member("a"), generation: 9 });
    assert.equal(aside(raised), false);
  });

  it("ends the wait for the one before", () => {
    const core = followingReplica();
    order(core, "newTerm", { term: 3 }, 1);
    const { id, refusal } = only(order(core, "newTerm", { term: 4 }, 2), "refuse");
    assert.deepEqual([id, refusal.reason], [1, "INVALID_TERM"]);
    assert.equal(refusal.metadata["term"], "4");
  });

  it("is refused again by the leader of that term, and ends its leadership when it is newer", () => {
    const core = serving();
    assert.equal(refusedFor(order(core, "newTerm", { term: 3 })), "INVALID_STATUS");
    const effects = order(core, "newTerm", { term: 4 });
    assert.deepEqual(kinds(effects), [
      "closeCursor",
      "closeCursor",
      "stepDown",
      "persistMeta",
      "syncLog",
    ]);
    assert.equal(core.leader, null);
    assert.equal(core.state.status, ServingStatus.FENCED);
  });

  it("makes no member of what is none, nor a bootstrap of one whose disk held something (R11)", () => {
    const promised = { member: false, term: -1 };
    for (const bootstrap of [false, true]) {
      const core = followingReplica({ promised });
      const effects = order(core, "newTerm", { term: 3, bootstrap });
      assert.equal(refusedFor(effects), "NODE_IS_NOT_MEMBER");
    }
    assert.equal(followingReplica({ promised }).state.status, ServingStatus.NOT_MEMBER);
  });

  it("shows a disk that was set back, in every answer until it is enrolled (R3)", () => {
    const core = followingReplica();
    const back = only(order(core, "newTerm", { term: 9, ackedTerm: 7 }), "persistMeta").promised;
    assert.deepEqual([back.rolledBack, back.previousTerm], [true, 2]);
    const again = only(order(core, "newTerm", { term: 10, ackedTerm: 9 }), "persistMeta").promised;
    assert.deepEqual([again.rolledBack, again.previousTerm], [true, 2]);
    const enrolled = order(core, "enrol", { term: 10, leaderUid: "a1" });
    assert.equal(only(enrolled, "persistMeta").promised.rolledBack, false);
  });

  it("finds nothing wrong with a replica that promised what the record says, or more", () => {
    for (const ackedTerm of [undefined, 1, 2]) {
      const effects = order(followingReplica(), "newTerm", { term: 9, ackedTerm });
      const { promised } = only(effects, "persistMeta");
      assert.deepEqual([promised.rolledBack, promised.previousTerm], [false, 2], String(ackedTerm));
    }
  });

  it("forgives what the record holds to no promise", () => {
    const core = followingReplica({ promised: { rolledBack: true, previousTerm: 0 } });
    const effects = order(core, "newTerm", { term: 9, ackedTerm: -1 });
    const { promised } = only(effects, "persistMeta");
    assert.deepEqual([promised.rolledBack, promised.previousTerm], [false, 2]);
  });

  it("cuts what a full volume cannot make durable, and nobody was told of (R17)", () => {
    const core = followingReplica({ terms: [1] });
    core.step({ kind: "streamOpened", streamId: 1, peer: peer() });
    core.step({ kind: "append", streamId: 1, append: append(head([1]), 2) });
    assert.deepEqual(core.step({ kind: "logFull" }), []);
    persist(core, order(core, "newTerm", { term: 3 }));
    const effects = core.step({ kind: "logFull" });
    assert.deepEqual(kinds(effects), ["truncateLog", "reply"]);
    const { lastOffset, logEpoch } = only(effects, "truncateLog");
    assert.deepEqual([lastOffset, logEpoch], [0, 1]);
    assert.equal(core.state.log.last.offset, 0);
    order(core, "newTerm", { term: 4 });
    assert.deepEqual(core.step({ kind: "logFull" }), []);
  });
});

describe("replication core: an order to lead", () => {
  it("is taken once, by the process that was fenced for the term (R7)", () => {
    assert.equal(
      refusedFor(order(followingReplica(), "becomeLeader", { ...LEAD, term: 2 })),
      "INVALID_STATUS",
    );
    assert.equal(
      refusedFor(order(fenced(), "becomeLeader", { ...LEAD, bootCounter: 2 })),
      "INVALID_STATUS",
    );
    const waiting = followingReplica();
    order(waiting, "newTerm", { term: 3 });
    assert.equal(refusedFor(order(waiting, "becomeLeader", LEAD)), "INVALID_STATUS");
    const core = leading();
    assert.equal(core.state.status, ServingStatus.LEADER);
    assert.equal(refusedFor(order(core, "becomeLeader", LEAD)), "INVALID_STATUS");
    assert.equal(refusedFor(order(fenced(), "becomeLeader", { ...LEAD, term: 4 })), "INVALID_TERM");
  });

  it("is refused by a replica that lost a promise (R3)", () => {
    const core = fenced({ promised: { rolledBack: true } });
    assert.equal(refusedFor(order(core, "becomeLeader", LEAD)), "INVALID_STATUS");
    assert.equal(core.leader, null);
  });

  it("is refused when no ensemble has this node", () => {
    const voterSets = [{ nodes: ["a", "c"] }, { nodes: ["a", "d"] }];
    const effects = order(fenced(), "becomeLeader", { ...LEAD, voterSets });
    assert.equal(refusedFor(effects), "INVALID_ARGUMENT");
    assert.equal(only(effects, "refuse").refusal.metadata["value"], "a,c/a,d");
    const joint = [{ nodes: ["a", "c"] }, { nodes: ["a", "b"] }];
    assert.notEqual(leading({}, { voterSets: joint }).leader, null);
  });

  it("saves the epoch of a loss, when it rose (R6)", () => {
    const effects = order(fenced(), "becomeLeader", { ...LEAD, lossEpoch: 4 });
    assert.equal(only(effects, "persistMeta").promised.lossEpoch, 4);
    const same = order(fenced({ promised: { lossEpoch: 4 } }), "becomeLeader", {
      ...LEAD,
      lossEpoch: 4,
    });
    assert.ok(!kinds(same).includes("persistMeta"));
  });

  it("serves nothing before the barrier is committed, and no data from elsewhere after it (R7)", () => {
    const core = leading();
    assert.equal(refusedFor(core.step({ kind: "read", id: 9 })), "NOT_INITIALIZED");
    const write = { kind: "propose", id: 9, value: Uint8Array.of(10, 0), nowMs: 1 } as const;
    assert.equal(refusedFor(core.step(write)), "NOT_INITIALIZED");
    for (const kind of ["streamOpened", "installBegin"] as const) {
      const effects = core.step({ kind, streamId: 1, peer: peer({ term: 3 }) });
      assert.equal(only(effects, "closeStream").refusal?.reason, "NODE_IS_NOT_FOLLOWER");
    }
    assert.equal(refusedFor(order(core, "enrol", { term: 3, leaderUid: "a1" })), "INVALID_STATUS");
  });
});

describe("replication core: orders to a leader", () => {
  it("names a follower that is another node", () => {
    for (const bad of [undefined, member(""), member("b")]) {
      const effects = order(serving(), "addFollower", { term: 3, member: bad });
      assert.equal(refusedFor(effects), "INVALID_ARGUMENT");
    }
  });

  it("ends the cursor of the uid that is removed, no other's (R4)", () => {
    const core = serving();
    const other = order(core, "removeFollower", { term: 3, node: "a", replicaUid: "a0" });
    assert.deepEqual(kinds(other), ["reply"]);
    assert.equal(core.leader?.cursors.get("a")?.uid, "a1");
    const effects = order(core, "removeFollower", { term: 3, node: "a", replicaUid: "a1" });
    assert.equal(only(effects, "closeCursor").cursorId, 1);
    assert.equal(core.leader.tracker.isVoter("a"), false);
    const { reply } = only(effects, "reply");
    assert(reply.kind === "removeFollower");
    assert.deepEqual(reply.response.lastAppended, core.state.log.last);
    assert.deepEqual(
      kinds(order(core, "removeFollower", { term: 3, node: "z", replicaUid: "z1" })),
      ["reply"],
    );
  });

  it("takes no ensemble without nodes (R13)", () => {
    for (const voterSets of [[], [{ nodes: [] }], [{ nodes: ["a", "b"] }, { nodes: [] }]]) {
      const effects = order(serving(), "updateEnsemble", { term: 3, voterSets });
      assert.equal(refusedFor(effects), "INVALID_ARGUMENT");
    }
  });

  it("lets so many reads wait and no more", () => {
    const core = serving();
    for (const id of [1, 2]) assert.ok(!kinds(core.step({ kind: "read", id })).includes("refuse"));
    assert.equal(refusedFor(core.step({ kind: "read", id: 3 })), "RESOURCE_UNAVAILABLE");
    core.step({ kind: "cancelled", id: 2 });
    assert.ok(!kinds(core.step({ kind: "read", id: 4 })).includes("refuse"));
  });

  it("of clients is refused by a replica that does not lead, and says what it is", () => {
    const read = { kind: "read", id: 1 } as const;
    assert.equal(refusedFor(followingReplica().step(read)), "NODE_IS_NOT_LEADER");
    const wiped = followingReplica({ promised: { member: false } });
    assert.equal(refusedFor(wiped.step(read)), "NODE_IS_NOT_MEMBER");
  });

  it("that is late finds nobody to take it, and does no harm", () => {
    const core = followingReplica();
    assert.deepEqual(core.step({ kind: "cancelled", id: 1 }), []);
    assert.deepEqual(core.step({ kind: "tick", nowMs: 5 }), []);
    assert.deepEqual(core.step({ kind: "cursorOpened", cursorId: 1 }), []);
  });
});

describe("replication core: an enrolment", () => {
  it("sets aside what a replica held that was no member, never what a member holds (R11)", () => {
    const wiped = followingReplica({ promised: { member: false, term: -1 } });
    const first = only(
      order(wiped, "enrol", { term: 3, leaderUid: "a1", generation: 9 }),
      "persistMeta",
    );
    assert.equal(first.setAside, true);
    assert.deepEqual(first.promised, {
      term: 3,
      previousTerm: 3,
      rolledBack: false,
      generation: 9,
      lossEpoch: 0,
      member: true,
      enrolled: { term: 3, leaderUid: "a1" },
    });
    const kept = only(
      order(followingReplica(), "enrol", { term: 3, leaderUid: "a1" }),
      "persistMeta",
    );
    assert.equal(kept.setAside, false);
  });

  it("names a leader", () => {
    const effects = order(followingReplica(), "enrol", { term: 3, leaderUid: "" });
    assert.equal(refusedFor(effects), "INVALID_ARGUMENT");
  });

  it("ends the old leader's stream and what waits for a fence; the same one again ends nothing", () => {
    const core = followingReplica();
    core.step({ kind: "streamOpened", streamId: 1, peer: peer() });
    const first = order(core, "enrol", { term: 2, leaderUid: "a1" });
    assert.equal(only(first, "closeStream").streamId, 1);
    persist(core, first);
    core.step({ kind: "streamOpened", streamId: 2, peer: peer() });
    assert.deepEqual(kinds(order(core, "enrol", { term: 2, leaderUid: "a1" })), ["reply"]);
    const other = order(core, "enrol", { term: 2, leaderUid: "c1" });
    assert.equal(only(other, "closeStream").streamId, 2);
    order(core, "newTerm", { term: 3 }, 4);
    const { id, refusal } = only(order(core, "enrol", { term: 3, leaderUid: "c1" }), "refuse");
    assert.deepEqual([id, refusal.reason], [4, "INVALID_TERM"]);
  });

  it("takes back the leave to lead", () => {
    const core = fenced();
    persist(core, order(core, "enrol", { term: 3, leaderUid: "a1" }));
    assert.equal(refusedFor(order(core, "becomeLeader", LEAD)), "INVALID_STATUS");
  });
});

describe("replication core: an order to cut the log", () => {
  const cut = (core: Replica, to: object | undefined, change: object = {}): readonly Effect[] =>
    order(core, "truncate", { term: 3, headEntryId: to, peer: peer(), ...change });

  it("is followed by a fenced replica, from its commit offset on (R9)", () => {
    const core = fenced({ terms: [1, 1, 1], commit: 1 });
    const effects = cut(core, { term: 1, offset: 1 });
    const { lastOffset, logEpoch } = only(effects, "truncateLog");
    assert.deepEqual([lastOffset, logEpoch], [1, 1]);
    const { reply } = only(effects, "reply");
    assert(reply.kind === "truncate");
    assert.deepEqual(reply.response.headEntryId, { term: 1, offset: 1 });
    assert.deepEqual([core.state.log.last.offset, core.state.synced], [1, 1]);
    assert.equal(core.state.status, ServingStatus.FOLLOWER);
  });

  it("never cuts what is committed, nor to an entry that is another one (H6, I9)", () => {
    for (const to of [
      { term: 1, offset: 0 },
      { term: 2, offset: 2 },
      { term: 1, offset: 5 },
      undefined,
    ]) {
      const core = fenced({ terms: [1, 1, 1], commit: 1 });
      assert.equal(refusedFor(cut(core, to)), "INVALID_ARGUMENT");
      assert.equal(core.state.log.last.offset, 2);
    }
  });

  it("is refused for another uid or term, and by who is not fenced, or not yet", () => {
    const to = { term: 1, offset: 1 };
    const terms = [1, 1];
    assert.equal(refusedFor(cut(fenced({ terms }), to, { term: 2 })), "INVALID_TERM");
    assert.equal(refusedFor(cut(fenced({ terms }), to, { term: 4 })), "INVALID_TERM");
    const other = { peer: peer({ targetUid: "b0" }) };
    assert.equal(refusedFor(cut(fenced({ terms }), to, other)), "NODE_IS_NOT_MEMBER");
    assert.equal(refusedFor(cut(fenced({ terms }), to, { peer: undefined })), "NODE_IS_NOT_MEMBER");
    const waiting = followingReplica({ terms });
    order(waiting, "newTerm", { term: 3 });
    assert.equal(refusedFor(cut(waiting, to)), "INVALID_STATUS");
    assert.equal(refusedFor(cut(serving({ terms }), to)), "INVALID_STATUS");
  });
});

describe("replication core: a trim that is done", () => {
  it("moves the start of what is known of the log", () => {
    const core = followingReplica({ terms: [1, 1, 1] });
    core.step({ kind: "trimmed", offset: 1 });
    assert.deepEqual(core.state.log.base, head([1, 1]));
    assert.deepEqual(core.state.log.last, head([1, 1, 1]));
  });
});

describe("replication core: a sync that is done", () => {
  it("is credited up to the log's head, once, and not over a cut", () => {
    const core = leading();
    core.step({ kind: "synced", offset: 40, logEpoch: 0 });
    assert.equal(core.state.synced, 0);
    core.step({ kind: "synced", offset: -1, logEpoch: 0 });
    assert.equal(core.state.synced, 0);
    const other = leading();
    core.step({ kind: "synced", offset: 0, logEpoch: 1 });
    other.step({ kind: "synced", offset: 0, logEpoch: 1 });
    assert.equal(other.state.synced, -1);
  });
});
