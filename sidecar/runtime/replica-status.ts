import type { FollowerCursor } from "../core/follower-cursor.ts";
import type { Replica } from "../core/replica.ts";
import { MemberRole } from "../protocol/gen/resilver.ts";
import type {
  FollowerProgress,
  RecoveryProgress,
  ReplicaStatus,
} from "../protocol/gen/resilver.ts";
import { DOWN, NOT_MEMBER, REGRESSED, ServingStatus } from "../protocol/status.ts";
import type { ReplicaMeta } from "./replica-meta.ts";

const STATE_NAMES = {
  connecting: "Connecting",
  probe: "Probe",
  stream: "Stream",
  noSpace: "NoSpace",
  snapshot: "Snapshot",
  // It answers, and needs one: why it has to wait is its last error.
  refused: "Snapshot",
  notMember: NOT_MEMBER,
  down: DOWN,
} as const;

/** Bytes of a snapshot on its way to one follower. */
export interface TransferBytes {
  readonly done: number;
  readonly total: number;
}

/** What goes into a status beside the core. */
export interface StatusParts {
  readonly node: string;
  readonly namespace: string;
  readonly shard: number;
  readonly meta: ReplicaMeta;
  readonly formattedBefore: boolean;
  readonly durableOffset: number;
  readonly recovery: RecoveryProgress | undefined;
  readonly fault: string;
  readonly stalledMs: number;
  readonly roomBytes: number;
  readonly stateBytes: number;
  readonly transfers: ReadonlyMap<number, TransferBytes>;
}

/** True when the leader counts this replica, as far as it knows (R2). */
export function votes(core: Replica): boolean {
  return core.leader !== null || core.follower.votes;
}

/** One replica's status as the coordinator and people see it. */
export function replicaStatus(core: Replica, parts: StatusParts): ReplicaStatus {
  const { state, leader } = core;
  const { promised, log } = state;
  return {
    namespace: parts.namespace,
    shard: parts.shard,
    storeId: state.storeId,
    replicaUid: state.uid,
    status: state.status,
    term: promised.term,
    bootCounter: state.bootCounter,
    generation: promised.generation,
    head: log.last,
    commitOffset: state.commit,
    appliedOffset: state.applied,
    durableOffset: parts.durableOffset,
    logFirstOffset: log.base.offset + 1,
    wipeReason: parts.meta.wipeReason as ReplicaStatus["wipeReason"],
    formattedBefore: parts.formattedBefore,
    leaderUid: leader === null ? core.follower.leaderUid : state.uid,
    recovery: parts.recovery,
    followers:
      leader === null
        ? []
        : [...leader.cursors.values()].map((cursor) => followerProgress(cursor, parts.transfers)),
    serving: leader?.serving ?? false,
    fault: parts.fault,
    lossEpoch: promised.lossEpoch,
    previousTerm: promised.previousTerm,
    // Saved: the coordinator takes it for done.
    enrolledTerm: parts.meta.enrolled?.term ?? -1,
    commit: log.positionAt(state.commit) ?? undefined,
    votes: votes(core),
    node: parts.node,
    rolledBack: promised.rolledBack,
    noSpace: state.noSpace,
    stalledMs: Math.floor(parts.stalledMs),
    roomBytes: parts.roomBytes,
    stateBytes: parts.stateBytes,
  };
}

function followerProgress(
  cursor: FollowerCursor,
  transfers: ReadonlyMap<number, TransferBytes>,
): FollowerProgress {
  const transfer = transfers.get(cursor.id);
  return {
    node: cursor.node,
    replicaUid: cursor.uid,
    role: cursor.voter ? MemberRole.VOTER : MemberRole.LEARNER,
    state: cursor.regressed ? REGRESSED : STATE_NAMES[cursor.state],
    ackOffset: cursor.ackOffset,
    observedUid: cursor.observedUid ?? "",
    reachedTarget: cursor.reachedTarget,
    snapshotBytesDone: transfer?.done ?? 0,
    snapshotBytesTotal: transfer?.total ?? 0,
    silentMs: 0,
    lastError: cursor.lastError,
  };
}

/** What watchers must learn at once: another one means that there is something to tell. */
export type StatusSignature = readonly (string | number | boolean | null)[];

/** The present signature of a replica. */
export function statusSignature(core: Replica, meta: ReplicaMeta, fault: string): StatusSignature {
  const { state, leader, follower } = core;
  const { term, member, rolledBack } = state.promised;
  const { status, noSpace } = state;
  const enrolledTerm = meta.enrolled?.term ?? -1;
  const counts = votes(core);
  const { leaderUid } = follower;
  const own = [status, term, member, enrolledTerm, rolledBack, noSpace, counts, leaderUid, fault];
  if (leader === null || status !== ServingStatus.LEADER) return own;
  const all: (string | number | boolean | null)[] = own;
  all.push(leader.serving);
  for (const cursor of leader.cursors.values()) {
    const { id, voter, observedUid, reachedTarget, regressed } = cursor;
    all.push(id, cursor.state, voter, observedUid, reachedTarget, regressed);
  }
  return all;
}

/** True when there is nothing to tell. Asked after each batch of inputs. */
export function sameSignature(one: StatusSignature, other: StatusSignature): boolean {
  if (one.length !== other.length) return false;
  for (let i = 0; i < one.length; i += 1) if (one[i] !== other[i]) return false;
  return true;
}
