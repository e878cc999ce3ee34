/** Metrics of the operator itself, under the names that stock dashboards of controllers know. */
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from "prom-client";
import type { ReconcileOutcome } from "./reconcile-loop.ts";
import type { QueueObserver } from "./workqueue.ts";

const CONTROLLER = "replicatedstore";
/** Seconds: from a cache hit to a slow API server. */
const BUCKETS = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 60];

/** What is asked at each scrape. */
export interface OperatorGauges {
  depth(): number;
  longestWorkMs(): number;
  unfinishedWorkMs(): number;
  /** Keys worked on now, and at most. */
  activeWorkers(): number;
  readonly workers: number;
  leads(): boolean;
}

/** See the file's header. */
export class OperatorMetrics {
  readonly registry = new Registry();
  readonly #requests: Counter;
  readonly #reconciles: Counter;
  readonly #errors: Counter;
  readonly #seconds: Histogram;
  readonly #adds: Counter;
  readonly #retries: Counter;
  readonly #queueSeconds: Histogram;
  readonly #workSeconds: Histogram;

  constructor() {
    const registers = [this.registry];
    collectDefaultMetrics({ register: this.registry });
    const counter = (name: string, help: string, labelNames: readonly string[]): Counter =>
      new Counter({ name, help, labelNames, registers });
    const histogram = (name: string, help: string, labelNames: readonly string[]): Histogram =>
      new Histogram({ name, help, labelNames, buckets: BUCKETS, registers });
    this.#requests = counter("rest_client_requests_total", "Requests to the API server", [
      "method",
      "code",
    ]);
    this.#reconciles = counter("controller_runtime_reconcile_total", "Reconciles by outcome", [
      "controller",
      "result",
    ]);
    this.#errors = counter("controller_runtime_reconcile_errors_total", "Failed reconciles", [
      "controller",
    ]);
    this.#seconds = histogram("controller_runtime_reconcile_time_seconds", "Time of a reconcile", [
      "controller",
    ]);
    this.#adds = counter("workqueue_adds_total", "Keys added", ["name"]);
    this.#retries = counter("workqueue_retries_total", "Keys added after a failure", ["name"]);
    this.#queueSeconds = histogram("workqueue_queue_duration_seconds", "Wait for a worker", [
      "name",
    ]);
    this.#workSeconds = histogram("workqueue_work_duration_seconds", "Work on a key", ["name"]);
  }

  /** Adds what is asked at each scrape. */
  watch(gauges: OperatorGauges): void {
    const gauge = (name: string, help: string, label: string, value: () => number): void => {
      const made: Gauge = new Gauge({
        name,
        help,
        labelNames: [label],
        registers: [this.registry],
        collect: () => made.set({ [label]: label === "controller" ? CONTROLLER : NAME }, value()),
      });
    };
    gauge("workqueue_depth", "Keys that wait", "name", () => gauges.depth());
    gauge(
      "workqueue_longest_running_processor_seconds",
      "The longest of the present works",
      "name",
      () => gauges.longestWorkMs() / 1_000,
    );
    gauge(
      "workqueue_unfinished_work_seconds",
      "Time of the present works, all together",
      "name",
      () => gauges.unfinishedWorkMs() / 1_000,
    );
    gauge("controller_runtime_active_workers", "Keys that are worked on", "controller", () =>
      gauges.activeWorkers(),
    );
    gauge(
      "controller_runtime_max_concurrent_reconciles",
      "Keys that may be worked on at once",
      "controller",
      () => gauges.workers,
    );
    gauge("leader_election_master_status", "1 while this process leads", "name", () =>
      gauges.leads() ? 1 : 0,
    );
  }

  /** A request to the API server was answered, or failed. */
  request(method: string, code: string): void {
    this.#requests.inc({ method, code });
  }

  /** A reconcile has ended. */
  reconciled(result: ReconcileOutcome): void {
    this.#reconciles.inc({ controller: CONTROLLER, result });
    if (result === "error") this.#errors.inc({ controller: CONTROLLER });
  }

  /** What a queue is to tell. */
  readonly queue: QueueObserver = {
    added: () => this.#adds.inc({ name: NAME }),
    taken: (_depth, waitedMs) => this.#queueSeconds.observe({ name: NAME }, waitedMs / 1_000),
    done: (workedMs) => {
      this.#workSeconds.observe({ name: NAME }, workedMs / 1_000);
      this.#seconds.observe({ controller: CONTROLLER }, workedMs / 1_000);
    },
    retried: () => this.#retries.inc({ name: NAME }),
  };
}

/** Name of the queue, and of the Lease as metrics know it. */
const NAME = "resilver";
