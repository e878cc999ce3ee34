import assert from "node:assert/strict";
import { LogIndex } from "../../../sidecar/core/log-index.ts";
import { Replica } from "../../../sidecar/core/replica.ts";
import { MemberRole } from "../../../sidecar/protocol/gen/resilver.ts";

const SHARD = { namespace: "default", shard: 0, storeId: "store", generation: 1 };

/** About to lead term 1 with a follower that has not answered; its barrier is not committed. */
function leader(leaderReads: boolean): Replica {
  const promised = {
    term: 0,
    previousTerm: 0,
    rolledBack: false,
    generation: 0,
    lossEpoch: 0,
    member: true,
    enrolled: null,
  };
  const options = {
    heartbeatMs: 100,
    reconnectMinMs: 10,
    reconnectMaxMs: 100,
    tailEntriesMax: 4,
    pendingReadsMax: 10,
    leaderReads,
  };
  const initial = {
    node: "a",
    storeId: "store",
    uid: "a1",
    bootCounter: 1,
    formattedBefore: true,
    promised,
    log: new LogIndex(),
    applied: -1,
  };
  const core = new Replica(initial, options);
  const to = { ...SHARD, term: 1, targetUid: "a1" };
  const newTerm = { ...to, bootstrap: false, options: undefined };
  for (const effect of core.step({ kind: "newTerm", id: 1, request: newTerm })) {
    if (effect.kind === "persistMeta") core.step({ kind: "metaPersisted", token: effect.token });
  }
  const b = {
    node: "b",
    replicaUid: "b1",
    role: MemberRole.VOTER,
    internalAddress: "b",
    publicAddress: "b",
    head: undefined,
    target: undefined,
  };
  const request = { ...to, bootCounter: 1, members: [b], lossEpoch: 0, replicationFactor: 2 };
  const sets = { followerMaps: {}, voterSets: [{ nodes: ["a", "b"] }] };
  core.step({ kind: "becomeLeader", id: 2, nowMs: 0, request: { ...request, ...sets } });
  return core;
}

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
    const core = leader(true);
    assert.equal(core.step({ kind: "read", id: 3 })[0]?.kind, "refuse");
    serve(core);
    assert.deepEqual(core.step({ kind: "read", id: 4 }), [
      { kind: "releaseReads", requestIds: [4], offset: 0 },
    ]);
  });

  it("are not given where reads have to be linearizable (R15)", () => {
    const core = leader(false);
    serve(core);
    const effects = core.step({ kind: "read", id: 4 });
    assert.ok(!effects.some(({ kind }) => kind === "releaseReads"));
  });
});
