/**
 * What replicas count as it happens, as series that end with their shard. The numbers of each
 * replica are kept apart and joined with its labels at a scrape: to find them by labels for each
 * write would cost more than to count it.
 */
import { Counter, Histogram, type Registry } from "prom-client";
import type { NodeMetrics, ReplicaMetrics, ReplicaName } from "../lib/ports/metrics.ts";

/** Labels that name a replica within a pod. */
export const REPLICA_LABELS = ["store", "namespace", "shard"] as const;

/** Bounds of what takes as long as a disk does. */
const FAST_SECONDS = [
  0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2,
];
/** Bounds of what takes as long as a request does. */
export const REQUEST_SECONDS: readonly number[] = [
  0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5,
];

/** The labels of a replica's series. */
export function replicaLabels(name: ReplicaName): Record<string, string> {
  return { store: name.storeId, namespace: name.namespace, shard: String(name.shard) };
}

/** One replica's numbers. */
interface Counts {
  readonly labels: Record<string, string>;
  rejections: number;
  mismatches: number;
  readonly bytes: Record<"sent" | "received", number>;
  readonly fsync: Histogram;
  readonly append: Histogram;
}

const FSYNC = {
  name: "resilver_wal_fsync_seconds",
  help: "Time of one fdatasync of the log.",
  buckets: [...FAST_SECONDS],
};
const APPEND = {
  name: "resilver_append_seconds",
  help: "Time from a write's arrival at the leader until it was applied.",
  buckets: [...REQUEST_SECONDS],
};

/** Registers the metrics of replicas; the function gives the series of one, made when missing. */
export function registerReplicaSeries(registry: Registry): NodeMetrics["replica"] {
  const replicas = new Map<string, Counts>();
  registerCounters(registry, replicas);
  const all = (): readonly Counts[] => [...replicas.values()];
  new JoinedHistogram(FSYNC, registry, () => all().map((one) => [one.labels, one.fsync]));
  new JoinedHistogram(APPEND, registry, () => all().map((one) => [one.labels, one.append]));
  return (name) => {
    const labels = replicaLabels(name);
    const key = Object.values(labels).join("/");
    let counts = replicas.get(key);
    if (counts === undefined) {
      counts = noCounts(labels);
      replicas.set(key, counts);
    }
    return countingIn(counts, () => replicas.delete(key));
  };
}

function noCounts(labels: Record<string, string>): Counts {
  const part = { registers: [] };
  return {
    labels,
    rejections: 0,
    mismatches: 0,
    bytes: { sent: 0, received: 0 },
    fsync: new Histogram({ ...FSYNC, ...part }),
    append: new Histogram({ ...APPEND, ...part }),
  };
}

function countingIn(counts: Counts, end: () => void): ReplicaMetrics {
  return {
    notMemberRejections: {
      inc: () => {
        counts.rejections += 1;
      },
    },
    identityMismatches: {
      inc: () => {
        counts.mismatches += 1;
      },
    },
    snapshotBytes: (direction, bytes) => {
      counts.bytes[direction] += bytes;
    },
    walFsync: (seconds) => counts.fsync.observe(seconds),
    append: (seconds) => counts.append.observe(seconds),
    end,
  };
}

function registerCounters(registry: Registry, replicas: ReadonlyMap<string, Counts>): void {
  const counter = (
    name: string,
    help: string,
    values: (counts: Counts) => readonly (readonly [Record<string, string>, number])[],
    labels: readonly string[] = [],
  ): void => {
    new Counter({
      name: `resilver_${name}`,
      help,
      labelNames: [...REPLICA_LABELS, ...labels],
      registers: [registry],
      collect() {
        this.reset();
        for (const counts of replicas.values()) {
          for (const [more, value] of values(counts))
            this.inc({ ...counts.labels, ...more }, value);
        }
      },
    });
  };
  counter(
    "not_member_rejections_total",
    "Data calls refused because this replica is no member (NODE_IS_NOT_MEMBER, 112).",
    ({ rejections }) => [[{}, rejections]],
  );
  counter(
    "storage_identity_mismatch_total",
    "New identities made because the cookies of the replica's directories differed.",
    ({ mismatches }) => [[{}, mismatches]],
  );
  counter(
    "recovery_bytes_total",
    "Snapshot content sent to and received from peers.",
    ({ bytes }) => Object.entries(bytes).map(([direction, count]) => [{ direction }, count]),
    ["direction"],
  );
}

type HistogramValues = Awaited<ReturnType<Histogram["get"]>>;

/** Histograms of several replicas, shown as one metric. */
class JoinedHistogram extends Histogram {
  readonly #empty: Histogram;
  readonly #parts: () => readonly (readonly [Record<string, string>, Histogram])[];

  constructor(
    shape: typeof FSYNC,
    registry: Registry,
    parts: () => readonly (readonly [Record<string, string>, Histogram])[],
  ) {
    super({ ...shape, labelNames: [...REPLICA_LABELS], registers: [registry] });
    this.#empty = new Histogram({ ...shape, registers: [] });
    this.#parts = parts;
  }

  override async get(): Promise<HistogramValues> {
    const values: HistogramValues["values"] = [];
    for (const [labels, part] of this.#parts()) {
      for (const value of (await part.get()).values) {
        values.push({ ...value, labels: { ...labels, ...value.labels } });
      }
    }
    return { ...(await this.#empty.get()), values };
  }

  /** What the registry asks for where a metric has it: the same. */
  getForPromString(): Promise<HistogramValues> {
    return this.get();
  }
}
