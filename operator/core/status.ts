/** What people see of a shard: conditions and one line per replica. Pure. */
import type { ReplicaStatus } from "../../sidecar/protocol/gen/resilver.ts";
import { statusName } from "../../sidecar/protocol/status.ts";
import { judgeLeader, type Observed } from "./observed.ts";
import type { Plan } from "./plan.ts";
import type { RecordMember, ShardKey, ShardRecord } from "./record.ts";

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
  readonly role: "leader" | "voter" | "learner" | "leaving" | "wiped" | "none";
  /** NOT_MEMBER, FENCED, FOLLOWER, LEADER, or "unknown". */
  readonly status: string;
  readonly term: number;
  readonly headOffset: number;
  readonly commitOffset: number;
  /** Entries behind the leader's head; null when either is unknown. */
  readonly lagEntries: number | null;
  /** "" when none: Deferred(<gate>), Enrolled, Transferring, Installing, CatchingUp. */
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

export interface ShardView extends ShardKey {
  readonly term: number;
  readonly generation: number;
  readonly lossEpoch: number;
  readonly leader: string | null;
  /** True when the leader has its barrier committed and serves. */
  readonly serving: boolean;
  readonly commitFloor: { readonly term: number; readonly offset: number };
  readonly ensemble: readonly string[];
  readonly replicas: readonly ReplicaView[];
  readonly conditions: readonly Condition[];
  readonly stop: { readonly reason: string; readonly message: string } | null;
}

/** Puts record, observation and plan together for people. */
export function shardView(record: ShardRecord, observed: Observed, plan: Plan): ShardView {
  const judged = judgeLeader(record, observed);
  const leader = judged.state === "steady" ? judged.replica : null;
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
    serving: leader?.serving ?? false,
    commitFloor: record.commitFloor,
    ensemble: record.ensemble,
    replicas,
    conditions: conditions(record, plan, leader, replicas),
    stop: plan.stop,
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
  const seen = observed.nodes.get(node);
  const replica = seen?.replica ?? null;
  const wiped = member !== undefined && replica !== null && replica.replicaUid !== member.replicaUid;
  const deferral = plan.deferrals.find((other) => other.node === node);
  const head = replica?.head?.offset ?? -1;
  const leaderHead = leader?.head?.offset ?? null;
  return {
    node,
    uid: replica?.replicaUid ?? member?.replicaUid ?? "",
    reach: seen?.reach ?? "unknown",
    role: roleOf(record, member, wiped),
    status: replica === null || seen?.reach !== "up" ? "unknown" : statusName(replica.status),
    term: replica?.term ?? -1,
    headOffset: head,
    commitOffset: replica?.commitOffset ?? -1,
    lagEntries: leaderHead === null || replica === null ? null : Math.max(0, leaderHead - head),
    phase: deferral === undefined ? phaseOf(member, replica) : `Deferred(${deferral.gate})`,
    reason: deferral?.reason ?? member?.reason ?? "",
    ...progressOf(leader, replica, node),
    fault: replica?.fault ?? "",
  };
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

function phaseOf(member: RecordMember | undefined, replica: ReplicaStatus | null): string {
  if (member?.role !== "learner") return "";
  const phase = replica?.recovery?.phase ?? "";
  return phase === "" ? "Enrolled" : phase;
}

type Progress = Pick<
  ReplicaView,
  "bytesDone" | "bytesTotal" | "startedMs" | "firstByteMs" | "installedMs" | "attempts" | "lastErrors"
>;

function progressOf(
  leader: ReplicaStatus | null,
  replica: ReplicaStatus | null,
  node: string,
): Progress {
  const own = replica?.recovery;
  const sent = leader?.followers.find((follower) => follower.node === node);
  return {
    bytesDone: Math.max(own?.bytesDone ?? 0, sent?.snapshotBytesDone ?? 0),
    bytesTotal: Math.max(own?.bytesTotal ?? 0, sent?.snapshotBytesTotal ?? 0),
    startedMs: own?.startedMs ?? 0,
    firstByteMs: own?.firstByteMs ?? 0,
    installedMs: own?.installedMs ?? 0,
    attempts: own?.attempts ?? 0,
    lastErrors: own?.lastErrors ?? [],
  };
}

function conditions(
  record: ShardRecord,
  plan: Plan,
  leader: ReplicaStatus | null,
  replicas: readonly ReplicaView[],
): readonly Condition[] {
  const behind = replicas.filter(
    (replica) =>
      replica.reach !== "up" || !["leader", "voter"].includes(replica.role) || replica.fault !== "",
  );
  const names = behind.map((replica) => replica.node).join(", ");
  return [
    available(record, plan, leader),
    {
      type: "Progressing",
      status: plan.actions.length > 0 || record.next !== undefined,
      reason: plan.actions[0]?.kind ?? (record.next === undefined ? "Idle" : "EnsembleChange"),
      message: plan.waiting ?? "",
    },
    {
      type: "Degraded",
      status: behind.length > 0,
      reason: behind.length > 0 ? "ReplicasNotVoting" : "AllVoting",
      message: behind.length > 0 ? `not voting or not reachable: ${names}` : "all replicas vote",
    },
  ];
}

function available(record: ShardRecord, plan: Plan, leader: ReplicaStatus | null): Condition {
  if (plan.stop !== null) {
    return { type: "Available", status: false, reason: plan.stop.reason, message: plan.stop.message };
  }
  if (leader !== null) {
    const message = `${record.leader?.node ?? ""} leads term ${record.term}`;
    return { type: "Available", status: leader.serving, reason: "Led", message };
  }
  const reason = record.initialized ? "NoLeader" : "NotStarted";
  return { type: "Available", status: false, reason, message: plan.waiting ?? "election" };
}
