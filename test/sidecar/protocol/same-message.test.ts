import assert from "node:assert/strict";
import { NodeStatus, ReplicaStatus } from "../../../sidecar/protocol/gen/resilver.ts";
import { sameMessage } from "../../../sidecar/protocol/same-message.ts";

const STATUS = ReplicaStatus.fromPartial({
  replicaUid: "a",
  head: { term: 1, offset: 2, crc: 3 },
  followers: [{ node: "b", ackOffset: 2 }],
});

describe("sameMessage", () => {
  it("compares what messages say, however deep", () => {
    const again = ReplicaStatus.decode(ReplicaStatus.encode(STATUS).finish());
    assert.equal(sameMessage(STATUS, again), true);
    for (const change of [
      { replicaUid: "c" },
      { head: { term: 1, offset: 2, crc: 4 } },
      { head: undefined },
      { commit: { term: 1, offset: 2, crc: 3 } },
      { followers: [] },
      { followers: [...STATUS.followers, ...STATUS.followers] },
      { followers: STATUS.followers.map((follower) => ({ ...follower, ackOffset: 3 })) },
    ]) {
      const changed = { ...STATUS, ...change };
      assert.equal(sameMessage(STATUS, changed), false, JSON.stringify(change));
      assert.equal(sameMessage(changed, STATUS), false, JSON.stringify(change));
    }
    const node = NodeStatus.fromPartial({ node: "a", replicas: [STATUS] });
    assert.equal(sameMessage(node, { ...node, replicas: [again] }), true);
  });

  it("compares bytes, and takes a field that is not there for one that is undefined", () => {
    const bytes = (text: string): object => ({ value: Buffer.from(text) });
    assert.equal(sameMessage(bytes("a"), { value: new Uint8Array([97]) }), true);
    assert.equal(sameMessage(bytes("a"), bytes("b")), false);
    assert.equal(sameMessage({ a: undefined }, {}), true);
    assert.equal(sameMessage({}, { a: undefined }), true);
    assert.equal(sameMessage({}, { a: null }), false);
    assert.equal(sameMessage({ a: null }, {}), false);
    assert.equal(sameMessage(null, {}), false);
  });
});
