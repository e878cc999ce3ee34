/** Who votes and what it lacks, by the leader's own report of its streams. */
import assert from "node:assert/strict";
import { DEFAULT_RECOVERY_POLICY } from "../../../operator/core/gates.ts";
import type { Observed, ObservedNode } from "../../../operator/core/observed.ts";
import { plan } from "../../../operator/core/plan.ts";
import { newRecord, type ShardRecord } from "../../../operator/core/record.ts";
import { shardView, type ReplicaView } from "../../../operator/core/status.ts";
import {
  FollowerProgress,
  MemberRole,
  ReplicaStatus,
  ServingStatus,
} from "../../../sidecar/protocol/gen/resilver.ts";

const NODES = ["a", "b", "c"];

function record(): ShardRecord {
  const start = newRecord({
    storeId: "s1",
    namespace: "default",
    shard: 0,
    ensemble: NODES,
    replicationFactor: 3,
    keySorting: "hierarchical",
    notifications: false,
  });
  const members = NODES.map((node) => ({
    node,
    replicaUid: `${node}1`,
    role: "voter" as const,
    ackedTerm: 1,
  }));
  const leader = { node: "a", uid: "a1", bootCounter: 1 };
  return { ...start, initialized: true, term: 1, leader, members };
}

function replica(node: string, change: Partial<ReplicaStatus>): ObservedNode {
  const base = { storeId: "s1", replicaUid: `${node}1`, term: 1, bootCounter: 1 };
  const status = ReplicaStatus.fromPartial({ ...base, ...change });
  const about = { openRefusal: null, volumeTerminating: false, claims: null };
  return { node, reach: "up", replica: status, ...about };
}

/** How a leader that committed up to 7 shows the follower b, which it feeds so. */
function follower(fed: { readonly state: string; readonly ackOffset: number }): ReplicaView {
  const followers = ["b", "c"].map((node) =>
    FollowerProgress.fromPartial({
      node,
      replicaUid: `${node}1`,
      role: MemberRole.VOTER,
      ...(node === "b" ? fed : { state: "Stream", ackOffset: 7 }),
    }),
  );
  const status = ServingStatus.FOLLOWER;
  const leads = { status: ServingStatus.LEADER, serving: true, commitOffset: 7, followers };
  const nodes = new Map([
    ["a", replica("a", leads)],
    ["b", replica("b", { status })],
    ["c", replica("c", { status })],
  ]);
  const observed: Observed = {
    nowMs: 0,
    nodes,
    leaderSettling: false,
    leaderCutOffMs: 0,
    leaderIdleMs: 0,
    confirmedSets: null,
    belowFloor: null,
    recoveringNodes: new Set(),
    orderedUids: new Set(),
  };
  const planned = plan(record(), observed, DEFAULT_RECOVERY_POLICY);
  const view = shardView(record(), observed, planned).replicas.find(({ node }) => node === "b");
  assert.ok(view !== undefined);
  return view;
}

describe("the view of a follower", () => {
  const cases = [
    ["Stream", 7, true, 0],
    ["Stream", 9, true, 0],
    ["Stream", 5, true, 2],
    ["NoSpace", 5, true, null],
    ["Snapshot", -1, true, null],
    ["Probe", 7, false, null],
    ["Connecting", 7, false, null],
    ["Down", 7, false, null],
  ] as const;
  for (const [state, ackOffset, voting, lacksEntries] of cases) {
    it(`${state}, acknowledged to ${ackOffset} of 7`, () => {
      const view = follower({ state, ackOffset });
      const told = [view.voting, view.lacksEntries, view.holdsCommitted];
      assert.deepEqual(told, [voting, lacksEntries, lacksEntries === 0]);
    });
  }
});
