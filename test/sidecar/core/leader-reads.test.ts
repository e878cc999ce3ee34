import assert from "node:assert/strict";
import { LogIndex } from "../../../sidecar/core/log-index.ts";
import type { Replica } from "../../../sidecar/core/replica.ts";
import { leadingReplica } from "./leading-replica.ts";

/** The follower takes the barrier and answers. */
function serve(core: Replica): void {
  core.step({ kind: "synced", offset: 0, logEpoch: core.state.logEpoch });
  core.step({ kind: "cursorOpened", cursorId: 1 });
  const ack = { kind: "cursorAck", cursorId: 1, synced: true, round: 0, mismatch: null } as const;
  const room = { noSpace: false, entriesRefused: false };
  core.step({ ...ack, ackOffset: 0, ...room });
  assert.equal(core.leader?.serving, true);
}

describe("replication core: reads of the leader's own accord", () => {
  it("are answered without a round, but not before it serves (R7)", () => {
    const core = leadingReplica(new LogIndex(), true);
    assert.equal(core.step({ kind: "read", id: 3 })[0]?.kind, "refuse");
    serve(core);
    assert.deepEqual(core.step({ kind: "read", id: 4 }), [
      { kind: "releaseReads", requestIds: [4], offset: 0 },
    ]);
  });

  it("are not given where reads have to be linearizable (R15)", () => {
    const core = leadingReplica(new LogIndex());
    serve(core);
    const effects = core.step({ kind: "read", id: 4 });
    assert.ok(!effects.some(({ kind }) => kind === "releaseReads"));
  });
});
