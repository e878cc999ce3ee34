/** What every step on one shard uses, and the fields that all its calls have in common. */
import type { Clock } from "../../sidecar/lib/ports/clock.ts";
import { KeySortingType, MemberRole, type Member } from "../../sidecar/protocol/gen/resilver.ts";
import type { LogPosition } from "../../sidecar/protocol/entry.ts";
import type { CoordinatorEvents } from "../core/events.ts";
import type { RecoveryPolicy } from "../core/gates.ts";
import type { RecordMember, ShardKey, ShardRecord } from "../core/record.ts";
import { CallFailed, type CallOptions, type NodeEndpoint, type SidecarClient } from "./ports.ts";
import type { RecordKeeper } from "./record-keeper.ts";
import type { Timings } from "./timings.ts";

export interface ShardContext {
  readonly key: ShardKey;
  readonly keeper: RecordKeeper;
  readonly sidecars: SidecarClient;
  readonly clock: Clock;
  readonly events: CoordinatorEvents;
  readonly policy: RecoveryPolicy;
  readonly timings: Timings;
  /** Where a node is; null for one that the store does not have (any more). */
  readonly endpoint: (node: string) => NodeEndpoint | null;
}

/** Where a node is. Throws CallFailed when the store has no such node. */
export function endpointOf(context: ShardContext, node: string): NodeEndpoint {
  const endpoint = context.endpoint(node);
  if (endpoint === null) throw new CallFailed(node, `${node}: not a node of this store`, false);
  return endpoint;
}

/** A call bounded by the ordinary deadline. */
export function ordinaryCall(context: ShardContext, signal: AbortSignal): CallOptions {
  return { deadlineMs: context.timings.callDeadlineMs, signal };
}

/** Fields that every call of the record's term carries (R4, R18). */
export function termFields(record: ShardRecord): {
  readonly namespace: string;
  readonly shard: number;
  readonly term: number;
  readonly generation: number;
} {
  const { namespace, shard, term, generation } = record;
  return { namespace, shard, term, generation };
}

/** Options of the shard that a replica persists with a term. */
export function termOptions(record: ShardRecord): {
  readonly enableNotifications: boolean;
  readonly keySorting: KeySortingType;
} {
  return {
    enableNotifications: record.notifications,
    keySorting:
      record.keySorting === "natural" ? KeySortingType.NATURAL : KeySortingType.HIERARCHICAL,
  };
}

/** The recorded leader. Throws CallFailed when the record has none. */
export function leaderOf(
  context: ShardContext,
  record: ShardRecord,
): { readonly to: NodeEndpoint; readonly uid: string } {
  if (record.leader === null) throw new CallFailed("", "the shard has no leader now", false);
  return { to: endpointOf(context, record.leader.node), uid: record.leader.uid };
}

const roles: Readonly<Record<RecordMember["role"], MemberRole>> = {
  voter: MemberRole.VOTER,
  learner: MemberRole.LEARNER,
  leaving: MemberRole.LEAVING,
};

/**
 * A member as the leader is told of it. `head` is what it reported when it was fenced, if it was.
 */
export function wireMember(
  context: ShardContext,
  member: RecordMember,
  head: { readonly term: number; readonly offset: number } | undefined,
): Member {
  const endpoint = endpointOf(context, member.node);
  const target: LogPosition | undefined = member.target;
  return {
    node: member.node,
    replicaUid: member.replicaUid,
    role: roles[member.role],
    internalAddress: endpoint.internalAddress,
    publicAddress: endpoint.publicAddress,
    head: head === undefined ? undefined : { term: head.term, offset: head.offset },
    target: target === undefined ? undefined : { ...target },
  };
}
