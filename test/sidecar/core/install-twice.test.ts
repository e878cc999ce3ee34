import assert from "node:assert/strict";
import type { CoreOptions, InitialState } from "../../../sidecar/core/replica-state.ts";
import { LogIndex } from "../../../sidecar/core/log-index.ts";
import { Replica } from "../../../sidecar/core/replica.ts";

describe("replication core: a second snapshot stream", () => {
  it("is put off, not refused for good: the first may be what it wants to go on with", () => {
    const promised = {
      term: 1,
      previousTerm: 0,
      rolledBack: false,
      generation: 0,
      lossEpoch: 0,
      member: true,
    };
    const initial: InitialState = {
      node: "b",
      storeId: "store",
      uid: "b1",
      bootCounter: 1,
      formattedBefore: true,
      promised: { ...promised, enrolled: { term: 1, leaderUid: "a1" } },
      log: new LogIndex(),
      applied: -1,
    };
    const core = new Replica(initial, {} as CoreOptions);
    const peer = {
      namespace: "default",
      shard: 0,
      term: 1,
      leaderUid: "a1",
      targetUid: "b1",
      storeId: "store",
      generation: 0,
      majorityHolds: false,
    };
    const first = core.step({ kind: "installBegin", streamId: 1, peer });
    assert.deepEqual(first, [{ kind: "acceptInstall", streamId: 1 }]);
    const [second] = core.step({ kind: "installBegin", streamId: 2, peer });
    assert(second?.kind === "closeStream");
    assert.equal(second.refusal?.reason, "RESOURCE_UNAVAILABLE");
    core.step({ kind: "installEnded", streamId: 1 });
    const third = core.step({ kind: "installBegin", streamId: 3, peer });
    assert.deepEqual(third, [{ kind: "acceptInstall", streamId: 3 }]);
  });
});
