import assert from "node:assert/strict";
import type { Effect } from "../../../sidecar/core/effect.ts";
import type { FollowerCursor } from "../../../sidecar/core/follower-cursor.ts";
import type { Replica } from "../../../sidecar/core/replica.ts";
import { MemberRole } from "../../../sidecar/protocol/gen/resilver.ts";
import { answer, leading, member, order, serving, sync } from "./coordinator-orders.ts";
import { head, kinds, only } from "./following-replica.ts";

/** The cursor of `a`. */
function cursorOf(core: Replica, id = 1): FollowerCursor {
  const cursor = core.leader?.cursorById(id) ?? null;
  assert(cursor !== null);
  return cursor;
}

const write = (core: Replica): readonly Effect[] =>
  core.step({ kind: "propose", id: 9, value: Uint8Array.of(10, 0), nowMs: 1 });

/** Asked from the head on, the follower names where its log may agree. */
function mismatched(terms: readonly number[], hint: readonly number[]): readonly Effect[] {
  const core = leading({ terms });
  core.step({ kind: "cursorOpened", cursorId: 1 });
  return answer(core, 1, { mismatch: head(hint) });
}

describe("replication core: an ack at a leader", () => {
  it("beyond its own head is not about its log, and counts nothing", () => {
    const core = leading();
    sync(core);
    core.step({ kind: "cursorOpened", cursorId: 1 });
    answer(core, 1, { ackOffset: 40, synced: true });
    assert.equal(cursorOf(core).ackOffset, -1);
    assert.equal(core.state.commit, -1);
  });

  it("counts only when it says that it is durable, and never steps back", () => {
    const core = serving();
    write(core);
    sync(core);
    answer(core, 1, { ackOffset: 1 });
    assert.equal(core.state.commit, 0);
    answer(core, 1, { ackOffset: 1, synced: true });
    assert.equal(cursorOf(core).ackOffset, 1);
    answer(core, 1, { ackOffset: 0, synced: true });
    assert.equal(cursorOf(core).ackOffset, 1);
  });

  it("of a stream that is not open, or while a snapshot is sent, says nothing of the log", () => {
    const core = leading();
    sync(core);
    answer(core, 1, { ackOffset: 0, synced: true });
    assert.equal(cursorOf(core).state, "connecting");
    core.step({ kind: "cursorOpened", cursorId: 1 });
    answer(core, 1);
    core.step({ kind: "cursorBehind", cursorId: 1 });
    answer(core, 1, { ackOffset: 0, synced: true, noSpace: true, entriesRefused: true });
    assert.equal(cursorOf(core).state, "snapshot");
    core.step({ kind: "cursorClosed", cursorId: 1, reason: "x", observedUid: null, nowMs: 0 });
    answer(core, 1, { ackOffset: 0, synced: true });
    assert.equal(cursorOf(core).state, "down");
    assert.equal(core.state.commit, -1);
  });
});

describe("replication core: where a leader's stream begins (R9, R10)", () => {
  it("after the last position that both hold", () => {
    assert.equal(only(mismatched([1, 1, 1], [1, 1]), "streamFrom").next, 2);
    assert.equal(only(mismatched([1, 1, 1], [1, 1, 1]), "streamFrom").next, 3);
  });

  it("is asked for below what the follower has of other terms", () => {
    const effects = mismatched([1, 1, 1], [1, 1, 2]);
    assert.deepEqual(kinds(effects), ["heartbeat"]);
    assert.deepEqual(only(effects, "heartbeat").previous, head([1, 1]));
  });

  it("at the log's start for an empty follower of a short log, else with a snapshot", () => {
    assert.equal(only(mismatched([1], []), "streamFrom").next, 0);
    const core = serving({ terms: [1, 1, 1, 1] });
    order(core, "addFollower", { term: 3, member: member("d", MemberRole.LEARNER) });
    core.step({ kind: "cursorOpened", cursorId: 3 });
    assert.deepEqual(kinds(answer(core, 3, { mismatch: head([]) })), ["startSnapshot"]);
  });

  it("with a snapshot for who ends before the log begins", () => {
    const base = { term: 1, offset: 7, crc: 99 };
    for (const [hint, kind] of [
      [{ term: 1, offset: 6, crc: 98 }, "startSnapshot"],
      [head([]), "startSnapshot"],
      [base, "streamFrom"],
    ] as const) {
      const core = leading({ base, terms: [1, 1] });
      core.step({ kind: "cursorOpened", cursorId: 1 });
      assert.deepEqual(kinds(answer(core, 1, { mismatch: hint })), [kind]);
    }
  });

  it("with a snapshot when the log was trimmed under a stream, and with nothing else twice", () => {
    const core = serving();
    assert.deepEqual(kinds(core.step({ kind: "cursorBehind", cursorId: 1 })), ["startSnapshot"]);
    assert.equal(cursorOf(core).ackOffset, -1);
    assert.deepEqual(core.step({ kind: "cursorBehind", cursorId: 1 }), []);
    core.step({ kind: "snapshotPinned", cursorId: 1, offset: 0 });
    core.step({ kind: "snapshotPinned", cursorId: 2, offset: 0 });
    assert.deepEqual([cursorOf(core).snapshotOffset, cursorOf(core, 2).snapshotOffset], [0, null]);
    const base = core.state.log.last;
    const done = core.step({ kind: "snapshotDone", cursorId: 1, base });
    assert.deepEqual(only(done, "heartbeat").previous, base);
    assert.equal(cursorOf(core).ackOffset, 0);
    assert.deepEqual(core.step({ kind: "snapshotDone", cursorId: 1, base }), []);
    assert.deepEqual(core.step({ kind: "snapshotDone", cursorId: 99, base }), []);
  });
});

describe("replication core: a follower that is not what it was", () => {
  it("stops counting when it lost what it acknowledged (R3, H19)", () => {
    const core = serving({ terms: [1, 1] });
    core.step({ kind: "cursorClosed", cursorId: 1, reason: "x", observedUid: null, nowMs: 0 });
    core.step({ kind: "tick", nowMs: 1_000 });
    core.step({ kind: "cursorOpened", cursorId: 1 });
    const effects = answer(core, 1, { mismatch: head([1]) });
    assert.deepEqual(kinds(effects), ["closeCursor"]);
    const { state, regressed, observedUid } = cursorOf(core);
    assert.deepEqual([state, regressed, observedUid], ["notMember", true, "a1"]);
    assert.equal(core.leader?.tracker.isVoter("a"), false);
    // Nobody asks it for a sign of life any more.
    const asked = core.step({ kind: "tick", nowMs: 5_000 });
    assert.deepEqual(
      asked.map((effect) => effect.kind === "heartbeat" && effect.cursorId),
      [2],
    );
  });

  it("goes on counting when it ends exactly where it acknowledged", () => {
    const core = serving({ terms: [1, 1] });
    core.step({ kind: "cursorClosed", cursorId: 1, reason: "x", observedUid: null, nowMs: 0 });
    core.step({ kind: "tick", nowMs: 1_000 });
    core.step({ kind: "cursorOpened", cursorId: 1 });
    write(core);
    const effects = answer(core, 1, { mismatch: core.state.log.positionAt(2) });
    assert.equal(only(effects, "streamFrom").next, 3);
    assert.equal(core.leader?.tracker.isVoter("a"), true);
  });

  it("is another replica: its acks and confirmations are void, and nothing is sent (R4, H12)", () => {
    const core = serving();
    core.step({ kind: "read", id: 5 });
    const closed = { kind: "cursorClosed", cursorId: 1, reason: "112", nowMs: 0 } as const;
    assert.deepEqual(core.step({ ...closed, observedUid: "a2" }), []);
    const { state, observedUid, regressed } = cursorOf(core);
    assert.deepEqual([state, observedUid, regressed], ["notMember", "a2", false]);
    assert.equal(core.leader?.tracker.isVoter("a"), false);
    assert.ok(!kinds(core.step({ kind: "tick", nowMs: 5_000 })).includes("openCursor"));
  });

  it("is the same that was not told of its term yet: it is tried again, and counts", () => {
    const core = serving();
    const closed = { kind: "cursorClosed", cursorId: 1, reason: "112", nowMs: 0 } as const;
    assert.deepEqual(kinds(core.step({ ...closed, observedUid: "a1" })), ["closeCursor"]);
    assert.equal(cursorOf(core).state, "down");
    assert.equal(cursorOf(core).lastError, "112");
    assert.equal(core.leader?.tracker.isVoter("a"), true);
  });
});

describe("replication core: a stream that broke", () => {
  it("is opened again when its time has come, later each time it breaks", () => {
    const core = leading();
    const waits: number[] = [];
    let nowMs = 0;
    for (let n = 0; n < 6; n += 1) {
      core.step({ kind: "cursorClosed", cursorId: 1, reason: "x", observedUid: null, nowMs });
      const at = cursorOf(core).reopenAtMs;
      waits.push(at - nowMs);
      assert.ok(!kinds(core.step({ kind: "tick", nowMs: at - 1 })).includes("openCursor"));
      assert.equal(only(core.step({ kind: "tick", nowMs: at }), "openCursor").cursorId, 1);
      nowMs = at;
    }
    assert.deepEqual(waits, [10, 20, 40, 80, 100, 100]);
  });

  it("is asked for signs of life while it is open, each period once, naming what both hold", () => {
    const core = serving({ terms: [1, 1] });
    write(core);
    const asked = (nowMs: number): readonly unknown[] =>
      core
        .step({ kind: "tick", nowMs })
        .flatMap((one) => (one.kind === "heartbeat" ? [[one.cursorId, one.previous.offset]] : []));
    core.step({ kind: "cursorClosed", cursorId: 2, reason: "x", observedUid: null, nowMs: 0 });
    assert.deepEqual(asked(100), [[1, 2]]);
    assert.deepEqual(asked(199), []);
    answer(core, 1, { ackOffset: 3, synced: true });
    assert.deepEqual(asked(200), [[1, 3]]);
    assert.equal(cursorOf(core).lastPushed, 3);
  });

  it("of a connection that is being opened is not written to", () => {
    const core = leading();
    assert.deepEqual(core.step({ kind: "tick", nowMs: 5_000 }), []);
  });
});

describe("replication core: followers without room (R17)", () => {
  const full = { noSpace: true, entriesRefused: true } as const;

  it("are sent nothing until they have room, and are asked then where to go on", () => {
    const core = serving();
    write(core);
    sync(core);
    // What is not durable does not count here either (R8).
    answer(core, 2, { ...full, ackOffset: 1 });
    assert.equal(cursorOf(core, 2).ackOffset, 0);
    const held = answer(core, 1, { ...full, ackOffset: 1, synced: true });
    assert.equal(only(held, "holdStream").cursorId, 1);
    assert.equal(core.state.commit, 1);
    assert.deepEqual(answer(core, 1, full), []);
    const room = answer(core, 1);
    assert.deepEqual(only(room, "heartbeat").previous, core.state.log.last);
    assert.equal(cursorOf(core).state, "probe");
    assert.equal(only(answer(core, 1), "streamFrom").next, 2);
  });

  it("keep writes out, by name, when no quorum is left without them", () => {
    const core = serving();
    answer(core, 1, full);
    assert.ok(kinds(write(core)).includes("proposed"));
    answer(core, 2, full);
    const { refusal } = only(write(core), "refuse");
    assert.equal(refusal.reason, "NO_SPACE");
    assert.equal(refusal.metadata["value"], "a, c");
    answer(core, 2);
    assert.ok(kinds(write(core)).includes("proposed"));
  });

  it("keep them out while the snapshot that they need is refused, too", () => {
    const core = serving();
    core.step({ kind: "cursorBehind", cursorId: 1 });
    core.step({ kind: "snapshotFailed", cursorId: 1, reason: "full", refused: true, nowMs: 5 });
    assert.equal(cursorOf(core).state, "refused");
    answer(core, 1, full);
    answer(core, 2, full);
    assert.equal(only(write(core), "refuse").refusal.metadata["value"], "a, c");
  });
});
