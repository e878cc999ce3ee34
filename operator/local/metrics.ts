import { createServer, type Server } from "node:http";
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from "prom-client";
import type { CoordinatorEvent, CoordinatorEvents } from "../core/events.ts";
import type { ShardKey } from "../core/record.ts";
import type { ShardView } from "../core/status.ts";

const SHARD = ["store", "namespace", "shard"] as const;
const POD = [...SHARD, "pod"] as const;
/** Seconds: from a heartbeat to a large transfer. */
const BUCKETS = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1_800];

/**
 * The coordinator's metrics (DESIGN section 8): recoveries, elections and who votes. What a sidecar
 * knows of itself it emits itself, so that no sum counts twice.
 */
export class CoordinatorMetrics implements CoordinatorEvents {
  readonly registry = new Registry();
  private readonly storeId: string;
  private readonly started: Counter;
  private readonly completed: Counter;
  private readonly failed: Counter;
  private readonly deferred: Counter;
  private readonly phases: Histogram;
  private readonly elections: Readonly<Record<"started" | "completed" | "failed", Counter>>;
  private readonly electionSeconds: Histogram;

  /** `views` is asked at each scrape, so that a series ends with what it describes. */
  constructor(storeId: string, views: () => readonly ShardView[]) {
    this.storeId = storeId;
    collectDefaultMetrics({ register: this.registry });
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
    this.gauges(views);
  }

  /** @inheritDoc */
  emit(event: CoordinatorEvent): void {
    switch (event.kind) {
      case "recoveryStarted":
        this.started.inc({ ...this.pod(event), reason: event.reason });
        break;
      case "recoveryCompleted":
        this.completed.inc({ ...this.pod(event), reason: event.reason });
        break;
      case "recoveryFailed":
        this.failed.inc({ ...this.pod(event), reason: event.reason });
        break;
      case "recoveryDeferred":
        this.deferred.inc({ ...this.pod(event), gate: event.gate });
        break;
      case "recoveryPhase":
        this.phases.observe({ ...this.shard(event), phase: event.phase }, event.durationMs / 1_000);
        break;
      case "electionStarted":
        this.elections.started.inc(this.shard(event));
        break;
      case "electionCompleted":
        this.elections.completed.inc(this.shard(event));
        this.electionSeconds.observe(this.shard(event), event.durationMs / 1_000);
        break;
      case "electionFailed":
        this.elections.failed.inc(this.shard(event));
        break;
      default:
        break;
    }
  }

  private gauges(views: () => readonly ShardView[]): void {
    this.gauge("recovery_progress_ratio", "Bytes of the transfer done, 0 to 1", (gauge) => {
      for (const view of views()) {
        for (const { node, role, bytesDone, bytesTotal } of view.replicas) {
          if (role !== "learner") continue;
          const ratio = bytesTotal > 0 ? bytesDone / bytesTotal : 0;
          gauge.set({ ...this.shard(view), pod: node }, ratio);
        }
      }
    });
    this.gauge("replica_voter", "1 while the record counts the replica as a voter", (gauge) => {
      for (const view of views()) {
        for (const { node, role } of view.replicas) {
          const votes = role === "leader" || role === "voter";
          gauge.set({ ...this.shard(view), pod: node }, votes ? 1 : 0);
        }
      }
    });
  }

  private shard(key: ShardKey) {
    return { store: this.storeId, namespace: key.namespace, shard: String(key.shard) };
  }

  private pod(key: ShardKey & { readonly node: string }) {
    return { ...this.shard(key), pod: key.node };
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

  private gauge(name: string, help: string, fill: (gauge: Gauge) => void): void {
    const gauge: Gauge = new Gauge({
      name: `resilver_${name}`,
      help,
      labelNames: POD,
      registers: [this.registry],
      collect: () => {
        gauge.reset();
        fill(gauge);
      },
    });
  }
}

/** Serves `/metrics` and `/healthz` on a loopback port. */
export class MetricsServer {
  private readonly server: Server;

  constructor(registry: Registry) {
    this.server = createServer((request, response) => {
      if (request.url === "/healthz") {
        response.end("ok\n");
        return;
      }
      if (request.url !== "/metrics") {
        response.writeHead(404).end("not found; try /metrics or /healthz\n");
        return;
      }
      registry.metrics().then(
        (text) => response.writeHead(200, { "content-type": registry.contentType }).end(text),
        (error: unknown) => response.writeHead(500).end(`${String(error)}\n`),
      );
    });
  }

  /** Rejects with the system's error when the port is taken. */
  async listen(port: number): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.server.once("error", reject);
      this.server.listen(port, "127.0.0.1", resolve);
    });
  }

  async close(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.server.close(() => resolve());
      this.server.closeAllConnections();
    });
  }
}
