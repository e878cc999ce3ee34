/**
 * The sidecar's Prometheus metrics (DESIGN.md section 8). What happens is counted through the
 * NodeMetrics port; what is, is read from the replicas' statuses at each scrape, so that a series
 * ends when its replica or follower does. Recovery and election counters are the operator's, not
 * ours.
 */
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from "prom-client";
import type { NodeMetrics } from "../lib/ports/metrics.ts";
import {
  type FollowerProgress,
  type ReplicaStatus,
  ServingStatus,
  WipeReason,
} from "../protocol/gen/resilver.ts";
import { statusName } from "../protocol/status.ts";

/** Where the values come from. */
export interface MetricsSources {
  /** Name of this pod: a label of every series. */
  readonly node: string;
  /** Statuses of all replicas now. */
  statuses(): readonly ReplicaStatus[];
  /** See os/process-memory.ts. */
  anonymousMemoryBytes(): number | null;
}

/** Counting for the process, and the page that Prometheus reads. */
export interface MetricsRegistry extends NodeMetrics {
  readonly contentType: string;
  /** The text of /metrics. */
  page(): Promise<string>;
}

const REPLICA_LABELS = ["store", "namespace", "shard"] as const;
const FAST_SECONDS = [
  0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2,
];
const REQUEST_SECONDS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5];
/** Bounds the label sets, should a rpc name or a reason ever come from outside. */
const REQUEST_SERIES_MAX = 500;

/** Makes the registry of one process. */
export function openMetrics(sources: MetricsSources): MetricsRegistry {
  const registry = new Registry();
  registry.setDefaultLabels({ pod: sources.node });
  collectDefaultMetrics({ register: registry });
  const registers = [registry];
  registerReplicaGauges(registry, sources);
  registerMemoryGauge(registry, sources);
  const rejections = new Counter({
    name: "resilver_not_member_rejections_total",
    help: "Data calls refused because this replica is no member (NODE_IS_NOT_MEMBER, 112).",
    registers,
  });
  const bytes = new Counter({
    name: "resilver_recovery_bytes_total",
    help: "Snapshot content sent to and received from peers.",
    labelNames: ["direction"],
    registers,
  });
  const fsync = new Histogram({
    name: "resilver_wal_fsync_seconds",
    help: "Time of one fdatasync of the log.",
    buckets: FAST_SECONDS,
    registers,
  });
  const append = new Histogram({
    name: "resilver_append_seconds",
    help: "Time from a write's arrival at the leader to its commit.",
    buckets: REQUEST_SECONDS,
    registers,
  });
  return {
    notMemberRejections: { inc: () => rejections.inc() },
    snapshotBytes: (direction, count) => bytes.inc({ direction }, count),
    walFsync: (seconds) => fsync.observe(seconds),
    append: (seconds) => append.observe(seconds),
    request: requestObserver(registry),
    contentType: registry.contentType,
    page: () => registry.metrics(),
  };
}

/** Looking up labels for each request would cost more than the rest of counting it. */
function requestObserver(registry: Registry): NodeMetrics["request"] {
  const histogram = new Histogram({
    name: "resilver_request_seconds",
    help: "Time of one request; for a stream, how long it was open.",
    labelNames: ["rpc", "code"],
    buckets: REQUEST_SECONDS,
    registers: [registry],
  });
  const children = new Map<string, { observe(seconds: number): void }>();
  return (rpc, code, seconds) => {
    const key = `${rpc} ${code}`;
    let child = children.get(key);
    if (child === undefined) {
      if (children.size >= REQUEST_SERIES_MAX) return;
      child = histogram.labels(rpc, code);
      children.set(key, child);
    }
    child.observe(seconds);
  };
}

function registerMemoryGauge(registry: Registry, sources: MetricsSources): void {
  new Gauge({
    name: "resilver_anonymous_memory_bytes",
    help: "Anonymous resident memory: what the process holds, without mapped file pages.",
    registers: [registry],
    collect() {
      const value = sources.anonymousMemoryBytes();
      if (value !== null) this.set(value);
    },
  });
}

type ReplicaGauge = Gauge<string>;

function registerReplicaGauges(registry: Registry, sources: MetricsSources): void {
  const gauge = (name: string, help: string, labels: readonly string[] = []): ReplicaGauge =>
    new Gauge({
      name: `resilver_${name}`,
      help,
      labelNames: [...REPLICA_LABELS, ...labels],
      registers: [registry],
    });
  const status = gauge("replica_status", "1 for the status the replica is in.", ["status"]);
  const simple: readonly (readonly [ReplicaGauge, (replica: ReplicaStatus) => number | null])[] = [
    [gauge("shard_term", "Term of the replica."), (replica) => replica.term],
    [
      gauge("shard_head_offset", "Last offset of the replica's log."),
      (replica) => replica.head?.offset ?? -1,
    ],
    [
      gauge("shard_commit_offset", "Last offset that the replica knows to be committed."),
      (replica) => replica.commitOffset,
    ],
    [
      gauge("replica_no_space", "1 while the volume is nearly full: writes and entries wait."),
      (replica) => (replica.noSpace ? 1 : 0),
    ],
  ];
  const lag = gauge("follower_lag_entries", "Entries a follower has not acknowledged.", [
    "follower",
  ]);
  const mismatches = new Counter({
    name: "resilver_storage_identity_mismatch_total",
    help: "Replicas that found the cookies of their directories to differ.",
    labelNames: [...REPLICA_LABELS],
    registers: [registry],
  });
  const counted = new Map<string, string>();
  const all = [status, lag, ...simple.map(([one]) => one)];
  // Collected by the first of them for all: one look at the statuses for each scrape.
  collectWith(status, () => {
    for (const one of all) one.reset();
    for (const replica of sources.statuses()) {
      const labels = labelsOf(replica);
      setStatus(status, labels, replica.status);
      for (const [one, value] of simple) {
        const number = value(replica);
        if (number !== null) one.set(labels, number);
      }
      for (const follower of replica.followers) {
        lag.set({ ...labels, follower: follower.node }, lagOf(replica, follower));
      }
      countMismatch(mismatches, counted, replica);
    }
  });
}

function collectWith(gauge: ReplicaGauge, collect: () => void): void {
  // The constructor's option would need the gauge before it exists.
  Object.assign(gauge, { collect });
}

function labelsOf(replica: ReplicaStatus): Record<string, string> {
  return { store: replica.storeId, namespace: replica.namespace, shard: String(replica.shard) };
}

const STATUSES = [
  ServingStatus.NOT_MEMBER,
  ServingStatus.FENCED,
  ServingStatus.FOLLOWER,
  ServingStatus.LEADER,
] as const;

function setStatus(
  gauge: ReplicaGauge,
  labels: Record<string, string>,
  current: ServingStatus,
): void {
  for (const one of STATUSES) {
    gauge.set({ ...labels, status: statusName(one) }, one === current ? 1 : 0);
  }
}

function lagOf(leader: ReplicaStatus, follower: FollowerProgress): number {
  return Math.max(0, (leader.head?.offset ?? -1) - follower.ackOffset);
}

/** Once for each identity that was made because of a mismatch. */
function countMismatch(
  counter: Counter<string>,
  counted: Map<string, string>,
  replica: ReplicaStatus,
): void {
  if (replica.wipeReason !== WipeReason.IDENTITY_MISMATCH) return;
  const key = `${replica.shard} ${replica.namespace}`;
  if (counted.get(key) === replica.replicaUid) return;
  counted.set(key, replica.replicaUid);
  counter.inc(labelsOf(replica));
}
