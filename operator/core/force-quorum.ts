/**
 * The forced quorum: the one way on after a majority is lost, and only at a person's order, since
 * whatever the survivor lacks is lost for good.
 */
import { compareEntryIds, type EntryId, LOG_START } from "../../sidecar/protocol/entry.ts";
import { entryText } from "./election.ts";
import { currentReplica, isSuspect, isWiped, type Observed } from "./observed.ts";
import { memberOn, type RecordMember, type ShardRecord } from "./record.ts";

/** A person's order. */
export interface ForceQuorumOrder {
  readonly survivor: string;
  /** Must be exactly {@link acknowledgement} of the survivor's head. */
  readonly acknowledgeDataLoss: string;
}

/** The record to save, or why the order is rejected. */
export type ForceQuorumVerdict =
  | { readonly kind: "accepted"; readonly record: ShardRecord }
  | { readonly kind: "rejected"; readonly message: string };

/**
 * The phrase that shows that the person knows up to where data is kept, and whose newer entries are
 * given up (null: nobody is known to have any).
 */
export function acknowledgement(head: EntryId, newer: string | null = null): string {
  const lost = `lose everything after offset ${head.offset}`;
  return newer === null ? lost : `${lost}, although ${newer} has newer entries`;
}

/**
 * Judges the order. `stopped` names the nodes whose processes the platform has confirmed to be
 * gone: every other member must be, or it could still acknowledge writes that are then lost.
 */
export function judgeForceQuorum(
  record: ShardRecord,
  observed: Observed,
  stopped: ReadonlySet<string>,
  order: ForceQuorumOrder,
): ForceQuorumVerdict {
  const member = memberOn(record, order.survivor);
  if (member === undefined || !maySurvive(member)) {
    const allowed = record.members.filter(maySurvive).map((other) => other.node);
    const names = allowed.join(", ") || "none";
    return rejected(`survivor: ${order.survivor} holds no vote's data; allowed: ${names}`);
  }
  const better = betterSurvivors(record, observed, member);
  if (better.length > 0) {
    return rejected(
      `survivor: ${order.survivor} was set back to an older state, ${better.join(", ")} may hold more: ` +
        "choose that, or start it once, so that it is seen what it holds",
    );
  }
  const replica = currentReplica(observed, order.survivor);
  if (replica === null || replica.replicaUid !== member.replicaUid || replica.fault !== "") {
    return rejected(
      `survivor: ${order.survivor} is not there with its data (${member.replicaUid})`,
    );
  }
  const running = record.members
    .map((other) => other.node)
    .filter((node) => node !== order.survivor && !stopped.has(node));
  if (running.length > 0) {
    return rejected(`stop first, so that nothing is acknowledged meanwhile: ${running.join(", ")}`);
  }
  const head = replica.head ?? LOG_START;
  const newer = newerSurvivor(record, observed, member, head);
  const phrase = acknowledgement(head, newer?.node);
  if (order.acknowledgeDataLoss !== phrase) {
    const must = `acknowledgeDataLoss: must be exactly "${phrase}"`;
    if (newer === null) return rejected(must);
    return rejected(
      `survivor: ${order.survivor} ends at ${entryText(head)}, ${newer.node} last reported ` +
        `${entryText(newer.head)}: choose that; only if its data cannot be had, ${must}`,
    );
  }
  return { kind: "accepted", record: forced(record, order.survivor, head) };
}

/**
 * A voter, or one whose vote was taken since its disk went back and that was not enrolled since:
 * when every volume was restored to an older copy, nothing newer is left to go on from.
 */
function maySurvive(member: RecordMember): boolean {
  const { role, reason, enrolTerm } = member;
  return role === "voter" || (reason === "RolledBack" && enrolTerm === undefined);
}

/** Voters that nothing is known against, where `survivor` is one whose disk went back. */
function betterSurvivors(
  record: ShardRecord,
  observed: Observed,
  survivor: RecordMember,
): readonly string[] {
  if (!isSetBack(record, observed, survivor)) return [];
  return record.members
    .filter((other) => !isWiped(observed, other) && !isSetBack(record, observed, other))
    .map((other) => other.node);
}

/**
 * The other one whose newest entry, by its last report, comes after the survivor's, there or away:
 * it may have been acknowledged. Of those that could survive themselves; null: there is none.
 */
function newerSurvivor(
  record: ShardRecord,
  observed: Observed,
  survivor: RecordMember,
  head: EntryId,
): { readonly node: string; readonly head: EntryId } | null {
  const isBack = isSetBack(record, observed, survivor);
  let best = { node: survivor.node, head };
  for (const other of record.members) {
    const replica = observed.nodes.get(other.node)?.replica ?? null;
    if (!maySurvive(other) || replica?.replicaUid !== other.replicaUid) continue;
    // What is older by more than its head is better than none only.
    if (!isBack && isSetBack(record, observed, other)) continue;
    const theirs = replica.head ?? LOG_START;
    if (compareEntryIds(theirs, best.head) > 0) best = { node: other.node, head: theirs };
  }
  return best.node === survivor.node ? null : best;
}

/** Its disk went back, or is suspected to have. */
function isSetBack(record: ShardRecord, observed: Observed, member: RecordMember): boolean {
  return member.role !== "voter" || isSuspect(record, observed, member);
}

/**
 * The survivor alone, held to no earlier promise (R3), in a new loss epoch; the floor comes down to
 * what it has. `desired` stays, so the others come back as learners, one at a time.
 */
function forced(record: ShardRecord, survivor: string, head: EntryId): ShardRecord {
  const { next: _next, ...kept } = record;
  return {
    ...kept,
    lossEpoch: record.lossEpoch + 1,
    leader: null,
    ensemble: [survivor],
    members: record.members.filter(({ node }) => node === survivor).map(asSurvivor),
    ensembleTerm: record.term,
    commitFloor: { term: head.term, offset: head.offset },
  };
}

/**
 * Its data counts wherever it lies: on another claim than before it would be set back at once, and
 * the order would have been for nothing.
 */
function asSurvivor(member: RecordMember): RecordMember {
  const { ackedBoot: _ackedBoot, reason: _reason, pvcUids: _pvcUids, ...kept } = member;
  return { ...kept, role: "voter", ackedTerm: -1 };
}

function rejected(message: string): ForceQuorumVerdict {
  return { kind: "rejected", message };
}
