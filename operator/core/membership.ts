/**
 * How a wiped, rolled-back or new replica becomes a voter: what to do next, and what the record
 * says then.
 */
import type { EntryId, LogPosition } from "../../sidecar/protocol/entry.ts";
import { MemberRole, type ReplicaStatus } from "../../sidecar/protocol/gen/resilver.ts";
import { DOWN, NOT_MEMBER } from "../../sidecar/protocol/status.ts";
import { withFloor } from "./election.ts";
import {
  firstClosedGate,
  gateMessage,
  type Gate,
  type GateInput,
  type RecoveryPolicy,
} from "./gates.ts";
import {
  currentReplica,
  followerAt,
  isClaimReplaced,
  isSuspect,
  isWiped,
  voterReach,
  type Observed,
} from "./observed.ts";
import { isQuorum } from "./quorum.ts";
import {
  memberOn,
  voterSets,
  withMember,
  type RecordMember,
  type RecoveryReason,
  type ShardRecord,
} from "./record.ts";
import { recoveryReason } from "./verdict.ts";

/** One thing to do to a replica. Each may be repeated at any time. */
export type MemberAction =
  /** NewTerm(term), then AddFollower: a voter that the leader does not feed. */
  | { readonly kind: "attach"; readonly node: string; readonly uid: string }
  /** RemoveFollower(oldUid) for the target, save as learner, Enrol, AddFollower. */
  | {
      readonly kind: "recover";
      readonly node: string;
      readonly oldUid: string;
      readonly newUid: string;
      readonly reason: RecoveryReason;
      /** False: a recovery already counted goes on in a new term. */
      readonly counted: boolean;
    }
  /** Enrol, AddFollower: the record has it, the replica does not show it. */
  | { readonly kind: "enrol"; readonly node: string; readonly uid: string }
  /** Save as voter, then Promote at the leader (R16). */
  | { readonly kind: "promote"; readonly node: string; readonly uid: string }
  /** Promote at the leader: the record has it, the leader does not show it. */
  | { readonly kind: "tellPromoted"; readonly node: string; readonly uid: string };

/** A recovery that may not begin yet. */
export interface Deferral {
  readonly node: string;
  readonly gate: Gate;
  readonly reason: RecoveryReason;
  readonly message: string;
}

/** What membership asks for. */
export interface MemberPlan {
  readonly actions: readonly MemberAction[];
  readonly deferrals: readonly Deferral[];
}

/** Everything about one shard's members under a steady leader. `leader` is its current report. */
export function planMembers(
  record: ShardRecord,
  observed: Observed,
  leader: ReplicaStatus,
  policy: RecoveryPolicy,
): MemberPlan {
  const actions: MemberAction[] = [];
  const deferrals: Deferral[] = [];
  // Grows as this plan starts recoveries, so that one plan never starts more than the limit.
  const recoveringNodes = new Set(observed.recoveringNodes);
  for (const member of record.members) {
    if (member.role === "leaving" || member.replicaUid === leader.replicaUid) continue;
    // Not acted upon before its vote is taken, and that waits for no gate: see planDemotions.
    if (isSuspect(record, observed, member)) continue;
    const step = planMember(record, observed, leader, member);
    if (step === null) continue;
    // A recovery that goes on in a new term passed the gates when it began.
    if (step.kind === "recover" && step.counted) {
      const closed = closedGate(record, { ...observed, recoveringNodes }, policy, step, true);
      if (closed !== null) {
        deferrals.push(closed);
        continue;
      }
      recoveringNodes.add(step.node);
    }
    // One replica per step: the next is judged against the record that this one leaves (R16).
    if (step.kind === "promote" && actions.some((other) => other.kind === "promote")) continue;
    actions.push(step);
  }
  return { actions, deferrals };
}

/** Recoveries that are called for while nobody leads: all deferred, each under its gate. */
export function deferAll(
  record: ShardRecord,
  observed: Observed,
  policy: RecoveryPolicy,
): readonly Deferral[] {
  const deferrals: Deferral[] = [];
  for (const member of record.members) {
    if (member.role === "leaving" || !isWiped(observed, member)) continue;
    const replica = observed.nodes.get(member.node)?.replica ?? null;
    if (replica === null) continue;
    const step = recoverStep(observed, member, replica);
    const closed = closedGate(record, observed, policy, step, false);
    if (closed !== null) deferrals.push(closed);
  }
  return deferrals;
}

function planMember(
  record: ShardRecord,
  observed: Observed,
  leader: ReplicaStatus,
  member: RecordMember,
): MemberAction | null {
  const replica = currentReplica(observed, member.node);
  if (replica === null) return unconfirmedStep(leader, member);
  if (replica.replicaUid !== member.replicaUid) {
    return replica.replicaUid === "" ? null : recoverStep(observed, member, replica);
  }
  // A damaged replica formats itself anew; one whose log is not the leader's waits for a person
  // (R9). Until then there is nothing to feed.
  if (replica.fault !== "") return null;
  return member.role === "learner"
    ? planLearner(record, observed, leader, member, replica)
    : planVoter(record, leader, member, replica);
}

/**
 * The leader met another uid before the node reported it: seen, not acted upon, deferred as
 * StaleView.
 */
function unconfirmedStep(leader: ReplicaStatus, member: RecordMember): MemberAction | null {
  const met = followerAt(leader, member)?.observedUid ?? "";
  if (met === "" || met === member.replicaUid) return null;
  return {
    kind: "recover",
    node: member.node,
    oldUid: member.replicaUid,
    newUid: met,
    reason: "IdentityMismatch",
    counted: true,
  };
}

function planVoter(
  record: ShardRecord,
  leader: ReplicaStatus,
  member: RecordMember,
  replica: ReplicaStatus,
): MemberAction | null {
  const fed = followerAt(leader, member);
  // Another replica answered for a while; the recorded one is back.
  if (fed === undefined || fed.state === NOT_MEMBER) {
    return { kind: "attach", node: member.node, uid: member.replicaUid };
  }
  // It refuses its leader, since it is in an older term than it promised: its disk may have been
  // set back. Fencing it in the present term tells (R3, H19); a mere late report does no harm.
  if (fed.state === DOWN && replica.term < record.term) {
    return { kind: "attach", node: member.node, uid: member.replicaUid };
  }
  if (fed.role === MemberRole.LEARNER) {
    return { kind: "tellPromoted", node: member.node, uid: member.replicaUid };
  }
  return null;
}

function planLearner(
  record: ShardRecord,
  observed: Observed,
  leader: ReplicaStatus,
  member: RecordMember,
  replica: ReplicaStatus,
): MemberAction | null {
  // Enrolment is for one term; in a new one the old target proves nothing (R16).
  if (member.enrolTerm !== record.term || member.target === undefined) {
    const step = recoverStep(observed, member, replica);
    // A rolled-back voter was demoted before; its recovery begins, and is counted, here.
    return { ...step, counted: member.reason === "RolledBack" && member.enrolTerm === undefined };
  }
  const fed = followerAt(leader, member);
  // A call from before its vote was taken may have come late: AddFollower takes that vote again.
  const counted = fed?.role === MemberRole.VOTER;
  if (replica.enrolledTerm < record.term || fed === undefined || counted) {
    return { kind: "enrol", node: member.node, uid: member.replicaUid };
  }
  return fed.reachedTarget ? { kind: "promote", node: member.node, uid: member.replicaUid } : null;
}

function recoverStep(
  observed: Observed,
  member: RecordMember,
  replica: ReplicaStatus,
): Extract<MemberAction, { kind: "recover" }> {
  return {
    kind: "recover",
    node: member.node,
    oldUid: member.replicaUid,
    newUid: replica.replicaUid,
    reason: recoveryReason({ member, replica, pvcReplaced: isClaimReplaced(observed, member) }),
    counted: true,
  };
}

/**
 * The gate that defers this recovery; null when it may begin. `steady`: the shard has a steady
 * leader.
 */
export function closedGate(
  record: ShardRecord,
  observed: Observed,
  policy: RecoveryPolicy,
  step: Extract<MemberAction, { kind: "recover" }>,
  steady: boolean,
): Deferral | null {
  const seen = observed.nodes.get(step.node);
  const replica = currentReplica(observed, step.node);
  const leader = record.leader === null ? null : currentReplica(observed, record.leader.node);
  const member = memberOn(record, step.node);
  const { reachable } = voterReach(record, observed);
  const others = new Set([...reachable].filter((node) => node !== step.node));
  const input: GateInput = {
    node: step.node,
    policy,
    leader: steady ? "steady" : "lost",
    quorumWithout: isQuorum(voterSets(record), others),
    recoveringNodes: observed.recoveringNodes,
    recoveries: member?.recoveries ?? 0,
    lastRecoveryAtMs: member?.lastRecoveryAtMs ?? null,
    nowMs: observed.nowMs,
    volumeTerminating: seen?.volumeTerminating ?? false,
    confirmedByNode: replica?.replicaUid === step.newUid,
    ordered: observed.orderedUids.has(step.newUid),
    roomBytes: replica?.roomBytes ?? 0,
    neededBytes: leader?.stateBytes ?? 0,
  };
  const gate = firstClosedGate(input);
  if (gate === null) return null;
  return { node: step.node, gate, reason: step.reason, message: gateMessage(gate, input) };
}

/**
 * The record to save before Enrol: this uid learns, from this term's leader, towards `target`; the
 * old uid of the node is forgotten.
 */
export function withLearner(
  record: ShardRecord,
  step: Extract<MemberAction, { kind: "recover" }>,
  target: LogPosition,
  policy: RecoveryPolicy,
  nowMs: number,
): ShardRecord {
  const before = memberOn(record, step.node);
  const fresh = nowMs - (before?.lastRecoveryAtMs ?? 0) >= policy.cooldownResetMs;
  const earlier = fresh ? 0 : (before?.recoveries ?? 0);
  const counting = step.counted
    ? { recoveries: earlier + 1, lastRecoveryAtMs: nowMs }
    : {
        ...(before?.recoveries === undefined ? {} : { recoveries: before.recoveries }),
        ...(before?.lastRecoveryAtMs === undefined
          ? {}
          : { lastRecoveryAtMs: before.lastRecoveryAtMs }),
      };
  // The old uid never leads here: a wiped leader is replaced by an election first.
  return withMember(record, {
    node: step.node,
    replicaUid: step.newUid,
    role: "learner",
    ackedTerm: -1,
    enrolTerm: record.term,
    target: { term: target.term, offset: target.offset, crc: target.crc },
    reason: step.reason,
    ...counting,
  });
}

/**
 * The record to save before Promote: the learner votes. Null unless term, leader and uid are what
 * they were when it was enrolled (R16). `committed` raises the floor (R6).
 */
export function withPromoted(
  record: ShardRecord,
  node: string,
  uid: string,
  committed: EntryId | null,
): ShardRecord | null {
  const member = memberOn(record, node);
  if (member === undefined || member.replicaUid !== uid || member.role !== "learner") return null;
  if (record.leader === null || member.enrolTerm !== record.term) return null;
  const { enrolTerm: _enrolTerm, target: _target, reason: _reason, ...kept } = member;
  // Enrol made the replica persist this term, which is thereby acknowledged (R3).
  const voter: RecordMember = { ...kept, role: "voter", ackedTerm: record.term };
  const promoted = withMember(withFloor(record, committed), voter);
  const { next } = record;
  if (next === undefined || next.joint || record.ensemble.includes(node)) return promoted;
  // The new node of an ensemble change: its vote and the joint state begin together (R13).
  return { ...promoted, next: { ...next, joint: true }, ensembleTerm: record.term };
}
