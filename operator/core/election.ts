/** Elections: whose replies count, who may lead, and what the record says afterwards. Pure. */
import { compareEntryIds, type EntryId } from "../../sidecar/protocol/entry.ts";
import { isQuorum, majority } from "./quorum.ts";
import { memberOn, voterSets, withMember, type RecordMember, type ShardRecord } from "./record.ts";

/** What a node answered to NewTerm. */
export interface FenceReply {
  readonly node: string;
  readonly replicaUid: string;
  readonly bootCounter: number;
  readonly head: EntryId;
  /** Term it had persisted before this call (R3). */
  readonly previousTerm: number;
}

/** How to choose among those who may lead. */
export interface ElectionChoice {
  /** Leaderships a node has already; fewest wins a tie. */
  readonly leaderships: ReadonlyMap<string, number>;
  /** Leads if it may, whatever others hold beyond a majority's heads. */
  readonly prefer: string | null;
  /** Must not lead, for instance since they are leaving; their promises count like any other. */
  readonly exclude: ReadonlySet<string>;
}

/** What the fenced replicas' answers come to. */
export type Tally =
  | {
      readonly kind: "elected";
      readonly leader: FenceReply;
      /** Replies that count: recorded voter uids without regression. */
      readonly counted: readonly FenceReply[];
      /** Voters whose durable state went back: to be rebuilt (R3). */
      readonly regressed: readonly string[];
    }
  | {
      readonly kind: "noQuorum";
      readonly counted: readonly string[];
      readonly regressed: readonly string[];
    }
  | {
      readonly kind: "belowFloor";
      readonly best: FenceReply;
      readonly regressed: readonly string[];
    };

type Standing = "counts" | "regressed" | "ignored";

/**
 * Whether a reply counts: only the recorded uid of a voter (R2), and only if neither its term nor
 * its boot counter went back (R3). `reply` must answer a call made after the record was read.
 */
export function standingOf(record: ShardRecord, reply: FenceReply): Standing {
  const member = memberOn(record, reply.node);
  if (member === undefined || member.role !== "voter" || member.replicaUid !== reply.replicaUid) {
    return "ignored";
  }
  const setBack =
    reply.previousTerm < member.ackedTerm || reply.bootCounter < (member.ackedBoot ?? 0);
  return setBack ? "regressed" : "counts";
}

/**
 * True when the replies so far let an election succeed; the coordinator then waits for stragglers
 * only briefly.
 */
export function hasQuorum(record: ShardRecord, replies: readonly FenceReply[]): boolean {
  return isQuorum(voterSets(record), countedNodes(record, replies));
}

function countedNodes(record: ShardRecord, replies: readonly FenceReply[]): ReadonlySet<string> {
  const counted = replies.filter((reply) => standingOf(record, reply) === "counts");
  return new Set(counted.map((reply) => reply.node));
}

/** Decides the election from all replies to NewTerm of the record's term. */
export function tally(
  record: ShardRecord,
  replies: readonly FenceReply[],
  choice: ElectionChoice,
): Tally {
  const counted = replies.filter((reply) => standingOf(record, reply) === "counts");
  const regressed = replies
    .filter((reply) => standingOf(record, reply) === "regressed")
    .map((reply) => reply.node);
  const sets = voterSets(record);
  if (!isQuorum(sets, new Set(counted.map((reply) => reply.node)))) {
    return { kind: "noQuorum", counted: nodesOf(counted), regressed };
  }
  const ranked = counted
    .filter((reply) => !choice.exclude.has(reply.node) && mayLead(sets, counted, reply))
    .toSorted((a, b) => rank(record, choice, a, b));
  const best = ranked[0];
  // The newest head is at least as new as a majority's, so somebody may always lead; only who is
  // excluded may be alone in that.
  if (best === undefined) return { kind: "noQuorum", counted: nodesOf(counted), regressed };
  // R6: the floor was committed once; whoever lacks it lacks acknowledged data.
  const able = ranked.filter((reply) => compareEntryIds(reply.head, record.commitFloor) >= 0);
  const leader = able[0];
  if (leader === undefined) {
    // Not lost: an election that leaves nobody out can go on from there.
    const held = counted.some(
      ({ node, head }) =>
        choice.exclude.has(node) && compareEntryIds(head, record.commitFloor) >= 0,
    );
    if (held) return { kind: "noQuorum", counted: nodesOf(counted), regressed };
    // Who was to lead is not who holds most: a person goes by the latter.
    const [newestReply = best] = counted.toSorted((a, b) => compareEntryIds(b.head, a.head));
    return { kind: "belowFloor", best: newestReply, regressed };
  }
  return { kind: "elected", leader, counted, regressed };
}

function nodesOf(replies: readonly FenceReply[]): readonly string[] {
  return replies.map((reply) => reply.node);
}

/**
 * A replica may lead when its head is at least as new as the heads of a majority of each voter set:
 * anything acknowledged is on at least one of those, hence on it.
 */
function mayLead(
  sets: readonly (readonly string[])[],
  counted: readonly FenceReply[],
  candidate: FenceReply,
): boolean {
  const covered = counted.filter((other) => compareEntryIds(other.head, candidate.head) <= 0);
  const nodes = new Set(covered.map((reply) => reply.node));
  return sets.every((set) => set.filter((node) => nodes.has(node)).length >= majority(set.length));
}

function rank(record: ShardRecord, choice: ElectionChoice, a: FenceReply, b: FenceReply): number {
  const preferred = Number(b.node === choice.prefer) - Number(a.node === choice.prefer);
  if (preferred !== 0) return preferred;
  // Mid-change: who stays in the ensemble leads, if it may, or the change could not end.
  const next = record.next?.ensemble;
  const staying = next === undefined ? 0 : stays(next, b) - stays(next, a);
  if (staying !== 0) return staying;
  const newer = compareEntryIds(b.head, a.head);
  if (newer !== 0) return newer;
  const load = (reply: FenceReply): number => choice.leaderships.get(reply.node) ?? 0;
  if (load(a) !== load(b)) return load(a) - load(b);
  return place(record, a.node) - place(record, b.node);
}

function stays(next: readonly string[], reply: FenceReply): number {
  return next.includes(reply.node) ? 1 : 0;
}

/** The order of `desired` is the preference: its first node should lead. */
function place(record: ShardRecord, node: string): number {
  const index = record.desired.indexOf(node);
  return index === -1 ? record.desired.length : index;
}

/**
 * The record to save before NewTerm is sent: a new term that nobody leads yet. The floor rises to
 * the newest of what voters with the recorded uid were seen to have committed (R6), so a log that
 * lost any of it cannot win.
 */
export function raiseTerm(record: ShardRecord, committed: readonly EntryId[]): ShardRecord {
  const commitFloor = newest(record.commitFloor, ...committed);
  return { ...record, term: record.term + 1, leader: null, commitFloor };
}

/**
 * The record with its floor raised to what a leader says is committed (R6): never lowered, and
 * unchanged without such word.
 */
export function withFloor(record: ShardRecord, committed: EntryId | null): ShardRecord {
  if (committed === null) return record;
  return { ...record, commitFloor: newest(record.commitFloor, committed) };
}

/** An entry as people read it: its term, then its offset. */
export function entryText({ term, offset }: EntryId): string {
  return `(${term}, ${offset})`;
}

/** The newest of several log positions. */
export function newest(first: EntryId, ...others: readonly EntryId[]): EntryId {
  let best = first;
  for (const other of others) if (compareEntryIds(other, best) > 0) best = other;
  return { term: best.term, offset: best.offset };
}

/**
 * The record to save before BecomeLeader is sent: who leads, who was fenced, whose state went back.
 */
export function withLeader(
  record: ShardRecord,
  result: Extract<Tally, { kind: "elected" }>,
): ShardRecord {
  const { leader } = result;
  let next: ShardRecord = {
    ...record,
    leader: { node: leader.node, uid: leader.replicaUid, bootCounter: leader.bootCounter },
  };
  for (const reply of result.counted) next = withAckedTerm(next, reply);
  for (const node of result.regressed) next = withRegressed(next, node);
  return next;
}

/**
 * Notes that this uid persisted the record's term (R3). Unchanged when the uid is not the recorded
 * one.
 */
export function withAckedTerm(
  record: ShardRecord,
  reply: Pick<FenceReply, "node" | "replicaUid" | "bootCounter">,
): ShardRecord {
  const { node, replicaUid, bootCounter: ackedBoot } = reply;
  const member = memberOn(record, node);
  if (member?.replicaUid !== replicaUid || member.ackedTerm >= record.term) return record;
  return withMember(record, { ...member, ackedTerm: record.term, ackedBoot });
}

/**
 * A voter whose state went back votes no more: it is enrolled and has to reach a new target first
 * (R3).
 */
export function withRegressed(record: ShardRecord, node: string): ShardRecord {
  const member = memberOn(record, node);
  if (member === undefined || member.role !== "voter") return record;
  const { enrolTerm: _enrolTerm, target: _target, ackedBoot: _ackedBoot, ...kept } = member;
  const learner: RecordMember = { ...kept, role: "learner", ackedTerm: -1, reason: "RolledBack" };
  return withMember(record, learner);
}
