/**
 * What the coordinator sees of one shard: input of the plan, never durable, never trusted over the
 * record.
 */
import type { EntryId } from "../../sidecar/protocol/entry.ts";
import type { FollowerProgress, ReplicaStatus } from "../../sidecar/protocol/gen/resilver.ts";
import { REGRESSED, ServingStatus } from "../../sidecar/protocol/status.ts";
import { newest } from "./election.ts";
import { isQuorum, majority } from "./quorum.ts";
import { memberOn, voterSets, type RecordMember, type ShardRecord } from "./record.ts";

/**
 * `unknown`: not heard of since this coordinator started; nothing may be concluded from it.
 * `down`: the connection broke and a new one was refused. `silent`: connected, but not answering.
 */
export type Reach = "unknown" | "up" | "down" | "silent";

/** One node, as far as one shard is concerned. */
export interface ObservedNode {
  readonly node: string;
  readonly reach: Reach;
  /**
   * Last report of this shard's replica; current only while `reach` is up. Null: the node has none
   * open.
   */
  readonly replica: ReplicaStatus | null;
  /** Why the node refused to open the shard; null when it did not. */
  readonly openRefusal: OpenRefusal | null;
  /** Kubernetes: a claim of this node is being deleted. */
  readonly volumeTerminating: boolean;
  /** Kubernetes: uids of the claims under the node's running process; null: not known, or none. */
  readonly claims: ClaimUids | null;
}

/** Why a node did not open a shard. */
export interface OpenRefusal {
  readonly reason: string;
  readonly message: string;
  /** The store that the shard's directories there belong to; null: that is not why. */
  readonly dataOf: string | null;
}

/** The claims that a replica's data is on, by their uids. */
export interface ClaimUids {
  readonly data: string;
  readonly wal: string;
}

/**
 * The voter sets under which a leader answered this coordinator that an entry is committed, and its
 * term (R13).
 */
export interface ConfirmedSets {
  readonly term: number;
  readonly sets: string;
  /** That entry; null when the answer does not name it. */
  readonly committed: EntryId | null;
}

/** An election that found nobody at or above the floor. */
export interface BelowFloor {
  /** What was seen of the voters, see {@link voterEvidence}. */
  readonly evidence: string;
  /** Whose log is the newest of those that answered. */
  readonly best: { readonly node: string; readonly head: EntryId };
}

/** Everything the plan may look at besides the record. */
export interface Observed {
  /** Wall clock, milliseconds. */
  readonly nowMs: number;
  readonly nodes: ReadonlyMap<string, ObservedNode>;
  /** BecomeLeader answered so recently that status reports may lag behind it. */
  readonly leaderSettling: boolean;
  /**
   * For how long the recorded leader has been reporting, in its term, that it reaches too few
   * voters to commit anything; see {@link isCutOff}.
   */
  readonly leaderCutOffMs: number;
  /** The same for entries: streams that carry none do not count; see {@link cannotCommit}. */
  readonly leaderIdleMs: number;
  readonly confirmedSets: ConfirmedSets | null;
  /**
   * The last election found nobody at or above the floor; holds until some voter's evidence
   * changes.
   */
  readonly belowFloor: BelowFloor | null;
  /** Nodes with a recovery going on in any shard, for the RecoveryLimit gate. */
  readonly recoveringNodes: ReadonlySet<string>;
  /** Uids of replicas whose rebuild a person ordered. */
  readonly orderedUids: ReadonlySet<string>;
}

/** The replica on a node when its report is current. */
export function currentReplica(observed: Observed, node: string): ReplicaStatus | null {
  const seen = observed.nodes.get(node);
  return seen?.reach === "up" ? seen.replica : null;
}

/** True when the last report from the node shows another replica than the recorded one. */
export function isWiped(observed: Observed, member: RecordMember): boolean {
  const replica = observed.nodes.get(member.node)?.replica ?? null;
  return replica !== null && replica.replicaUid !== "" && replica.replicaUid !== member.replicaUid;
}

/**
 * True when the last report proves that this voter's disk was set back (R3), without asking for a
 * new term: it says so itself, or a process later than the one that promised a term is below it. A
 * lower term alone proves nothing: the report may be older than the promise.
 */
function isSetBack(observed: Observed, member: RecordMember): boolean {
  const replica = observed.nodes.get(member.node)?.replica ?? null;
  const { ackedBoot, ackedTerm } = member;
  // The record holds it to nothing, for instance after a forced quorum.
  if (ackedTerm === -1 || member.role !== "voter") return false;
  if (replica?.replicaUid !== member.replicaUid) return false;
  if (replica.rolledBack) return true;
  return ackedBoot !== undefined && replica.bootCounter > ackedBoot && replica.term < ackedTerm;
}

/**
 * True when the node's data is on another claim than the record says: whatever its directories
 * hold may be a copy of what they once held (R3, H19).
 */
export function isClaimReplaced(observed: Observed, member: RecordMember): boolean {
  const seen = observed.nodes.get(member.node);
  const { pvcUids } = member;
  if (pvcUids === undefined || seen?.reach !== "up" || seen.claims === null) return false;
  return seen.claims.data !== pvcUids.data || seen.claims.wal !== pvcUids.wal;
}

/**
 * True when the recorded leader's last report says that this voter lost what it had acknowledged in
 * this very term (R3). Nobody else can tell: its own term and boot counter are as they should be.
 */
function isRegressed(record: ShardRecord, observed: Observed, member: RecordMember): boolean {
  const { leader } = record;
  const report = observed.nodes.get(leader?.node ?? "")?.replica ?? null;
  if (member.role !== "voter" || report === null || report.replicaUid !== leader?.uid) return false;
  return report.term === record.term && followerAt(report, member)?.state === REGRESSED;
}

/** True when nobody may count on this voter, for all its right name: it has to learn first (R3). */
export function isSuspect(record: ShardRecord, observed: Observed, member: RecordMember): boolean {
  if (isSetBack(observed, member) || isRegressed(record, observed, member)) return true;
  const replica = currentReplica(observed, member.node);
  const recorded = replica?.replicaUid === member.replicaUid;
  return member.role === "voter" && recorded && isClaimReplaced(observed, member);
}

/** Why a shard needs an election. */
export type LeaderLoss =
  | "NoLeader"
  | "LeaderDown"
  | "LeaderSilent"
  | "LeaderWiped"
  | "LeaderRestarted"
  | "LeaderNotLeading"
  | "LeaderFaulty"
  | "LeaderStalled"
  | "LeaderIsolated"
  | "LeaderLeaving"
  | "LeadersUneven"
  | "Requested";

/**
 * `steady`: the recorded leader, the same uid and boot counter, has led the recorded term without a
 * restart, hence holds everything acknowledged (R16). `waiting`: too early to judge.
 */
export type LeaderJudgement =
  | { readonly state: "steady"; readonly replica: ReplicaStatus }
  | { readonly state: "waiting" }
  | { readonly state: "lost"; readonly why: LeaderLoss };

/** A process answers for a replica whose disk hangs; a slow disk is none that hangs. */
const STALLED_MS = 5_000;

/** True when the replica has been waiting for its disk for so long that nothing else is to be. */
function isStalled(replica: ReplicaStatus): boolean {
  return replica.stalledMs >= STALLED_MS;
}

/** Streams to followers break and are opened anew; one that comes back at once is no loss. */
const CUT_OFF_MS = 5_000;

/** Cursor states in which the follower answers; any other may last for ever. */
const LIVE_STATES: ReadonlySet<string> = new Set(["Stream", "NoSpace", "Snapshot"]);

/**
 * Cursor states in which what the leader appends is taken, or refused to clients by name. One that
 * is sent a snapshot answers, and takes entries when all of it is there.
 */
const TAKING_STATES: ReadonlySet<string> = new Set(["Stream", "NoSpace"]);

/** True when the leader's stream to this follower works, as far as the leader knows. */
export function isFed(progress: FollowerProgress | undefined): boolean {
  return progress !== undefined && LIVE_STATES.has(progress.state);
}

/**
 * True when the recorded leader's own report shows streams to too few voters: it leads, and can
 * neither commit nor serve a read, whatever the coordinator itself can reach.
 */
export function isCutOff(record: ShardRecord, observed: Pick<Observed, "nodes">): boolean {
  return reachesTooFew(record, observed, LIVE_STATES);
}

/**
 * True when the recorded leader's own report shows that entries flow to too few voters: it answers
 * reads at most, and no write. Not a reason to replace it: the others may be far behind.
 */
export function cannotCommit(record: ShardRecord, observed: Pick<Observed, "nodes">): boolean {
  return reachesTooFew(record, observed, TAKING_STATES);
}

/** True when the leader's own report shows that entries flow to this member. */
export function takesEntries(leader: ReplicaStatus, member: RecordMember): boolean {
  return TAKING_STATES.has(followerAt(leader, member)?.state ?? "");
}

function reachesTooFew(
  record: ShardRecord,
  observed: Pick<Observed, "nodes">,
  states: ReadonlySet<string>,
): boolean {
  const { leader } = record;
  const seen = observed.nodes.get(leader?.node ?? "");
  const report = seen?.reach === "up" ? seen.replica : null;
  if (leader === null || report?.replicaUid !== leader.uid) return false;
  if (report.status !== ServingStatus.LEADER || report.term !== record.term) return false;
  const fed = record.members.filter(
    (member) => member.role === "voter" && states.has(followerAt(report, member)?.state ?? ""),
  );
  return !isQuorum(voterSets(record), new Set([leader.node, ...fed.map(({ node }) => node)]));
}

/**
 * True when the recorded leader has been cut off for so long that streams which only broke would be
 * back: nothing is served until they are, or until another leads.
 */
export function isIsolated(record: ShardRecord, observed: Observed): boolean {
  return observed.leaderCutOffMs >= CUT_OFF_MS && isCutOff(record, observed);
}

/**
 * True when no write has been answered for so long that streams which only broke, and short
 * transfers, would be over: because the leader is isolated, or its voters have yet to catch up.
 */
export function isIdle(record: ShardRecord, observed: Observed): boolean {
  return observed.leaderIdleMs >= CUT_OFF_MS && cannotCommit(record, observed);
}

/**
 * True when a leader that is cut off is to be replaced: it holds everything acknowledged, so only
 * when the others could elect one of themselves without its promise (R16).
 */
function isReplaceable(record: ShardRecord, observed: Observed, leader: string): boolean {
  return isIsolated(record, observed) && couldLeaveOut(record, observed, new Set([leader]));
}

/** Judges the recorded leader. */
export function judgeLeader(record: ShardRecord, observed: Observed): LeaderJudgement {
  const { leader } = record;
  if (leader === null) return { state: "lost", why: "NoLeader" };
  const seen = observed.nodes.get(leader.node);
  if (seen === undefined || seen.reach === "unknown") return { state: "waiting" };
  if (seen.reach === "down") return { state: "lost", why: "LeaderDown" };
  if (seen.reach === "silent") return { state: "lost", why: "LeaderSilent" };
  const judged = judgeLeaderReplica(record, leader, seen.replica, observed.leaderSettling);
  if (judged.state !== "steady" || !isReplaceable(record, observed, leader.node)) return judged;
  return { state: "lost", why: "LeaderIsolated" };
}

/**
 * The newest entry that the steady leader is known to have committed, by its report or by its newer
 * answer; null without one.
 */
export function committedEntry(record: ShardRecord, observed: Observed): EntryId | null {
  const judged = judgeLeader(record, observed);
  if (judged.state !== "steady") return null;
  const { confirmedSets } = observed;
  const answered = confirmedSets?.term === record.term ? confirmedSets.committed : null;
  const reported = judged.replica.commit ?? null;
  if (answered === null || reported === null) return answered ?? reported;
  return newest(answered, reported);
}

function judgeLeaderReplica(
  record: ShardRecord,
  leader: NonNullable<ShardRecord["leader"]>,
  replica: ReplicaStatus | null,
  settling: boolean,
): LeaderJudgement {
  if (replica === null) return { state: "lost", why: "LeaderRestarted" };
  if (replica.replicaUid !== leader.uid) return { state: "lost", why: "LeaderWiped" };
  if (replica.bootCounter > leader.bootCounter) return { state: "lost", why: "LeaderRestarted" };
  if (replica.fault !== "") return { state: "lost", why: "LeaderFaulty" };
  if (isStalled(replica)) return { state: "lost", why: "LeaderStalled" };
  const leads = replica.status === ServingStatus.LEADER && replica.term === record.term;
  // A lower boot counter than the recorded one is a report from before the election.
  if (!leads || replica.bootCounter !== leader.bootCounter) {
    return settling ? { state: "waiting" } : { state: "lost", why: "LeaderNotLeading" };
  }
  return { state: "steady", replica };
}

/**
 * How the leader sees the replica with this uid on this node; undefined when it does not feed it.
 */
export function followerAt(
  leader: ReplicaStatus,
  member: RecordMember,
): FollowerProgress | undefined {
  return leader.followers.find(
    (follower) => follower.node === member.node && follower.replicaUid === member.replicaUid,
  );
}

/** How far a learner has come. */
export type LearnerPhase =
  | "Detected"
  | "Enrolled"
  | "Transferring"
  | "Installing"
  | "CatchingUp"
  | "Promoting";

/**
 * How far a learner has come, by its own report and its leader's (null: no steady leader). A small
 * learner is fed the log alone and reports no transfer: there the leader's word decides.
 */
export function learnerPhase(
  leader: ReplicaStatus | null,
  observed: Observed,
  member: RecordMember,
): LearnerPhase {
  if (member.enrolTerm === undefined) return "Detected";
  const fed = leader === null ? undefined : followerAt(leader, member);
  if (fed?.reachedTarget === true) return "Promoting";
  const own = currentReplica(observed, member.node)?.recovery?.phase ?? "";
  if (own === "Transferring" || own === "Installing" || own === "CatchingUp") return own;
  return FED_PHASES.get(fed?.state ?? "") ?? "Enrolled";
}

/** What the leader's cursor state says of a learner that reports no transfer of its own. */
const FED_PHASES: ReadonlyMap<string, LearnerPhase> = new Map([
  ["Snapshot", "Transferring"],
  ["Stream", "CatchingUp"],
  ["NoSpace", "CatchingUp"],
]);

/** Who voters with the recorded uid are, by what can be said of them now. */
export interface VoterReach {
  /** Not known to be wiped or set back: away, or here. */
  readonly intact: ReadonlySet<string>;
  /** Here, with the recorded uid, no fault, and a disk that answers. */
  readonly reachable: ReadonlySet<string>;
  /** Not heard of since this coordinator started. */
  readonly unknown: ReadonlySet<string>;
}

/** Sorts the voters of all voter sets. Learners, wiped and set back voters are in none. */
export function voterReach(record: ShardRecord, observed: Observed): VoterReach {
  const intact = new Set<string>();
  const reachable = new Set<string>();
  const unknown = new Set<string>();
  for (const member of record.members) {
    if (member.role !== "voter" || isWiped(observed, member)) continue;
    if (isSuspect(record, observed, member)) continue;
    intact.add(member.node);
    const reach = observed.nodes.get(member.node)?.reach ?? "unknown";
    if (reach === "unknown") unknown.add(member.node);
    const replica = currentReplica(observed, member.node);
    if (replica?.fault === "" && !isStalled(replica)) reachable.add(member.node);
  }
  return { intact, reachable, unknown };
}

/**
 * True when `nodes` would be enough to elect one of them not in `exclude`: for elections that
 * end a leadership which nothing else ends. Without a majority nobody would lead, and the one who
 * did would hold everything acknowledged no more for certain (R16).
 */
export function couldElect(
  record: ShardRecord,
  nodes: ReadonlySet<string>,
  exclude: ReadonlySet<string>,
): boolean {
  return voterSets(record).every((set) => {
    // A set of two has no majority without either; there whoever leaves has to promise with them.
    const without = set.filter((node) => !exclude.has(node));
    const needed = majority(set.length);
    const asked = without.length >= needed ? without : set;
    return asked.filter((node) => nodes.has(node)).length >= needed;
  });
}

/** True when those who are there besides these nodes are enough to elect one of themselves. */
export function couldLeaveOut(
  record: ShardRecord,
  observed: Observed,
  nodes: ReadonlySet<string>,
): boolean {
  const { reachable } = voterReach(record, observed);
  const others = new Set([...reachable].filter((other) => !nodes.has(other)));
  return couldElect(record, others, nodes);
}

/** What the below-floor stop was concluded from; a change of it calls for another election. */
export function voterEvidence(record: ShardRecord, observed: Observed): string {
  return record.members
    .map((member) => {
      const seen = observed.nodes.get(member.node);
      const uid = seen?.replica?.replicaUid ?? "";
      const boot = seen?.replica?.bootCounter ?? 0;
      return `${member.node}:${member.role}:${seen?.reach ?? "unknown"}:${uid}:${boot}`;
    })
    .join(" ");
}

/** Nodes that should have this shard open. */
export function shardNodes(record: ShardRecord): readonly string[] {
  const nodes = new Set([
    ...record.ensemble,
    ...(record.next?.ensemble ?? []),
    ...record.members.map((member) => member.node),
  ]);
  return [...nodes].filter((node) => memberOn(record, node)?.role !== "leaving");
}
