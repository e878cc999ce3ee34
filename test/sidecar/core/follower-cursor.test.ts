import assert from "node:assert/strict";
import { FollowerCursor, needsSnapshot } from "../../../sidecar/core/follower-cursor.ts";
import { MemberRole } from "../../../sidecar/protocol/gen/resilver.ts";
import { LOG_START } from "../../../sidecar/protocol/entry.ts";
import { member } from "./coordinator-orders.ts";
import { head } from "./following-replica.ts";

describe("replication core: a cursor", () => {
  it("forgets all that it knew of a replica that is no member (R4, R10)", () => {
    const target = head([1, 1]);
    const cursor = new FollowerCursor(1, member("a", MemberRole.LEARNER, { target }));
    const fresh = new FollowerCursor(1, member("a", MemberRole.LEARNER, { target }));
    assert.equal(cursor.reachedTarget, false);
    cursor.ackOffset = 1;
    assert.equal(cursor.reachedTarget, true);
    cursor.lastPushed = 4;
    cursor.snapshotOffset = 3;
    cursor.probe = head([1]);
    cursor.matched = head([1]);
    cursor.noSpace = true;
    cursor.forget();
    assert.deepEqual(cursor, fresh);
    assert.equal(cursor.reachedTarget, false);
  });

  it("needs a snapshot for what is not in the log, and for an empty follower of a long one", () => {
    const base = { term: 1, offset: 7, crc: 1 };
    const at = (offset: number): typeof base => ({ ...base, offset });
    assert.equal(needsSnapshot(null, LOG_START, 0, 4), true);
    assert.equal(needsSnapshot(at(6), base, 9, 4), true);
    assert.equal(needsSnapshot(at(7), base, 99, 4), false);
    assert.equal(needsSnapshot(LOG_START, LOG_START, 3, 4), false);
    assert.equal(needsSnapshot(LOG_START, LOG_START, 4, 4), true);
    assert.equal(needsSnapshot(at(0), LOG_START, 99, 4), false);
  });
});
