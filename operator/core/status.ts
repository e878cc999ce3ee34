/** What people see of a shard: conditions and one line per replica. Pure. */
import {
  MemberRole,
  RecoveryProgress,
  type ReplicaStatus,
} from "../../sidecar/protocol/gen/resilver.ts";
import { LOG_START } from "../../sidecar/protocol/entry.ts";
import { ServingStatus, statusName } from "../../sidecar/protocol/status.ts";
import {
  currentReplica,
  followerAt,
  isFed,
  isIdle,
  isIsolated,
  judgeLeader,
  learnerPhase,
  type Observed,
  type ObservedNode,
} from "./observed.ts";
import { gatePage } from "./gates.ts";
import type { Deferral } from "./membership.ts";
import type { Plan } from "./plan.ts";
import type { RecordMember, ShardKey, ShardRecord } from "./record.ts";
import { stopPage, type Stop } from "./stops.ts";

/** One condition, in the manner of Kubernetes. */
export interface Condition {
  readonly type: "Available" | "Progressing" | "Degraded";
  readonly status: boolean;
  /** One word. */
  readonly reason: string;
  /** What it means and what a person can do, if anything. */
  readonly message: string;
}

/** One replica. Offsets are log offsets, -1 when nothing is known. */
export interface ReplicaView {
  readonly node: string;
  readonly uid: string;
  readonly reach: string;
  /**
   * By the record, except for `wiped`: the node has another replica than the recorded one, or none.
   */
  readonly role: "leader" | "voter" | "learner" | "leaving" | "wiped" | "none";
  /**
   * True when it counts right now: a recorded vote, here, leading the recorded term or following
   * in it by a stream that works.
   */
  readonly voting: boolean;
  /**
   * True when it votes and holds everything that the leader had committed when it last reported:
   * nothing acknowledged until then depends on the others.
   */
  readonly holdsCommitted: boolean;
  /**
   * How many of the entries that the leader had committed it does not hold yet, by the leader's
   * last report; null unless it votes and they flow to it.
   */
  readonly lacksEntries: number | null;
  /** NOT_MEMBER, FENCED, FOLLOWER, LEADER, or "unknown". */
  readonly status: string;
  readonly term: number;
  /** Term of its last entry. */
  readonly headTerm: number;
  readonly headOffset: number;
  readonly commitOffset: number;
  /** Entries behind the leader's head; null when either is unknown. */
  readonly lagEntries: number | null;
  /** "" when none, `Deferred(<gate>)`, or a LearnerPhase. */
  readonly phase: string;
  readonly reason: string;
  readonly bytesDone: number;
  readonly bytesTotal: number;
  /** Wall clock of the replica's process in ms, 0 when not known. */
  readonly startedMs: number;
  readonly firstByteMs: number;
  readonly installedMs: number;
  readonly attempts: number;
  readonly lastErrors: readonly string[];
  readonly fault: string;
}

/** A shard as people see it: its record joined with what is reported. */
export interface ShardView extends ShardKey {
  readonly term: number;
  readonly generation: number;
  readonly lossEpoch: number;
  readonly leader: string | null;
  /** True when the leader has its barrier committed and serves, and feeds enough voters to. */
  readonly serving: boolean;
  readonly commitFloor: { readonly term: number; readonly offset: number };
  readonly ensemble: readonly string[];
  /** Nodes that are to have a copy. */
  readonly desired: readonly string[];
  readonly replicas: readonly ReplicaView[];
  readonly conditions: readonly Condition[];
  readonly stop: Stop | null;
  /** False: nothing was ever written to it. */
  readonly initialized: boolean;
  /** Its ensemble is being changed: two sets have a say. */
  readonly changing: boolean;
}

/** Puts record, observation and plan together for people. */
export function shardView(record: ShardRecord, observed: Observed, plan: Plan): ShardView {
  const judged = judgeLeader(record, observed);
  const leader = judged.state === "steady" ? judged.replica : null;
  // Whether another may replace it or not: it answers no write.
  const idle = idleReason(record, observed);
  const nodes = new Set([
    ...record.ensemble,
    ...(record.next?.ensemble ?? []),
    ...record.members.map((member) => member.node),
  ]);
  const replicas = [...nodes].map((node) => replicaView(record, observed, plan, leader, node));
  return {
    namespace: record.namespace,
    shard: record.shard,
    term: record.term,
    generation: record.generation,
    lossEpoch: record.lossEpoch,
    leader: record.leader?.node ?? null,
    serving: leader?.serving === true && idle === null,
    commitFloor: record.commitFloor,
    ensemble: record.ensemble,
    desired: record.desired,
    replicas,
    conditions: [
      available(record, plan, leader, idle),
      progressing(record, plan, replicas),
      degraded(record, replicas),
    ],
    stop: plan.stop,
    initialized: record.initialized,
    changing: record.next !== undefined,
  };
}

function replicaView(
  record: ShardRecord,
  observed: Observed,
  plan: Plan,
  leader: ReplicaStatus | null,
  node: string,
): ReplicaView {
  const member = record.members.find((other) => other.node === node);
  const { reach, replica, openRefusal } = observed.nodes.get(node) ?? UNSEEN;
  const wiped = member !== undefined && isGone(member, reach === "up", replica);
  const voting = member !== undefined && isVoting(record, observed, leader, member);
  const lacksEntries = voting ? lacks(leader, member) : null;
  return {
    node,
    uid: (replica ?? member)?.replicaUid ?? "",
    reach,
    role: roleOf(record, member, wiped),
    voting,
    holdsCommitted: lacksEntries === 0,
    lacksEntries,
    status: replica === null || reach !== "up" ? "unknown" : statusName(replica.status),
    ...positionOf(leader, replica),
    ...(replica === null && reach === "up" && openRefusal?.reason === "WRONG_STORE"
      ? { fault: openRefusal.message }
      : {}),
    ...phaseOf(node, member, plan, observed, leader),
    ...progressOf(leader, replica, node),
  };
}

function positionOf(
  leader: ReplicaStatus | null,
  replica: ReplicaStatus | null,
): Pick<ReplicaView, "term" | "headTerm" | "headOffset" | "commitOffset" | "lagEntries" | "fault"> {
  if (replica === null) {
    const nothing = { term: -1, headTerm: -1, headOffset: -1, commitOffset: -1 };
    return { ...nothing, lagEntries: null, fault: "" };
  }
  const { term, commitOffset, fault } = replica;
  const { term: headTerm, offset: headOffset } = replica.head ?? LOG_START;
  const leaderHead = leader?.head?.offset ?? null;
  const lagEntries = leaderHead === null ? null : Math.max(0, leaderHead - headOffset);
  return { term, headTerm, headOffset, commitOffset, lagEntries, fault };
}

/** A sidecar reports all it has at once: a node that is here without the replica has lost it. */
function isGone(member: RecordMember, up: boolean, replica: ReplicaStatus | null): boolean {
  return replica === null ? up : replica.replicaUid !== member.replicaUid;
}

function isVoting(
  record: ShardRecord,
  observed: Observed,
  leader: ReplicaStatus | null,
  member: RecordMember,
): boolean {
  const replica = currentReplica(observed, member.node);
  if (leader === null || replica === null || member.role !== "voter") return false;
  if (replica.replicaUid !== member.replicaUid || replica.term !== record.term) return false;
  if (replica.fault !== "") return false;
  if (replica.replicaUid === leader.replicaUid) return true;
  const fed = followerAt(leader, member);
  if (!isFed(fed)) return false;
  return replica.status === ServingStatus.FOLLOWER && fed?.role === MemberRole.VOTER;
}

function lacks(leader: ReplicaStatus | null, member: RecordMember): number | null {
  if (leader === null) return null;
  if (leader.replicaUid === member.replicaUid) return 0;
  const fed = followerAt(leader, member);
  return fed?.state === "Stream" ? Math.max(0, leader.commitOffset - fed.ackOffset) : null;
}

function roleOf(
  record: ShardRecord,
  member: RecordMember | undefined,
  wiped: boolean,
): ReplicaView["role"] {
  if (member === undefined) return "none";
  if (wiped) return "wiped";
  if (record.leader?.uid === member.replicaUid) return "leader";
  return member.role;
}

function phaseOf(
  node: string,
  member: RecordMember | undefined,
  plan: Plan,
  observed: Observed,
  leader: ReplicaStatus | null,
): Pick<ReplicaView, "phase" | "reason"> {
  const deferral = plan.deferrals.find((other) => other.node === node);
  if (deferral !== undefined) {
    return { phase: `Deferred(${deferral.gate})`, reason: deferral.reason };
  }
  const reason = member?.reason ?? "";
  if (member?.role !== "learner") return { phase: "", reason };
  return { phase: learnerPhase(leader, observed, member), reason };
}

type Progress = Pick<
  ReplicaView,
  | "bytesDone"
  | "bytesTotal"
  | "startedMs"
  | "firstByteMs"
  | "installedMs"
  | "attempts"
  | "lastErrors"
>;

function progressOf(
  leader: ReplicaStatus | null,
  replica: ReplicaStatus | null,
  node: string,
): Progress {
  const own = replica?.recovery ?? NO_PROGRESS;
  const sent = leader?.followers.find((follower) => follower.node === node) ?? NOTHING_SENT;
  return {
    // Each side reports on its own; the newer one has counted more.
    bytesDone: Math.max(own.bytesDone, sent.snapshotBytesDone),
    bytesTotal: Math.max(own.bytesTotal, sent.snapshotBytesTotal),
    startedMs: own.startedMs,
    firstByteMs: own.firstByteMs,
    installedMs: own.installedMs,
    attempts: own.attempts,
    lastErrors: sent.lastError === "" ? own.lastErrors : [...own.lastErrors, sent.lastError],
  };
}

const UNSEEN: Pick<ObservedNode, "reach" | "replica" | "openRefusal"> = {
  reach: "unknown",
  replica: null,
  openRefusal: null,
};
const NO_PROGRESS = RecoveryProgress.fromPartial({});
const NOTHING_SENT = { snapshotBytesDone: 0, snapshotBytesTotal: 0, lastError: "" };

function progressing(record: ShardRecord, plan: Plan, replicas: readonly ReplicaView[]): Condition {
  const type = "Progressing";
  const [action] = plan.actions;
  const [deferral] = plan.deferrals;
  const { ensemble, next } = record;
  if (plan.stop !== null) {
    const { reason } = plan.stop;
    const message = `${reason}: nothing more is done by itself; see ${stopPage(reason)}`;
    return { type, status: false, reason: "Stopped", message };
  }
  if (action !== undefined) {
    const step = "node" in action ? `${action.kind} of ${action.node}` : action.kind;
    const message = plan.waiting ?? `the next step is ${step}`;
    return { type, status: true, reason: action.kind, message };
  }
  if (deferral !== undefined) {
    return { type, status: false, reason: "RebuildDeferred", message: deferralText(deferral) };
  }
  if (next !== undefined) {
    const message = `the voters change from ${ensemble.join(", ")} to ${next.ensemble.join(", ")}`;
    return { type, status: true, reason: "EnsembleChange", message };
  }
  if (plan.waiting !== null) {
    return { type, status: false, reason: "Waiting", message: plan.waiting };
  }
  return atRest(replicas);
}

/** Nothing is to be done now; whether that is as it ought to be, the replicas say. */
function atRest(replicas: readonly ReplicaView[]): Condition {
  const type = "Progressing";
  const learners = replicas.filter(({ role }) => role === "learner");
  if (learners.length > 0) {
    const names = learners.map(({ node, phase }) => `${node} (${phase})`).join(", ");
    return { type, status: true, reason: "Rebuilding", message: `being rebuilt: ${names}` };
  }
  const away = replicas.filter(({ voting }) => !voting);
  if (away.length > 0) {
    const names = away.map(({ node, reach }) => `${node} (${reach})`).join(", ");
    const message = `waits for what does not vote: ${names}`;
    return { type, status: false, reason: "ReplicasNotVoting", message };
  }
  return { type, status: false, reason: "Idle", message: "everything is as it ought to be" };
}

function deferralText({ node, gate, message }: Deferral): string {
  // Others' count seconds or bytes: with each the condition would be another one.
  const why = gate === "Paused" ? `: ${message}` : "";
  return `the rebuild of ${node} waits for the gate ${gate}${why}; see ${gatePage(gate)}`;
}

/** How many of all. */
export interface Share {
  readonly done: number;
  readonly total: number;
}

/**
 * Of the leader's entries, those that a learner holds which is rebuilt by the log alone; null: it
 * is not, or not known to be.
 */
export function entriesHeld({
  role,
  phase,
  bytesTotal,
  headOffset,
  lagEntries,
}: Pick<ReplicaView, "role" | "phase" | "bytesTotal" | "headOffset" | "lagEntries">): Share | null {
  const byLog = phase === "CatchingUp" || phase === "Promoting";
  if (role !== "learner" || !byLog || bytesTotal > 0 || lagEntries === null) return null;
  const done = headOffset + 1;
  return { done, total: done + lagEntries };
}

/** What lacks of the wanted copies while all voters of the ensemble vote; null: nothing. */
export function fewerCopies({
  ensemble,
  desired,
  replicas,
}: Pick<ShardView, "ensemble" | "desired" | "replicas">): string | null {
  const copies = replicas.filter(({ node, voting }) => voting && ensemble.includes(node));
  if (copies.length < ensemble.length || copies.length >= desired.length) return null;
  const lacking = desired.filter((node) => !ensemble.includes(node)).join(", ");
  return `${copies.length} of ${desired.length} copies that are wanted; to come: ${lacking}`;
}

function degraded(
  { ensemble, desired }: Pick<ShardRecord, "ensemble" | "desired">,
  replicas: readonly ReplicaView[],
): Condition {
  const type = "Degraded";
  const few = fewerCopies({ ensemble, desired, replicas });
  if (few !== null) return { type, status: true, reason: "FewerCopies", message: few };
  const behind = replicas.filter((replica) => !replica.voting);
  if (behind.length === 0) {
    return { type, status: false, reason: "AllVoting", message: "all replicas vote" };
  }
  const names = behind.map(({ node, phase, lastErrors }) => {
    // While it is being rebuilt its recovery says more.
    const why = phase === "" ? lastErrors.at(-1) : undefined;
    return why === undefined ? node : `${node} (${why})`;
  });
  const message = `not voting now: ${names.join(", ")}`;
  return { type, status: true, reason: "ReplicasNotVoting", message };
}

function available(
  record: ShardRecord,
  plan: Plan,
  leader: ReplicaStatus | null,
  idle: Idle | null,
): Condition {
  if (plan.stop !== null) {
    return {
      type: "Available",
      status: false,
      reason: plan.stop.reason,
      message: plan.stop.message,
    };
  }
  if (idle !== null) {
    const message = `${record.leader?.node ?? ""} leads term ${record.term} and ${idle.message}`;
    return { type: "Available", status: false, reason: idle.reason, message };
  }
  if (leader !== null) {
    const message = `${record.leader?.node ?? ""} leads term ${record.term}`;
    return { type: "Available", status: leader.serving, reason: "Led", message };
  }
  const reason = record.initialized ? "NoLeader" : "NotStarted";
  return { type: "Available", status: false, reason, message: plan.waiting ?? "election" };
}

/** Why no write is answered though somebody leads. */
interface Idle {
  readonly reason: "LeaderIsolated" | "VotersBehind";
  readonly message: string;
}

function idleReason(record: ShardRecord, observed: Observed): Idle | null {
  if (!isIdle(record, observed) && !isIsolated(record, observed)) return null;
  const report = observed.nodes.get(record.leader?.node ?? "")?.replica ?? null;
  const behind = record.members.flatMap((member) => {
    const fed = report === null ? undefined : followerAt(report, member);
    if (member.role !== "voter" || fed?.state !== "Snapshot") return [];
    return [fed.lastError === "" ? member.node : `${member.node} (${fed.lastError})`];
  });
  if (behind.length === 0 || isIsolated(record, observed)) {
    const message =
      "reaches too few voters to commit anything; see whether those that are not voting run, " +
      "and whether it can reach them";
    return { reason: "LeaderIsolated", message };
  }
  const message =
    `commits nothing before its voters caught up, by a snapshot: ${behind.join(", ")}; ` +
    "sooner when those that are not voting come back";
  return { reason: "VotersBehind", message };
}
