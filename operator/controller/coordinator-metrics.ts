import { Counter, Gauge, Histogram, type Registry } from "prom-client";
import type { CoordinatorEvent } from "../core/events.ts";
import type { ShardKey } from "../core/record.ts";
import { entriesHeld, type ShardView } from "../core/status.ts";

const SHARD = ["store", "namespace", "shard"] as const;
const POD = [...SHARD, "pod"] as const;
/**
 * Not `namespace`, which is that of keys, nor `kubernetes_namespace`: by that the monitors say
 * where what they scrape runs, here the operator. `store_name` is what the PodMonitor says, too.
 */
const INFO = ["store", "store_namespace", "store_name"] as const;
/** Seconds: from a heartbeat to a large transfer. */
const BUCKETS = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1_800];

/** What is asked of a store at each scrape. */
export interface StoreViews {
  readonly storeId: string;
  readonly views: readonly ShardView[];
  /** What people call it; absent where nobody named it. */
  readonly called?: { readonly namespace: string; readonly name: string };
}

/**
 * The coordinators' metrics (DESIGN section 8): recoveries, elections and who votes, for all stores
 * of a process. What a sidecar knows of itself it emits itself, so that no sum counts twice.
 */
export class CoordinatorMetrics {
  private readonly registry: Registry;
  /** Label sets of each store's counters, to end them with it. */
  private readonly series = new Map<string, Map<Counter | Histogram, Map<string, Labels>>>();
  private readonly started: Counter;
  private readonly completed: Counter;
  private readonly failed: Counter;
  private readonly deferred: Counter;
  private readonly phases: Histogram;
  private readonly elections: Readonly<Record<"started" | "completed" | "failed", Counter>>;
  private readonly electionSeconds: Histogram;

  /** `stores` is asked at each scrape, so that a series ends with what it describes. */
  constructor(registry: Registry, stores: () => Iterable<StoreViews>) {
    this.registry = registry;
    this.started = this.counter("recovery_started_total", "Recoveries begun", [...POD, "reason"]);
    this.completed = this.counter("recovery_completed_total", "Recoveries that ended with a vote", [
      ...POD,
      "reason",
    ]);
    this.failed = this.counter("recovery_failed_total", "Recoveries that were given up", [
      ...POD,
      "reason",
    ]);
    this.deferred = this.counter("recovery_deferred_total", "Times a gate held a recovery back", [
      ...POD,
      "gate",
    ]);
    this.phases = this.histogram("recovery_duration_seconds", "Duration of a recovery's phases", [
      ...SHARD,
      "phase",
    ]);
    this.elections = {
      started: this.counter("election_started_total", "Elections begun", SHARD),
      completed: this.counter("election_completed_total", "Elections that gave a leader", SHARD),
      failed: this.counter("election_failed_total", "Elections without a leader", SHARD),
    };
    this.electionSeconds = this.histogram(
      "election_duration_seconds",
      "Duration of elections that gave a leader",
      SHARD,
    );
    this.gauges(stores);
  }

  /** Counts what the coordinator of a store told. */
  count(storeId: string, event: CoordinatorEvent): void {
    switch (event.kind) {
      case "recoveryStarted":
        this.add(this.started, storeId, event, { pod: event.node, reason: event.reason });
        break;
      case "recoveryCompleted":
        this.add(this.completed, storeId, event, { pod: event.node, reason: event.reason });
        break;
      case "recoveryFailed":
        this.add(this.failed, storeId, event, { pod: event.node, reason: event.reason });
        break;
      case "recoveryDeferred":
        this.add(this.deferred, storeId, event, { pod: event.node, gate: event.gate });
        break;
      case "recoveryPhase":
        this.observe(this.phases, storeId, event, { phase: event.phase });
        break;
      case "electionStarted":
        this.add(this.elections.started, storeId, event);
        break;
      case "electionCompleted":
        this.add(this.elections.completed, storeId, event);
        this.observe(this.electionSeconds, storeId, event);
        break;
      case "electionFailed":
        this.add(this.elections.failed, storeId, event);
        break;
      default:
        break;
    }
  }

  /** Ends the series of a store that this process looks after no longer. */
  forget(storeId: string): void {
    for (const [metric, series] of this.series.get(storeId) ?? []) {
      for (const labels of series.values()) metric.remove(labels);
    }
    this.series.delete(storeId);
  }

  private add(metric: Counter, storeId: string, key: ShardKey, more: object = {}): void {
    metric.inc(this.labels(metric, storeId, key, more));
  }

  private observe(
    metric: Histogram,
    storeId: string,
    event: ShardKey & { readonly durationMs: number },
    more: object = {},
  ): void {
    metric.observe(this.labels(metric, storeId, event, more), event.durationMs / 1_000);
  }

  private labels(metric: Counter | Histogram, storeId: string, key: ShardKey, more: object) {
    const labels = { ...shardLabels(storeId, key), ...more };
    const known = this.series.get(storeId) ?? new Map<Counter | Histogram, Map<string, Labels>>();
    this.series.set(storeId, known);
    const series = known.get(metric) ?? new Map<string, Labels>();
    known.set(metric, series.set(JSON.stringify(labels), labels));
    return labels;
  }

  private gauges(stores: () => Iterable<StoreViews>): void {
    // All gauges of a scrape are asked in one turn: what they are asked about is put together once.
    let asked: readonly StoreViews[] | null = null;
    const all = (): readonly StoreViews[] => {
      if (asked === null) queueMicrotask(() => (asked = null));
      asked ??= [...stores()];
      return asked;
    };
    const each = (look: (labels: Labels, replica: ShardView["replicas"][number]) => void): void => {
      for (const { storeId, views } of all()) {
        for (const view of views) {
          for (const replica of view.replicas) {
            look({ ...shardLabels(storeId, view), pod: replica.node }, replica);
          }
        }
      }
    };
    const progress = "Done of a rebuild, 0 to 1: bytes of the snapshot, without one entries";
    this.gauge("recovery_progress_ratio", progress, POD, (gauge) => {
      each((labels, replica) => {
        if (replica.role !== "learner") return;
        const { bytesDone, bytesTotal } = replica;
        const { done, total } = entriesHeld(replica) ?? { done: bytesDone, total: bytesTotal };
        gauge.set(labels, total > 0 ? done / total : 0);
      });
    });
    this.gauge("replica_voter", "1 while the record counts the replica as a voter", POD, (gauge) =>
      each((labels, { role }) => {
        gauge.set(labels, role === "leader" || role === "voter" ? 1 : 0);
      }),
    );
    this.gauge(
      "store_info",
      "Always 1: the store's namespace in Kubernetes, and name",
      INFO,
      (gauge) => {
        for (const { storeId, called } of all()) {
          if (called === undefined) continue;
          const { namespace, name } = called;
          gauge.set({ store: storeId, store_namespace: namespace, store_name: name }, 1);
        }
      },
    );
    const held = [...POD, "gate"];
    this.gauge("recovery_deferred", "1 while a gate holds the recovery back", held, (gauge) =>
      each((labels, { phase }) => {
        const gate = /^Deferred\((\w+)\)$/u.exec(phase)?.[1];
        if (gate !== undefined) gauge.set({ ...labels, gate }, 1);
      }),
    );
  }

  private counter(name: string, help: string, labelNames: readonly string[]): Counter {
    return new Counter({ name: `resilver_${name}`, help, labelNames, registers: [this.registry] });
  }

  private histogram(name: string, help: string, labelNames: readonly string[]): Histogram {
    return new Histogram({
      name: `resilver_${name}`,
      help,
      labelNames,
      buckets: BUCKETS,
      registers: [this.registry],
    });
  }

  private gauge(
    name: string,
    help: string,
    labelNames: readonly string[],
    fill: (gauge: Gauge) => void,
  ): void {
    const gauge: Gauge = new Gauge({
      name: `resilver_${name}`,
      help,
      labelNames,
      registers: [this.registry],
      collect: () => {
        gauge.reset();
        fill(gauge);
      },
    });
  }
}

type Labels = Readonly<Record<string, string>>;

/** The labels of all that belongs to a shard; `namespace` is the store's, not Kubernetes'. */
function shardLabels(storeId: string, { namespace, shard }: ShardKey): Labels {
  return { store: storeId, namespace, shard: String(shard) };
}
