import assert from "node:assert/strict";
import { CursorFlow } from "../../../sidecar/core/cursor-flow.ts";
import { FollowerCursor } from "../../../sidecar/core/follower-cursor.ts";
import type { CursorInput } from "../../../sidecar/core/input.ts";
import type { Leader } from "../../../sidecar/core/leader.ts";
import { LogIndex } from "../../../sidecar/core/log-index.ts";
import { MemberRole } from "../../../sidecar/protocol/gen/resilver.ts";

describe("replication core: a snapshot that is refused again and again", () => {
  it("is tried less and less often, though heartbeats are answered between", () => {
    const cursor = new FollowerCursor(1, {
      node: "c",
      replicaUid: "c1",
      role: MemberRole.LEARNER,
      internalAddress: "c",
      publicAddress: "c",
      head: undefined,
      target: undefined,
    });
    const options = { heartbeatMs: 100, reconnectMinMs: 20, reconnectMaxMs: 500 };
    const flow = new CursorFlow({
      state: { options, emit: () => undefined, log: new LogIndex(), commit: -1 },
      reads: { round: 0 },
      cursorById: () => cursor,
      confirmed: () => undefined,
    } as unknown as Leader);
    const waits: number[] = [];
    for (let nowMs = 0; waits.length < 8; nowMs = cursor.reopenAtMs) {
      cursor.state = "snapshot";
      const alive = { ackOffset: -1, synced: false, round: 0, mismatch: null } as const;
      const room = { noSpace: false, entriesRefused: false };
      flow.step({ kind: "cursorAck", cursorId: 1, ...alive, ...room } as CursorInput);
      flow.step({ kind: "snapshotFailed", cursorId: 1, reason: "busy", nowMs });
      waits.push(cursor.reopenAtMs - nowMs);
    }
    assert.deepEqual(waits, [20, 40, 80, 160, 320, 500, 500, 500]);
  });
});
