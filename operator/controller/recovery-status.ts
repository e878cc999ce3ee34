/**
 * ReplicaRecovery objects from what is seen: one per pod that has replicas to rebuild, from the
 * first sight of them to their votes. Pure: what an object says now is concluded from what it said
 * before and from the shards.
 */
import {
  isFinished,
  type ReplicaRecoveryPhase,
  type ReplicaRecoveryStatus,
} from "../api/v1alpha1/replica-recovery.ts";
import { type Gate, gatePage, type RecoveryPolicy } from "../core/gates.ts";
import { RECOVERY_REASONS, type RecoveryReason, shardKeyText } from "../core/record.ts";
import { entriesHeld, type ReplicaView, type ShardView, type Share } from "../core/status.ts";
import { stopPage } from "../core/stops.ts";
import { isRebuilding } from "./store-status.ts";

/** Claims a pod's data was on when all its replicas voted, and is on now; null: not known. */
export interface ClaimEvidence {
  readonly old: { readonly data?: string | undefined; readonly wal?: string | undefined } | null;
  readonly now: { readonly data?: string | undefined; readonly wal?: string | undefined } | null;
}

/** What there is to know of one pod's recovery. */
export interface RecoveryInput {
  readonly pod: string;
  readonly views: readonly ShardView[];
  readonly claims: ClaimEvidence;
  /** Replica uids that voted before, by `namespace/shard`, where that was seen. */
  readonly oldUids: ReadonlyMap<string, string>;
  /**
   * Shards of the pod, as `namespace/shard`, that vote and are to be rebuilt all the same, and have
   * not begun.
   */
  readonly awaited: ReadonlySet<string>;
  /** The store, and its `recovery.mode`: what people have to write who order a rebuild. */
  readonly storeName: string;
  readonly mode: RecoveryPolicy["mode"];
  /** False: the store has become smaller, and the pod goes or is gone. */
  readonly isWanted: boolean;
  /** RFC 3339. */
  readonly now: string;
  /** Bytes per second; null when not known. */
  readonly bytesPerSecond: number | null;
}

interface Row {
  readonly view: ShardView;
  readonly replica: ReplicaView;
}

type ShardStatus = NonNullable<ReplicaRecoveryStatus["shards"]>[number];

/** Phases of a rebuild under way, least far first. */
const UNDER_WAY: readonly ReplicaRecoveryPhase[] = [
  "Enrolled",
  "Transferring",
  "CatchingUp",
  "Promoting",
];

/** Least far first. */
const ORDER: readonly ReplicaRecoveryPhase[] = ["Deferred", "Detected", ...UNDER_WAY, "Succeeded"];

/** Shards of the pod that have to be rebuilt now: the node has said what it holds. */
function rebuildingRows(views: readonly ShardView[], pod: string): readonly Row[] {
  return views.flatMap((view) =>
    view.replicas
      .filter((replica) => replica.node === pod && isRebuilding(replica) && isReported(replica))
      .map((replica) => ({ view, replica })),
  );
}

/** A node that is here but has reported no replica yet shows under the recorded, old uid. */
function isReported({ uid, role, status }: ReplicaView): boolean {
  return uid !== "" && !(role === "wiped" && status === "unknown");
}

/** Uids of the replicas that the pod has to rebuild; of one shard when `shard` names it. */
export function rebuildingUids(
  views: readonly ShardView[],
  pod: string,
  shard?: { readonly namespace: string; readonly shard: number },
): readonly string[] {
  return rebuildingRows(views, pod)
    .filter(({ view }) => {
      if (shard === undefined) return true;
      return view.namespace === shard.namespace && view.shard === shard.shard;
    })
    .map(({ replica }) => replica.uid);
}

/**
 * Name of the object for what the pod has to rebuild; null when it has nothing. The same for the
 * same replica, so that an operator that was killed finds what it made.
 */
export function recoveryName(views: readonly ShardView[], pod: string): string | null {
  const [first] = rebuildingRows(views, pod);
  return first === undefined ? null : objectName(pod, first.replica.uid);
}

/** Name of the object for the rebuild of the replica, or of what is on the claim, with this uid. */
export function objectName(pod: string, uid: string): string {
  return `${pod}-${uid.slice(-8).toLowerCase()}`;
}

/**
 * True when an open object of the pod is about what the pod has to rebuild now: some of the
 * replicas it names are among those, or it names none yet, since the pod had not said what it
 * holds.
 */
export function isAbout(
  status: ReplicaRecoveryStatus | undefined,
  views: readonly ShardView[],
  pod: string,
): boolean {
  const named = new Set(status?.shards?.flatMap(({ newReplicaUid }) => newReplicaUid ?? []));
  return (
    named.size === 0 || rebuildingRows(views, pod).some(({ replica }) => named.has(replica.uid))
  );
}

/** True when the pod's data is on another claim than the one that was noted while it voted. */
export function isClaimReplaced({ old, now }: ClaimEvidence): boolean {
  return differ(old?.data, now?.data) || differ(old?.wal, now?.wal);
}

/** What the object says now. `before` is what it said; undefined for a new one. */
export function recoveryStatus(
  input: RecoveryInput,
  before: ReplicaRecoveryStatus | undefined,
): ReplicaRecoveryStatus {
  const rows = rebuildingRows(input.views, input.pod);
  const shards = shardStatuses(input, rows, before?.shards ?? []);
  const seen = shards.length > 0 || before === undefined;
  const phase = (seen ? null : endUnseen(input)) ?? phaseOfAll(rows, shards);
  const gate = gateOf(rows);
  const evidence = { ...evidenceOf(input, rows), ...defined(before?.evidence) };
  const attempts = Math.max(before?.attempts ?? 0, ...attemptsSeen(input, shards));
  return {
    phase,
    ...defined({ reason: joinedReason(toldReason(rows) ?? before?.reason, evidence), gate }),
    message: messageOf({ phase, gate, attempts, rows, reported: shards.length > 0 }, input),
    evidence,
    ...sourceOf(input.pod, rows, before),
    ...progressOf(input, phase, shards),
    attempts,
    lastErrors: rows.flatMap(({ replica }) => replica.lastErrors).slice(-5),
    shards,
    ...timesOf(input, phase, before),
  };
}

/** Transfers begun, as the replicas of the recovery count them. */
function attemptsSeen(
  { pod, views }: RecoveryInput,
  shards: readonly ShardStatus[],
): readonly number[] {
  const uids = new Set(shards.map(({ newReplicaUid }) => newReplicaUid));
  return views.flatMap(({ replicas }) =>
    replicas
      .filter(({ node, uid }) => node === pod && uids.has(uid))
      .map(({ attempts }) => attempts),
  );
}

/** Given up once nothing of the pod is being rebuilt any more. */
function phaseOfAll(rows: readonly Row[], shards: readonly ShardStatus[]): ReplicaRecoveryPhase {
  const failed = shards.some(({ phase }) => phase === "Failed");
  return failed && rows.length === 0 ? "Failed" : leastFar(shards);
}

function timesOf(
  { now }: RecoveryInput,
  phase: ReplicaRecoveryPhase,
  before: ReplicaRecoveryStatus | undefined,
) {
  const startedAt = before?.startedAt ?? now;
  return isFinished(phase) ? { startedAt, finishedAt: before?.finishedAt ?? now } : { startedAt };
}

function progressOf(
  input: RecoveryInput,
  phase: ReplicaRecoveryPhase,
  shards: readonly ShardStatus[],
) {
  const bytes = {
    done: sum(shards, ({ bytesDone = 0 }) => bytesDone),
    total: sum(shards, ({ bytesTotal = 0 }) => bytesTotal),
  };
  const entries = {
    done: sum(shards, ({ entriesDone = 0 }) => entriesDone),
    total: sum(shards, ({ entriesTotal = 0 }) => entriesTotal),
  };
  return {
    progress: phase === "Succeeded" ? "100%" : percentOf([bytes, entries]),
    ...bytesOf(bytes),
    ...entriesOf(entries),
    ...(isFinished(phase) ? {} : paceOf(input, bytes)),
  };
}

/** The way that is least far, of the two that data is moved by; 0% while neither is known of. */
function percentOf(shares: readonly Share[]): string {
  const known = shares.filter(({ total }) => total > 0);
  if (known.length === 0) return "0%";
  return `${Math.min(...known.map(({ done, total }) => Math.floor((100 * done) / total)))}%`;
}

/** Nothing while nobody knows of a snapshot: zero bytes would be a statement. */
function bytesOf({ done, total }: Share): Pick<ShardStatus, "bytesDone" | "bytesTotal"> {
  return total > 0 ? { bytesDone: done, bytesTotal: total } : {};
}

function entriesOf({ done, total }: Share): Pick<ShardStatus, "entriesDone" | "entriesTotal"> {
  return total > 0 ? { entriesDone: done, entriesTotal: total } : {};
}

/** Those that are being rebuilt, and those that were: they vote by now, or another one is there. */
function shardStatuses(
  { pod, views, oldUids, awaited }: RecoveryInput,
  rows: readonly Row[],
  before: readonly ShardStatus[],
): ShardStatus[] {
  const now = rows.map((row) => forward(row, rowStatus(row, oldUids), before));
  const past = before
    .filter(({ namespace, shard }) => {
      return !now.some((other) => other.namespace === namespace && other.shard === shard);
    })
    .map((status): ShardStatus => {
      const view = views.find(
        ({ namespace, shard }) => namespace === status.namespace && shard === status.shard,
      );
      const replica = view?.replicas.find(({ node }) => node === pod);
      if (awaited.has(`${status.namespace}/${status.shard}`)) return status;
      if (replica === undefined) return { ...status, phase: "Failed" };
      const same = status.newReplicaUid === undefined || replica.uid === status.newReplicaUid;
      const votes = replica.role === "voter" || replica.role === "leader";
      // Not heard of at the moment: nothing can be said beyond what was.
      if (replica.uid === "" || (same && !votes)) return status;
      if (!same) return { ...status, phase: "Failed" };
      // A short transfer begins and ends between two looks; the replica remembers it.
      const bytes = {
        done: Math.max(status.bytesDone ?? 0, replica.bytesDone),
        total: Math.max(status.bytesTotal ?? 0, replica.bytesTotal),
      };
      const all = status.entriesTotal ?? 0;
      const entries = entriesOf({ done: all, total: all });
      return { ...status, phase: "Succeeded", ...bytesOf(bytes), ...entries };
    });
  return [...now, ...past].toSorted((a, b) => a.shard - b.shard);
}

function rowStatus(row: Row, oldUids: ReadonlyMap<string, string>): ShardStatus {
  const { view, replica } = row;
  return {
    namespace: view.namespace,
    shard: view.shard,
    phase: phaseOf(replica),
    ...defined({ newReplicaUid: newUidOf(row, oldUids) }),
    ...bytesOf({ done: replica.bytesDone, total: replica.bytesTotal }),
    ...entriesOf(entriesHeld(replica) ?? { done: 0, total: 0 }),
  };
}

/**
 * Not back by what is only not known for a moment: under a new leader, between two transfers, while
 * the leader asks where the replica is. Back to a transfer when there is one again, and to where it
 * began when the record knows the replica no more.
 */
function forward({ replica }: Row, now: ShardStatus, before: readonly ShardStatus[]): ShardStatus {
  const told = before.find(
    ({ namespace, shard, newReplicaUid }) =>
      namespace === now.namespace && shard === now.shard && newReplicaUid === now.newReplicaUid,
  );
  const reached = UNDER_WAY.indexOf(told?.phase ?? "Detected");
  const isHeld = now.phase === "Deferred" || replica.role === "wiped";
  const isBack = !isHeld && UNDER_WAY.indexOf(now.phase) < reached;
  const moves = now.phase === "Transferring" && replica.bytesDone < replica.bytesTotal;
  const phase = told !== undefined && isBack && !moves ? told.phase : now.phase;
  // A snapshot took the place of the log.
  const { entriesDone: _done, entriesTotal: _total, ...others } = told ?? {};
  return { ...(now.bytesTotal === undefined ? told : others), ...now, phase };
}

/**
 * Undefined under the name that voted: the last word of a process whose pod is gone, on a claim
 * that is new, or directories that came along unchanged.
 */
function newUidOf(
  { view, replica }: Row,
  oldUids: ReadonlyMap<string, string>,
): string | undefined {
  return replica.uid === oldUids.get(`${view.namespace}/${view.shard}`) ? undefined : replica.uid;
}

function phaseOf({ role, phase }: ReplicaView): ReplicaRecoveryPhase {
  if (phase.startsWith("Deferred")) return "Deferred";
  if (role === "wiped") return "Detected";
  switch (phase) {
    case "Transferring":
    case "Installing":
      return "Transferring";
    case "CatchingUp":
    case "Promoting":
    case "Detected":
      return phase;
    default:
      return "Enrolled";
  }
}

function leastFar(shards: readonly ShardStatus[]): ReplicaRecoveryPhase {
  const ranks = shards.map(({ phase }) => ORDER.indexOf(phase)).filter((rank) => rank >= 0);
  return ORDER[Math.min(...ranks)] ?? "Detected";
}

function gateOf(rows: readonly Row[]): string | undefined {
  const deferred = rows.find(({ replica }) => replica.phase.startsWith("Deferred"));
  return /^Deferred\((\w+)\)$/u.exec(deferred?.replica.phase ?? "")?.[1];
}

function toldReason(rows: readonly Row[]): RecoveryReason | undefined {
  return rows
    .map(({ replica }) => RECOVERY_REASONS.find((reason) => reason === replica.reason))
    .find((reason) => reason !== undefined);
}

/**
 * The sidecar says that its directories are empty or another's; whether that is because its volume
 * is another one, the claims say.
 */
function joinedReason(
  told: RecoveryReason | undefined,
  evidence: NonNullable<ReplicaRecoveryStatus["evidence"]>,
): RecoveryReason | undefined {
  const { oldDataClaimUid, newDataClaimUid, oldWalClaimUid, newWalClaimUid } = evidence;
  const replaced =
    differ(oldDataClaimUid, newDataClaimUid) || differ(oldWalClaimUid, newWalClaimUid);
  const empty = told === undefined || told === "VolumeEmpty" || told === "IdentityMismatch";
  return replaced && empty ? "PVCReplaced" : told;
}

/**
 * How a recovery ends that was concluded from a claim alone, with no replica ever seen that needed
 * it; null: not yet.
 */
function endUnseen({ pod, views, claims, isWanted }: RecoveryInput): "Succeeded" | "Failed" | null {
  const own = views.flatMap(({ replicas }) => replicas.filter(({ node }) => node === pod));
  if (own.length === 0 && !isWanted) return "Failed";
  // One that is to hold nothing shows nothing but its claims: these have to be known.
  const settled = own.length === 0 ? areNoted(claims) : !isClaimReplaced(claims);
  return settled && own.every(({ voting }) => voting) ? "Succeeded" : null;
}

/** The pod is there, on the very claims that were noted. */
function areNoted({ old, now }: ClaimEvidence): boolean {
  if (now?.data === undefined || now.wal === undefined) return false;
  return now.data === old?.data && now.wal === old.wal;
}

/** False while either is not known. */
function differ(before: string | undefined, now: string | undefined): boolean {
  return before !== undefined && now !== undefined && before !== now;
}

function evidenceOf({ claims, oldUids, pod }: RecoveryInput, rows: readonly Row[]) {
  const [first] = rows;
  const key = first === undefined ? "" : `${first.view.namespace}/${first.view.shard}`;
  return defined({
    oldReplicaUid: oldUids.get(key),
    newReplicaUid: first === undefined ? undefined : newUidOf(first, oldUids),
    oldDataClaimUid: claims.old?.data,
    newDataClaimUid: claims.now?.data,
    oldWalClaimUid: claims.old?.wal,
    newWalClaimUid: claims.now?.wal,
    reportedBy: first === undefined ? undefined : pod,
  });
}

/**
 * A leader that lost its disk leads by the record until another is elected, and sends nothing; nor
 * does one that sent before.
 */
function sourceOf(pod: string, rows: readonly Row[], before: ReplicaRecoveryStatus | undefined) {
  const replicas = rows.flatMap(({ view }) => view.replicas);
  const isWiped = (name: string): boolean =>
    replicas.some(({ node, role }) => node === name && role === "wiped");
  const leaders = [...rows.map(({ view }) => view.leader), before?.source];
  const source = leaders.find((leader) => {
    return typeof leader === "string" && leader !== pod && !isWiped(leader);
  });
  return typeof source === "string" ? { source } : {};
}

interface Told {
  readonly phase: ReplicaRecoveryPhase;
  readonly gate: string | undefined;
  readonly attempts: number;
  readonly rows: readonly Row[];
  /** The pod has said what it holds. */
  readonly reported: boolean;
}

function messageOf({ phase, gate, attempts, rows, reported }: Told, input: RecoveryInput): string {
  if (gate !== undefined) return gateText(gate, input);
  switch (phase) {
    case "Detected":
      if (!reported) return "its volume claim is another one; the pod has yet to say what it holds";
      return "what its replicas hold does not count; the rebuild begins by itself";
    case "Deferred":
      return "may be rebuilt; begins with the coordinator's next step";
    case "Succeeded":
      return reported ? "votes again" : "nothing had to be rebuilt";
    case "Failed":
      return "given up: the replica is another one by now, or no longer wanted";
    default: {
      const again = attempts > 1 ? `, by transfer ${attempts}: those before ended early` : "";
      const how = whatLacks(rows) ?? `is being rebuilt from the leader${again}`;
      return `${how}; it does not vote meanwhile`;
    }
  }
}

/** What keeps each of its shards from going on, whatever phase it has reached; null: nothing. */
function whatLacks(rows: readonly Row[]): string | null {
  const [first] = rows;
  if (first === undefined) return null;
  const all = (holds: (row: Row) => boolean) => rows.every(holds);
  const { view, replica } = first;
  if (all(({ replica: { reach } }) => reach === "down" || reach === "silent")) {
    return `waits until ${replica.node} is reached`;
  }
  const key = shardKeyText(view);
  if (view.stop !== null && all((row) => row.view.stop !== null)) {
    const { reason } = view.stop;
    return `waits for a person: ${key} has stopped (${reason}), see ${stopPage(reason)}`;
  }
  if (all((row) => isLeaderless(row.view))) return `waits until ${key} has a leader`;
  return null;
}

function isLeaderless({ conditions }: ShardView): boolean {
  return conditions.some(({ type, reason }) => type === "Available" && reason === "NoLeader");
}

function gateText(gate: string, { pod, storeName, mode }: RecoveryInput): string {
  const page = gatePage(gate as Gate);
  if (gate === "Paused" && mode === "Manual") {
    return (
      "spec.recovery.mode of the store is Manual: begins when a person orders it, by a ReplicaRecovery " +
      `with spec { storeName: ${storeName}, rebuild: { pod: ${pod} } }; see ${page}`
    );
  }
  return `waits for the gate ${gate}, see ${page}; \`kubectl describe pod ${pod}\` says more`;
}

function paceOf({ bytesPerSecond }: RecoveryInput, { done, total }: Share) {
  if (bytesPerSecond === null || bytesPerSecond <= 0) return {};
  const seconds = Math.ceil(Math.max(0, total - done) / bytesPerSecond);
  const eta = seconds < 120 ? `${seconds}s` : `${Math.ceil(seconds / 60)}m`;
  return { rate: `${(bytesPerSecond / 2 ** 20).toFixed(1)} MiB/s`, eta };
}

function sum<T>(items: readonly T[], value: (item: T) => number): number {
  return items.reduce((total, item) => total + value(item), 0);
}

/** Without what is undefined. */
function defined<T extends object>(
  object: T | undefined,
): Partial<{ [K in keyof T]: NonNullable<T[K]> }> {
  const entries = Object.entries(object ?? {}).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries) as Partial<{ [K in keyof T]: NonNullable<T[K]> }>;
}
