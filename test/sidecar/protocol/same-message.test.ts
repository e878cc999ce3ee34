import assert from "node:assert/strict";
import { LogPosition, ReplicaStatus } from "../../../sidecar/protocol/gen/resilver.ts";
import { sameMessage } from "../../../sidecar/protocol/same-message.ts";

function status(changed: Partial<ReplicaStatus> = {}): ReplicaStatus {
  const follower = { node: "pod-1", replicaUid: "abc", state: "Stream", ackOffset: 7 };
  const head = LogPosition.fromPartial({ term: 2, offset: 7, crc: 0xffffffff });
  return ReplicaStatus.fromPartial({ term: 2, head, followers: [follower], ...changed });
}

describe("sameMessage", () => {
  it("finds two messages with the same contents the same", () => {
    assert.equal(sameMessage([status()], [status()]), true);
    assert.equal(sameMessage([], []), true);
  });

  it("sees a change of a number, of a nested message, and in a list", () => {
    const head = LogPosition.fromPartial({ term: 2, offset: 7, crc: 0xfffffffe });
    assert.equal(sameMessage([status()], [status({ term: 3 })]), false);
    assert.equal(sameMessage([status()], [status({ head })]), false);
    assert.equal(sameMessage([status()], [status({ followers: [] })]), false);
    const [behind] = status().followers;
    assert.ok(behind !== undefined);
    const followers = [{ ...behind, ackOffset: 6 }];
    assert.equal(sameMessage([status()], [status({ followers })]), false);
  });

  it("tells a part that is not there from one that is", () => {
    assert.equal(sameMessage([status()], [status({ head: undefined })]), false);
    assert.equal(sameMessage([status({ head: undefined })], [status()]), false);
    assert.equal(sameMessage([status()], []), false);
    assert.equal(sameMessage([status()], null), false);
    assert.equal(sameMessage({}, { name: "pod-1" }), false);
  });
});
