import assert from "node:assert/strict";
import { CursorFlow } from "../../../sidecar/core/cursor-flow.ts";
import type { Effect } from "../../../sidecar/core/effect.ts";
import { FollowerCursor } from "../../../sidecar/core/follower-cursor.ts";
import type { CursorInput } from "../../../sidecar/core/input.ts";
import type { Leader } from "../../../sidecar/core/leader.ts";
import { LogIndex } from "../../../sidecar/core/log-index.ts";
import { MemberRole } from "../../../sidecar/protocol/gen/resilver.ts";

const OPTIONS = {
  heartbeatMs: 100,
  reconnectMinMs: 20,
  reconnectMaxMs: 500,
  snapshotRetryMinMs: 1_000,
  snapshotRetryMaxMs: 20_000,
  tailEntriesMax: 4,
};

/** A leader whose log begins after 9, and the cursor of a follower that holds nothing. */
function setUp() {
  const cursor = new FollowerCursor(1, {
    node: "c",
    replicaUid: "c1",
    role: MemberRole.LEARNER,
    internalAddress: "c",
    publicAddress: "c",
    head: undefined,
    target: undefined,
  });
  const emitted: Effect["kind"][] = [];
  const confirmed: number[] = [];
  const flow = new CursorFlow({
    state: {
      options: OPTIONS,
      emit: ({ kind }: Effect) => void emitted.push(kind),
      log: new LogIndex({ term: 1, offset: 9, crc: 0 }),
      commit: 9,
    },
    reads: { round: 0 },
    tracker: { ackedBy: () => null },
    cursorById: () => cursor,
    confirmed: (_node: string, round: number) => void confirmed.push(round),
  } as unknown as Leader);
  const step = (input: object): void => flow.step({ cursorId: 1, ...input } as CursorInput);
  const ack = (mismatch: object | null, round = 0): void => {
    const room = { noSpace: false, entriesRefused: false };
    step({ kind: "cursorAck", ackOffset: -1, synced: false, round, mismatch, ...room });
  };
  /** It answers whatever is asked that it holds nothing. */
  const holdsNothing = (round = 0): void => ack({ term: -1, offset: -1, crc: 0 }, round);
  const failed = (nowMs: number, refused: boolean): void => {
    step({ kind: "snapshotFailed", reason: "why", refused, nowMs });
  };
  return { cursor, flow, step, ack, holdsNothing, failed, emitted, confirmed };
}

describe("replication core: a snapshot that is refused again and again", () => {
  it("for now is tried less and less often, though heartbeats are answered between", () => {
    const { cursor, ack, failed } = setUp();
    const waits: number[] = [];
    for (let nowMs = 0; waits.length < 8; nowMs = cursor.reopenAtMs) {
      cursor.state = "snapshot";
      ack(null);
      failed(nowMs, false);
      waits.push(cursor.reopenAtMs - nowMs);
    }
    assert.deepEqual(waits, [20, 40, 80, 160, 320, 500, 500, 500]);
  });

  it("by a receiver that can take none waits longer, on a stream that goes on", () => {
    const { cursor, flow, step, holdsNothing, failed, emitted, confirmed } = setUp();
    step({ kind: "cursorOpened" });
    const starts: number[] = [];
    let beganMs = 0;
    for (let nowMs = 0; starts.length < 8; nowMs += 20) {
      emitted.length = 0;
      flow.tick(cursor, nowMs);
      holdsNothing(nowMs + 1);
      assert.ok(!emitted.includes("closeCursor") && !emitted.includes("openCursor"));
      if (!emitted.includes("startSnapshot")) continue;
      starts.push(nowMs - beganMs);
      beganMs = nowMs;
      failed(nowMs, true);
      assert.deepEqual([cursor.state, cursor.lastError], ["refused", "why"]);
    }
    const second = 1_000;
    assert.deepEqual(
      starts.map((ms) => ms / second),
      [0, 1, 2, 4, 8, 16, 20, 20],
    );
    assert.ok(confirmed.length > 1_000, "what it confirms counts all the while (R15)");
  });

  it("is not tried earlier because its stream broke, and at once after entries flowed", () => {
    const { cursor, flow, step, ack, holdsNothing, failed, emitted } = setUp();
    step({ kind: "cursorOpened" });
    holdsNothing();
    failed(0, true);
    step({ kind: "cursorClosed", reason: "broken", observedUid: null, nowMs: 100 });
    assert.equal(cursor.state, "down");
    flow.tick(cursor, 500);
    step({ kind: "cursorOpened" });
    emitted.length = 0;
    holdsNothing();
    assert.deepEqual([cursor.state, emitted], ["refused", []]);
    flow.tick(cursor, 999);
    assert.equal(cursor.state, "refused");
    flow.tick(cursor, 1_000);
    assert.equal(cursor.state, "probe");
    // It got what it lacked another way.
    ack(null);
    assert.equal(cursor.state, "stream");
    step({ kind: "cursorBehind" });
    assert.deepEqual([cursor.state, emitted.at(-1)], ["snapshot", "startSnapshot"]);
    failed(2_000, true);
    assert.equal(cursor.snapshotAtMs, 3_000);
  });
});
