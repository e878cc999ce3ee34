import assert from "node:assert/strict";
import type { Effect } from "../../../sidecar/core/effect.ts";
import type { Input } from "../../../sidecar/core/input.ts";
import { LogIndex } from "../../../sidecar/core/log-index.ts";
import { Replica } from "../../../sidecar/core/replica.ts";
import { MemberRole } from "../../../sidecar/protocol/gen/resilver.ts";

const SHARD = { namespace: "default", shard: 0, storeId: "store", generation: 1 };
const OPTIONS = {
  heartbeatMs: 100,
  reconnectMinMs: 10,
  reconnectMaxMs: 100,
  tailEntriesMax: 4,
  pendingReadsMax: 10,
};

/** Leads term 1 with two entries of term 0; `b` is about to be asked where its log agrees. */
function leader(): Replica {
  const core = new Replica(
    {
      node: "a",
      storeId: "store",
      uid: "a1",
      bootCounter: 1,
      formattedBefore: true,
      promised: {
        term: 0,
        previousTerm: 0,
        rolledBack: false,
        generation: 0,
        lossEpoch: 0,
        member: true,
        enrolled: null,
      },
      log: new LogIndex(undefined, Uint32Array.of(7, 8), [{ term: 0, offset: 0 }]),
      applied: -1,
    },
    OPTIONS,
  );
  const to = { ...SHARD, term: 1, targetUid: "a1" };
  const fence = core.step({
    kind: "newTerm",
    id: 1,
    request: { ...to, bootstrap: false, options: undefined },
  });
  for (const effect of fence) {
    if (effect.kind !== "persistMeta") continue;
    core.step({ kind: "metaPersisted", token: effect.token });
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

describe("replication core: a follower whose log begins with what the leader does not hold", () => {
  it("is asked a few times, then left alone for a while: nothing is sent or cut", () => {
    const core = leader();
    const answer: Input = {
      kind: "cursorAck",
      cursorId: 1,
      ackOffset: -1,
      synced: false,
      round: 0,
      mismatch: { term: 0, offset: 2, crc: 99 },
      noSpace: false,
      entriesRefused: false,
    };
    const seen: Effect[] = [...core.step({ kind: "cursorOpened", cursorId: 1 })];
    for (let n = 0; n < 20 && core.leader?.cursors.get("b")?.state === "probe"; n += 1) {
      seen.push(...core.step(answer));
    }
    const kinds = seen.map(({ kind }) => kind);
    assert.ok(!kinds.includes("streamFrom") && !kinds.includes("startSnapshot"), kinds.join());
    assert.ok(kinds.filter((kind) => kind === "heartbeat").length < 10, kinds.join());
    assert.equal(kinds.at(-1), "closeCursor");
    const cursor = core.leader?.cursors.get("b");
    assert.equal(cursor?.state, "down");
    assert.match(cursor.lastError, /^its log begins at 0:2, which the leader does not hold$/u);
  });
});
