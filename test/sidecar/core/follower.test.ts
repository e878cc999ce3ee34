import assert from "node:assert/strict";
import { ServingStatus } from "../../../sidecar/protocol/status.ts";
import { chainCrc, LOG_START } from "../../../sidecar/protocol/entry.ts";
import type { LogPosition } from "../../../sidecar/protocol/entry.ts";
import type { Peer } from "../../../sidecar/protocol/gen/resilver.ts";
import type { Effect } from "../../../sidecar/core/effect.ts";
import type { Replica } from "../../../sidecar/core/replica.ts";
import {
  append,
  followingReplica,
  head,
  heartbeat,
  kinds,
  nextPosition,
  only,
  peer,
} from "./following-replica.ts";

/** A follower whose leader opened stream 1. */
function streaming(options: Parameters<typeof followingReplica>[0] = {}): Replica {
  const core = followingReplica(options);
  assert.deepEqual(core.step({ kind: "streamOpened", streamId: 1, peer: peer() }), []);
  return core;
}

const newTerm = (term: number) => ({
  ...{ namespace: "default", shard: 0, storeId: "store", targetUid: "b1", generation: 3 },
  ...{ term, bootstrap: false, options: undefined },
});

describe("replication core: whose stream a follower takes", () => {
  const cases: readonly (readonly [string, Partial<Peer>, string])[] = [
    ["of an older term", { term: 1 }, "INVALID_TERM"],
    ["of a term it did not promise", { term: 3 }, "INVALID_TERM"],
    ["meant for the replica before it", { targetUid: "b0" }, "NODE_IS_NOT_MEMBER"],
    ["of another store", { storeId: "other" }, "WRONG_STORE"],
  ];
  for (const [name, change, reason] of cases) {
    it(`not one ${name}, nor such a snapshot`, () => {
      for (const kind of ["streamOpened", "installBegin"] as const) {
        const core = followingReplica();
        const effects = core.step({ kind, streamId: 1, peer: peer(change) });
        assert.deepEqual(kinds(effects), ["closeStream"]);
        assert.equal(only(effects, "closeStream").refusal?.reason, reason);
        assert.equal(core.follower.installing, false);
      }
    });
  }

  it("not one of a second leader in its term (I1)", () => {
    const core = streaming();
    const effects = core.step({
      kind: "streamOpened",
      streamId: 2,
      peer: peer({ leaderUid: "c1" }),
    });
    const { streamId, refusal } = only(effects, "closeStream");
    assert.equal(streamId, 2);
    assert.equal(refusal?.reason, "INVALID_TERM");
    assert.equal(refusal.metadata["allowed"], "a1");
  });

  it("as a learner only that of the leader it was enrolled with (R4)", () => {
    const promised = { enrolled: { term: 2, leaderUid: "a1" } };
    const core = followingReplica({ promised });
    const other = core.step({ kind: "streamOpened", streamId: 1, peer: peer({ leaderUid: "c1" }) });
    assert.equal(only(other, "closeStream").refusal?.reason, "INVALID_TERM");
    assert.deepEqual(core.step({ kind: "streamOpened", streamId: 2, peer: peer() }), []);
  });

  it("none before the coordinator named it, and says so whatever the term (R4, H4)", () => {
    const core = followingReplica({ promised: { member: false, term: -1 } });
    for (const kind of ["streamOpened", "installBegin"] as const) {
      const { refusal } = only(core.step({ kind, streamId: 1, peer: peer() }), "closeStream");
      assert.equal(refusal?.reason, "NODE_IS_NOT_MEMBER");
      assert.equal(refusal.metadata["observedUid"], "b1");
    }
  });

  it("the newest one; the one before is closed, and what still comes of it ignored", () => {
    const core = streaming();
    const effects = core.step({ kind: "streamOpened", streamId: 2, peer: peer() });
    const { streamId, refusal } = only(effects, "closeStream");
    assert.equal(streamId, 1);
    assert.equal(refusal?.reason, "RESOURCE_CONFLICT");
    assert.deepEqual(core.step({ kind: "append", streamId: 1, append: append(LOG_START, 2) }), []);
    core.step({ kind: "streamClosed", streamId: 1 });
    const taken = core.step({ kind: "append", streamId: 2, append: append(LOG_START, 2) });
    assert.deepEqual(kinds(taken), ["appendLog", "syncLog"]);
    core.step({ kind: "streamClosed", streamId: 2 });
    const late = core.step({ kind: "append", streamId: 2, append: append(head([2]), 2) });
    assert.deepEqual(late, []);
  });

  it("not further when an append bears another term or is meant for another replica", () => {
    for (const [change, reason] of [
      [{ term: 1 }, "INVALID_TERM"],
      [{ term: 3 }, "INVALID_TERM"],
      [{ targetUid: "b0" }, "NODE_IS_NOT_MEMBER"],
    ] as const) {
      const core = streaming();
      const effects = core.step({
        kind: "append",
        streamId: 1,
        append: append(LOG_START, 1, change),
      });
      assert.deepEqual(kinds(effects), ["closeStream"]);
      assert.equal(only(effects, "closeStream").refusal?.reason, reason);
      const next = core.step({ kind: "append", streamId: 1, append: append(LOG_START, 2) });
      assert.deepEqual(next, []);
    }
  });
});

describe("replication core: what a follower takes and acknowledges", () => {
  const start = LOG_START;
  const first = head([1]);
  const second = head([1, 2]);

  it("not an entry whose bytes, place or term are not what was named", () => {
    const good = append(first, 2);
    const entry = good.entry as NonNullable<typeof good.entry>;
    for (const bad of [
      { ...good, entryCrc: good.entryCrc + 1 },
      { ...good, entry: { ...entry, offset: 5 } },
      // An entry of an earlier term than the one before it.
      append(first, 0),
    ]) {
      const core = streaming({ terms: [1] });
      const effects = core.step({ kind: "append", streamId: 1, append: bad });
      assert.deepEqual(kinds(effects), ["closeStream"]);
      assert.equal(only(effects, "closeStream").refusal?.reason, "INVALID_ARGUMENT");
      assert.equal(core.state.log.last.offset, 0);
    }
  });

  it("no more than it holds durably, and what the leader named (R8, H1)", () => {
    const core = streaming({ terms: [1, 1, 1] });
    core.step({ kind: "append", streamId: 1, append: append(start, 1) });
    const [synced] = core.step({ kind: "synced", offset: 2, logEpoch: 0 });
    assert.deepEqual(synced, {
      kind: "ack",
      streamId: 1,
      offset: 0,
      round: 0,
      synced: true,
      mismatch: null,
      noSpace: false,
      entriesRefused: false,
    });
    // Nothing more is owed.
    assert.deepEqual(core.step({ kind: "synced", offset: 2, logEpoch: 0 }), []);
  });

  it("an entry once it is durable, not when it came", () => {
    const core = streaming({ terms: [1] });
    const taken = core.step({ kind: "append", streamId: 1, append: append(first, 2) });
    assert.deepEqual(kinds(taken), ["appendLog", "syncLog"]);
    const asked = core.step({
      kind: "append",
      streamId: 1,
      append: heartbeat(second, { round: 4 }),
    });
    const { offset, round } = only(asked, "ack");
    assert.deepEqual([offset, round], [0, 4]);
    const synced = core.step({ kind: "synced", offset: 1, logEpoch: 0 });
    assert.equal(only(synced, "ack").offset, 1);
  });

  it("takes as committed what the leader committed of what both hold (I8)", () => {
    const core = streaming({ terms: [1, 2, 2] });
    core.step({ kind: "append", streamId: 1, append: heartbeat(first, { commitOffset: 9 }) });
    assert.equal(core.state.commit, 0);
    core.step({ kind: "append", streamId: 1, append: heartbeat(second, { commitOffset: 9 }) });
    assert.equal(core.state.commit, 1);
    // An older one that comes late.
    core.step({ kind: "append", streamId: 1, append: heartbeat(first, { commitOffset: 0 }) });
    assert.equal(core.state.commit, 1);
  });

  it("forgets what an earlier stream had matched", () => {
    const core = streaming({ terms: [1, 2, 2] });
    core.step({ kind: "append", streamId: 1, append: heartbeat(head([1, 2, 2])) });
    core.step({ kind: "streamOpened", streamId: 2, peer: peer() });
    const effects = core.step({
      kind: "append",
      streamId: 2,
      append: heartbeat(first, { commitOffset: 9 }),
    });
    assert.equal(only(effects, "ack").offset, 0);
    assert.equal(core.state.commit, 0);
  });

  it("cuts what conflicts, from its commit offset on, and credits no sync from before (R9)", () => {
    const core = streaming({ terms: [1, 1, 1], commit: 0 });
    const effects = core.step({ kind: "append", streamId: 1, append: append(first, 2) });
    assert.deepEqual(kinds(effects), ["truncateLog", "appendLog", "syncLog", "apply"]);
    const { lastOffset, logEpoch } = only(effects, "truncateLog");
    assert.deepEqual([lastOffset, logEpoch], [0, 1]);
    assert.equal(core.state.synced, 0);
    assert.deepEqual(core.step({ kind: "synced", offset: 2, logEpoch: 0 }), []);
    assert.equal(core.state.synced, 0);
    assert.equal(only(core.step({ kind: "synced", offset: 1, logEpoch: 1 }), "ack").offset, 1);
  });

  it("stops instead of cutting what it knows to be committed (R9, I9)", () => {
    const core = streaming({ terms: [1, 1, 1], commit: 1 });
    const effects = core.step({ kind: "append", streamId: 1, append: append(first, 2) });
    assert.deepEqual(kinds(effects), ["fault", "closeStream"]);
    assert.equal(only(effects, "closeStream").refusal?.reason, "INVALID_STATUS");
    assert.equal(core.state.log.last.offset, 2);
    assert.deepEqual(core.step({ kind: "append", streamId: 1, append: append(first, 2) }), []);
  });

  it("takes the same entry twice without writing it twice", () => {
    const core = streaming({ terms: [1, 2] });
    const effects = core.step({ kind: "append", streamId: 1, append: append(first, 2) });
    assert.deepEqual(kinds(effects), ["syncLog"]);
    assert.equal(core.state.log.last.offset, 1);
  });

  it("cuts an entry of the same term that is another one (R8)", () => {
    const core = streaming({ terms: [1, 2, 2] });
    const value = Uint8Array.of(10, 1, 7);
    const entry = { term: 2, offset: 1, timestamp: 1, value };
    const entryCrc = chainCrc(first.crc, 2, 1, 1, value);
    const other = append(first, 2, { entry, entryCrc });
    const effects = core.step({ kind: "append", streamId: 1, append: other });
    assert.deepEqual(kinds(effects), ["truncateLog", "appendLog", "syncLog"]);
    assert.deepEqual(core.state.log.last, { term: 2, offset: 1, crc: entryCrc });
  });

  it("answers a round at once, of an entry too (R15)", () => {
    const core = streaming({ terms: [1] });
    const asked = append(first, 2, { round: 6, targetUid: "b1" });
    const { offset, round } = only(
      core.step({ kind: "append", streamId: 1, append: asked }),
      "ack",
    );
    assert.deepEqual([offset, round], [0, 6]);
  });

  it("says of nothing that it is durable when it names where the logs differ", () => {
    const core = streaming({ terms: [1, 2] });
    core.step({ kind: "append", streamId: 1, append: heartbeat(second) });
    const elsewhere = heartbeat({ ...second, crc: second.crc + 1 });
    const { mismatch, synced } = only(
      core.step({ kind: "append", streamId: 1, append: elsewhere }),
      "ack",
    );
    assert.deepEqual([mismatch?.offset, synced], [0, false]);
  });

  it("tells once that it votes", () => {
    const core = streaming({ terms: [1] });
    const counted = heartbeat(first, { targetVotes: true });
    const told = core.step({ kind: "append", streamId: 1, append: counted });
    assert.deepEqual(kinds(told), ["votes", "ack"]);
    assert.equal(core.follower.votes, true);
    assert.deepEqual(kinds(core.step({ kind: "append", streamId: 1, append: counted })), ["ack"]);
  });
});

describe("replication core: a follower without room (R17)", () => {
  const barrier = (previous: LogPosition): ReturnType<typeof append> => {
    const value = Uint8Array.of(18, 0);
    const entry = { term: 2, offset: previous.offset + 1, timestamp: 1, value };
    const entryCrc = chainCrc(previous.crc, 2, entry.offset, 1, value);
    return append(previous, 2, { entry, entryCrc });
  };
  const full = (): Replica => {
    const core = streaming({ terms: [1] });
    core.step({ kind: "space", short: true });
    return core;
  };
  const take = (core: Replica, one: ReturnType<typeof append>): readonly Effect[] =>
    core.step({ kind: "append", streamId: 1, append: one });

  it("takes what its leader needs before it serves: older entries and barriers (R7)", () => {
    assert.ok(kinds(take(full(), barrier(head([1])))).includes("appendLog"));
    assert.ok(kinds(take(full(), append(head([1]), 1))).includes("appendLog"));
  });

  it("puts writes of the term off, and whatever comes behind them, until it has room", () => {
    const core = full();
    const { entriesRefused, noSpace } = only(take(core, append(head([1]), 2)), "ack");
    assert.deepEqual([entriesRefused, noSpace], [true, true]);
    assert.deepEqual(kinds(take(core, barrier(head([1])))), ["ack"]);
    assert.equal(core.state.log.last.offset, 0);
    core.step({ kind: "space", short: false });
    const room = only(take(core, heartbeat(head([1]))), "ack");
    assert.deepEqual([room.entriesRefused, room.noSpace], [false, false]);
    core.step({ kind: "space", short: true });
    assert.ok(kinds(take(core, barrier(head([1])))).includes("appendLog"));
  });

  it("begins anew with a new stream", () => {
    const core = full();
    take(core, append(head([1]), 2));
    core.step({ kind: "streamOpened", streamId: 2, peer: peer() });
    const effects = core.step({ kind: "append", streamId: 2, append: barrier(head([1])) });
    assert.ok(kinds(effects).includes("appendLog"));
  });
});

describe("replication core: where a follower's log may agree with its leader's (R9)", () => {
  const hintOf = (terms: readonly number[], named: readonly number[], commit = -1): string => {
    const core = streaming({ terms, commit });
    const effects = core.step({ kind: "append", streamId: 1, append: heartbeat(head(named)) });
    const { mismatch, synced } = only(effects, "ack");
    assert.equal(synced, false);
    return mismatch === null ? "agrees" : `${mismatch.term}:${mismatch.offset}`;
  };

  it("at its own end, when it is short", () => {
    assert.equal(hintOf([1, 1], [1, 1, 1, 2]), "1:1");
  });

  it("below the terms that the leader does not have", () => {
    assert.equal(hintOf([1, 2, 2, 2], [1, 1, 1]), "1:0");
    assert.equal(hintOf([1, 2], [1, 1, 1, 1]), "1:0");
  });

  it("before the entry in question, when it has another one there", () => {
    assert.equal(hintOf([0, 1, 1], [1, 1, 1]), "1:1");
  });

  it("nowhere, when all it has is newer", () => {
    assert.equal(hintOf([2, 2], [1, 1]), "-1:-1");
  });
});

describe("replication core: a snapshot at a follower", () => {
  const base = { term: 1, offset: 7, crc: 99 };

  it("replaces log, commit and applied in one step, and the next append goes on (R5, R12)", () => {
    const core = streaming({ terms: [1, 1] });
    assert.deepEqual(core.step({ kind: "installBegin", streamId: 5, peer: peer() }), [
      { kind: "acceptInstall", streamId: 5 },
    ]);
    assert.deepEqual(core.step({ kind: "installed", streamId: 4, base }), []);
    assert.equal(core.state.log.last.offset, 1);
    core.step({ kind: "installed", streamId: 5, base });
    const { log, synced, commit, applied, logEpoch, status } = core.state;
    assert.deepEqual(log.last, base);
    assert.deepEqual([synced, commit, applied, logEpoch], [7, 7, 7, 1]);
    assert.equal(status, ServingStatus.FOLLOWER);
    assert.equal(core.follower.installing, false);
    // A sync of the log that is gone.
    core.step({ kind: "synced", offset: 1, logEpoch: 0 });
    const taken = core.step({ kind: "append", streamId: 1, append: append(base, 2) });
    assert.deepEqual(kinds(taken), ["appendLog", "syncLog"]);
    assert.deepEqual(core.state.log.last, nextPosition(base, 2));
  });

  it("makes a follower of a learner that no stream was opened to yet (R10)", () => {
    const core = followingReplica({ promised: { enrolled: { term: 2, leaderUid: "a1" } } });
    assert.equal(core.state.status, ServingStatus.NOT_MEMBER);
    core.step({ kind: "installBegin", streamId: 5, peer: peer() });
    core.step({ kind: "installed", streamId: 5, base });
    assert.equal(core.state.status, ServingStatus.FOLLOWER);
  });

  it("never takes the commit offset back", () => {
    const core = streaming({ terms: Array.from({ length: 12 }, () => 1), commit: 11 });
    core.step({ kind: "installBegin", streamId: 5, peer: peer() });
    core.step({ kind: "installed", streamId: 5, base });
    assert.equal(core.state.commit, 11);
  });

  it("is answered for meanwhile, but nothing is appended", () => {
    const core = streaming({ terms: [1] });
    core.step({ kind: "installBegin", streamId: 5, peer: peer() });
    const effects = core.step({ kind: "append", streamId: 1, append: append(head([1]), 2) });
    assert.deepEqual(kinds(effects), ["ack"]);
    assert.notEqual(only(effects, "ack").mismatch, null);
    assert.equal(core.state.log.last.offset, 0);
  });

  it("is given up at a new term, once, which is answered when it has ended (R12, H16)", () => {
    const core = streaming();
    core.step({ kind: "installBegin", streamId: 5, peer: peer() });
    const third = core.step({ kind: "newTerm", id: 1, request: newTerm(3) });
    assert.equal(only(third, "abortInstall").streamId, 5);
    assert.equal(only(third, "closeStream").streamId, 1);
    const fourth = core.step({ kind: "newTerm", id: 2, request: newTerm(4) });
    assert.deepEqual(kinds(fourth), ["refuse", "persistMeta", "syncLog"]);
    assert.deepEqual(core.step({ kind: "metaPersisted", token: 2 }), []);
    assert.deepEqual(core.step({ kind: "installEnded", streamId: 4 }), []);
    const ended = core.step({ kind: "installEnded", streamId: 5 });
    assert.equal(only(ended, "reply").id, 2);
    assert.equal(core.state.status, ServingStatus.FENCED);
  });

  it("that was past its point of no return when a term began leaves the replica fenced", () => {
    const core = streaming({ terms: [1] });
    core.step({ kind: "installBegin", streamId: 5, peer: peer() });
    core.step({ kind: "newTerm", id: 1, request: newTerm(3) });
    core.step({ kind: "metaPersisted", token: 1 });
    const done = core.step({ kind: "installed", streamId: 5, base });
    const { reply } = only(done, "reply");
    assert.equal(reply.kind === "newTerm" && reply.response.headEntryId?.offset, 7);
    assert.equal(core.state.status, ServingStatus.FENCED);
  });
});
