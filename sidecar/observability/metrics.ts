/**
 * The sidecar's Prometheus metrics (DESIGN.md section 8). What happens is counted through the
 * NodeMetrics port, that of a replica in `replica-series.ts`; what is, is read from the replicas'
 * statuses at each scrape, so that a series ends when its replica or follower does. Recovery and
 * election counters are the operator's, not ours.
 */
import { collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";
import type { NodeMetrics } from "../lib/ports/metrics.ts";
import {
  type FollowerProgress,
  type ReplicaStatus,
  ServingStatus,
} from "../protocol/gen/resilver.ts";
import { statusName } from "../protocol/status.ts";
import {
  REPLICA_LABELS,
  REQUEST_SECONDS,
  registerReplicaSeries,
  replicaLabels,
} from "./replica-series.ts";

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

/** Bounds the label sets, should a rpc name or a reason ever come from outside. */
const REQUEST_SERIES_MAX = 500;

/** Makes the registry of one process. */
export function openMetrics(sources: MetricsSources): MetricsRegistry {
  const registry = new Registry();
  registry.setDefaultLabels({ pod: sources.node });
  collectDefaultMetrics({ register: registry });
  registerReplicaGauges(registry, sources);
  registerMemoryGauge(registry, sources);
  return {
    replica: registerReplicaSeries(registry),
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
    buckets: [...REQUEST_SECONDS],
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
  const all = [status, lag, ...simple.map(([one]) => one)];
  // Collected by the first of them for all: one look at the statuses for each scrape.
  collectWith(status, () => {
    for (const one of all) one.reset();
    for (const replica of sources.statuses()) {
      const labels = replicaLabels(replica);
      setStatus(status, labels, replica.status);
      for (const [one, value] of simple) {
        const number = value(replica);
        if (number !== null) one.set(labels, number);
      }
      for (const follower of replica.followers) {
        lag.set({ ...labels, follower: follower.node }, lagOf(replica, follower));
      }
    }
  });
}

function collectWith(gauge: ReplicaGauge, collect: () => void): void {
  // The constructor's option would need the gauge before it exists.
  Object.assign(gauge, { collect });
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
