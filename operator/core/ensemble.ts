/** Ensemble changes, one replica at a time: learn, join, vote in both sets, leave, retire (R13). */
import type { EntryId } from "../../sidecar/protocol/entry.ts";
import type { ReplicaStatus } from "../../sidecar/protocol/gen/resilver.ts";
import { withFloor } from "./election.ts";
import { currentReplica, type Observed, takesEntries, voterReach } from "./observed.ts";
import { voterSetsText } from "./quorum.ts";
import { memberOn, voterSets, type ShardRecord } from "./record.ts";
import type { MemberAction } from "./membership.ts";

/** One step of a change of members (R13). */
export type EnsembleAction =
  /** Save where the next single step leads. */
  | { readonly kind: "beginChange"; readonly ensemble: readonly string[] }
  /**
   * Save that the change is given up: it is not joint yet, and people want something else by now.
   */
  | { readonly kind: "cancelChange" }
  /** Save the joint state: a removal needs no learner first. */
  | { readonly kind: "startJoint" }
  /** Tell the leader the voter sets in force and wait for an entry committed under them. */
  | { readonly kind: "updateEnsemble" }
  /** Save the new set alone; who is in it no more is leaving. */
  | { readonly kind: "leaveJoint" }
  /** Hand the leadership to somebody who stays. */
  | { readonly kind: "moveLeader"; readonly from: string }
  /** RemoveFollower at the leader, DeleteShard at the node, save without it. */
  | { readonly kind: "retire"; readonly node: string };

/** True when both name the same nodes. Order is only a preference for the leader. */
function sameNodes(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((node) => b.includes(node));
}

/** The ensemble one replica nearer to `desired`; null when there already. */
export function nextEnsemble(
  ensemble: readonly string[],
  desired: readonly string[],
): readonly string[] | null {
  const added = desired.find((node) => !ensemble.includes(node));
  const removed = ensemble.findLast((node) => !desired.includes(node));
  if (added !== undefined && removed !== undefined) {
    return ensemble.map((node) => (node === removed ? added : node));
  }
  if (added !== undefined) return [...ensemble, added];
  if (removed !== undefined) return ensemble.filter((node) => node !== removed);
  return null;
}

/**
 * The next step of the change under way, or the first of one that is wanted, under a steady leader.
 */
export function planEnsemble(
  record: ShardRecord,
  observed: Observed,
  leader: ReplicaStatus,
): readonly (EnsembleAction | MemberAction)[] {
  const confirmed = isConfirmed(record, observed);
  const { next } = record;
  if (next === undefined) {
    if (!confirmed) return [{ kind: "updateEnsemble" }];
    return [...planRetire(record, observed), ...planBegin(record, leader)];
  }
  if (next.joint)
    return confirmed ? planLeave(record, next.ensemble) : [{ kind: "updateEnsemble" }];
  const wanted = nextEnsemble(record.ensemble, record.desired);
  if (wanted === null || !sameNodes(wanted, next.ensemble)) return [{ kind: "cancelChange" }];
  return planJoin(record, observed, next.ensemble, leader);
}

/** True when the present leader has committed an entry under the voter sets in force. */
function isConfirmed(record: ShardRecord, observed: Observed): boolean {
  // Sets that changed in an earlier term came with BecomeLeader, whose barrier was committed under
  // them. That is not enough to leave a joint state by, unless this coordinator saw the answer.
  if (record.next?.joint !== true && record.ensembleTerm !== record.term) return true;
  const seen = observed.confirmedSets;
  return (
    seen !== null && seen.term === record.term && seen.sets === voterSetsText(voterSets(record))
  );
}

function planBegin(record: ShardRecord, leader: ReplicaStatus): readonly EnsembleAction[] {
  if (!leader.serving) return [];
  const ensemble = nextEnsemble(record.ensemble, record.desired);
  if (ensemble === null) return [];
  // A node that is still leaving cannot come back before it is retired.
  if (ensemble.some((node) => memberOn(record, node)?.role === "leaving")) return [];
  return [{ kind: "beginChange", ensemble }];
}

function planJoin(
  record: ShardRecord,
  observed: Observed,
  ensemble: readonly string[],
  leader: ReplicaStatus,
): readonly (EnsembleAction | MemberAction)[] {
  const added = ensemble.find((node) => !record.ensemble.includes(node));
  if (added === undefined) {
    // A smaller set can afford less: whoever stays has to be here first, with its data. One that is
    // away may turn out to have lost it, and whoever leaves would be missed.
    const { reachable } = voterReach(record, observed);
    // And the leader, which has committed something, has to reach it: of a pair in which it does
    // not, no other could be elected.
    const stays = (node: string): boolean => {
      const member = memberOn(record, node);
      if (member === undefined || !reachable.has(node)) return false;
      return node === record.leader?.node || takesEntries(leader, member);
    };
    return leader.serving && ensemble.every(stays) ? [{ kind: "startJoint" }] : [];
  }
  // Once a member, it goes the way of every learner; its promotion starts the joint state.
  if (memberOn(record, added) !== undefined) return [];
  const replica = currentReplica(observed, added);
  if (replica === null || replica.replicaUid === "" || replica.fault !== "") return [];
  if (replica.replicaUid === leader.replicaUid) return [];
  return [
    {
      kind: "recover",
      node: added,
      oldUid: "",
      newUid: replica.replicaUid,
      reason: "Joining",
      counted: true,
    },
  ];
}

function planLeave(record: ShardRecord, ensemble: readonly string[]): readonly EnsembleAction[] {
  const leaderNode = record.leader?.node ?? "";
  if (!ensemble.includes(leaderNode)) return [{ kind: "moveLeader", from: leaderNode }];
  return [{ kind: "leaveJoint" }];
}

function planRetire(record: ShardRecord, observed: Observed): readonly EnsembleAction[] {
  return record.members
    .filter((member) => member.role === "leaving")
    .filter((member) => observed.nodes.get(member.node)?.reach === "up")
    .map((member) => ({ kind: "retire", node: member.node }));
}

/**
 * The record with a wish for another ensemble. Throws a RangeError when the wish cannot be right.
 */
export function withDesired(record: ShardRecord, desired: readonly string[]): ShardRecord {
  if (desired.length === 0 || new Set(desired).size !== desired.length) {
    throw new RangeError(
      `ensemble: [${desired.join(", ")}]: must name at least one node, each once`,
    );
  }
  return { ...record, desired };
}

/** The record to save before the first step of a change. */
export function withNext(record: ShardRecord, ensemble: readonly string[]): ShardRecord {
  return { ...record, next: { ensemble, joint: false } };
}

/**
 * The record to save when a change that is not joint yet is given up; its new node is leaving, if
 * it came so far.
 */
export function withoutNext(record: ShardRecord): ShardRecord | null {
  if (record.next === undefined || record.next.joint) return null;
  const { next: _next, ...kept } = record;
  const members = record.members.map((member) =>
    record.ensemble.includes(member.node) ? member : { ...member, role: "leaving" as const },
  );
  return { ...kept, members };
}

/**
 * The record to save before the leader is told of a removal. `committed` raises the floor (R6):
 * whom the other set elects has to hold it, too.
 */
export function withJoint(record: ShardRecord, committed: EntryId | null): ShardRecord | null {
  if (record.next === undefined || record.next.joint) return null;
  const next = { ...record.next, joint: true };
  return { ...withFloor(record, committed), next, ensembleTerm: record.term };
}

/**
 * The record to save when the joint state was confirmed: the new set alone counts, the removed are
 * leaving. `committed` raises the floor (R6).
 */
export function withoutJoint(record: ShardRecord, committed: EntryId | null): ShardRecord | null {
  const { next, ...kept } = withFloor(record, committed);
  if (next?.joint !== true) return null;
  const members = record.members.map((member) =>
    next.ensemble.includes(member.node) ? member : { ...member, role: "leaving" as const },
  );
  return { ...kept, members, ensemble: next.ensemble, ensembleTerm: record.term };
}

/** The record to save when a leaving replica's data is durably gone. */
export function withoutMember(record: ShardRecord, node: string): ShardRecord {
  return { ...record, members: record.members.filter((member) => member.node !== node) };
}
