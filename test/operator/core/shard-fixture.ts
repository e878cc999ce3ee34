/** One shard of three voters as it ought to be, to be changed in what a test is about. */
import type { Observed, ObservedNode } from "../../../operator/core/observed.ts";
import { newRecord, type RecordMember, type ShardRecord } from "../../../operator/core/record.ts";
import {
  FollowerProgress,
  MemberRole,
  ReplicaStatus,
  ServingStatus,
} from "../../../sidecar/protocol/gen/resilver.ts";

/** Where the voters are; the first one leads. */
export const NODES: readonly string[] = ["a", "b", "c"];

/** The recorded voter on a node. */
export function voter(node: string, change: Partial<RecordMember> = {}): RecordMember {
  return { node, replicaUid: `${node}1`, role: "voter", ackedTerm: 5, ackedBoot: 1, ...change };
}

/** The record of voters on a, b and c in term 5, which `a` leads. */
export function recordOf(change: Partial<ShardRecord> = {}): ShardRecord {
  const ensemble = change.ensemble ?? NODES;
  const start = newRecord({
    storeId: "s",
    namespace: "default",
    shard: 0,
    ensemble,
    replicationFactor: ensemble.length,
    keySorting: "hierarchical",
    notifications: false,
  });
  return {
    ...start,
    initialized: true,
    generation: 3,
    term: 5,
    leader: { node: "a", uid: "a1", bootCounter: 1 },
    members: ensemble.map((node) => voter(node)),
    commitFloor: { term: 5, offset: 0 },
    ...change,
  };
}

/** That record with one member changed. */
export function withVoter(node: string, change: Partial<RecordMember>): ShardRecord {
  return recordOf({
    members: NODES.map((other) => (other === node ? voter(node, change) : voter(other))),
  });
}

/** How the leader shows that it feeds a voter that holds everything. */
export function fed(node: string, change: Partial<FollowerProgress> = {}): FollowerProgress {
  return FollowerProgress.fromPartial({
    node,
    replicaUid: `${node}1`,
    role: MemberRole.VOTER,
    state: "Stream",
    ackOffset: 10,
    ...change,
  });
}

/** What the voter on a node reports: it holds everything up to offset 10. */
export function replicaOf(node: string, change: Partial<ReplicaStatus> = {}): ReplicaStatus {
  const leads = node === NODES[0];
  return ReplicaStatus.fromPartial({
    storeId: "s",
    replicaUid: `${node}1`,
    status: leads ? ServingStatus.LEADER : ServingStatus.FOLLOWER,
    term: 5,
    enrolledTerm: -1,
    bootCounter: 1,
    generation: 3,
    formattedBefore: true,
    head: { term: 5, offset: 10, crc: 0 },
    commit: { term: 5, offset: 10, crc: 0 },
    commitOffset: 10,
    serving: leads,
    followers: leads ? NODES.slice(1).map((other) => fed(other)) : [],
    ...change,
  });
}

/** A node that is here, with its voter. */
export function nodeOf(node: string, change: Partial<ObservedNode> = {}): ObservedNode {
  return {
    node,
    reach: "up",
    replica: replicaOf(node),
    openRefusal: null,
    volumeTerminating: false,
    claims: null,
    ...change,
  };
}

/** The three nodes, changed in what is named, and more nodes where others are named. */
export function observedOf(
  changes: Readonly<Record<string, Partial<ObservedNode>>> = {},
  about: Partial<Observed> = {},
): Observed {
  const names = new Set([...NODES, ...Object.keys(changes)]);
  return {
    nowMs: 1_000_000,
    nodes: new Map([...names].map((node) => [node, nodeOf(node, changes[node])])),
    leaderSettling: false,
    leaderCutOffMs: 0,
    leaderIdleMs: 0,
    confirmedSets: null,
    belowFloor: null,
    recoveringNodes: new Set(),
    orderedUids: new Set(),
    ...about,
  };
}
