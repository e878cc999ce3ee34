/** The operator: caches, queue, reconciler, Lease, events, pages, put together and owned. */
import type { KubeConfig } from "@kubernetes/client-node";
import type { Clock } from "../../sidecar/lib/ports/clock.ts";
import type { Logger } from "../../sidecar/lib/ports/logger.ts";
import type { NodeEndpoint, SidecarClient } from "../controller/ports.ts";
import { childAbort } from "../controller/wake.ts";
import { ApiClient } from "./api-client.ts";
import { ApiTransport } from "./api-transport.ts";
import { EventRecorder } from "./event-recorder.ts";
import { servePages, type Page, type PageServer } from "./http-pages.ts";
import { LeaseElector } from "./lease-elector.ts";
import type { KubeLimits } from "./limits.ts";
import { leaseAnnotations } from "./other-leases.ts";
import { CoordinatorMetrics } from "../controller/coordinator-metrics.ts";
import { OperatorMetrics } from "./operator-metrics.ts";
import { runReconcileLoop } from "./reconcile-loop.ts";
import { StoreCaches } from "./store-caches.ts";
import { StoreReconciler } from "./store-reconciler.ts";
import { Workqueue } from "./workqueue.ts";

/** Who the operator's fields and Events belong to. */
const OPERATOR_NAME = "resilver-operator";

/** What an operator is made of. */
export interface OperatorOptions {
  readonly config: KubeConfig;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly random: () => number;
  readonly sidecars: SidecarClient;
  readonly version: string;
  /** Of this process, unique. */
  readonly identity: string;
  /** Stores of these namespaces only; null: of all. */
  readonly namespaces: readonly string[] | null;
  /** Where the Lease is, and its name: processes with the same one take turns. */
  readonly leaseNamespace: string;
  readonly leaseName: string;
  /** Image of the sidecar where a store names none. */
  readonly image: string;
  readonly healthPort: number;
  readonly metricsPort: number;
  /** Stores that are looked at at the same time. */
  readonly workers: number;
  readonly limits?: Partial<KubeLimits>;
  /** Where pods are reached, when that is not by their names and addresses in the cluster. */
  readonly endpoint?: (namespace: string, node: string) => NodeEndpoint;
}

/** How soon a store is looked at after its coordinator saw something change. */
const TOUCH_MS = 100;

/** See the file's header. */
export class Operator {
  readonly #options: OperatorOptions;
  readonly #metrics = new OperatorMetrics();
  readonly #coordinators = new CoordinatorMetrics(
    this.#metrics.registry,
    () => this.#reconciler?.stores() ?? [],
  );
  /** While this process leads. */
  #reconciler: StoreReconciler | null = null;
  readonly #transport: ApiTransport;
  readonly #client: ApiClient;
  readonly #queue: Workqueue;
  readonly #caches: StoreCaches;
  readonly #elector: LeaseElector;
  readonly #events: EventRecorder;
  /** Ends everything at a broken invariant. */
  readonly #broken = new AbortController();

  constructor(options: OperatorOptions) {
    const { config, clock, logger, version, identity, namespaces, random, limits } = options;
    this.#options = options;
    this.#transport = new ApiTransport({
      config,
      clock,
      userAgent: `${OPERATOR_NAME}/${version}`,
      observe: (method, code) => this.#metrics.request(method, code),
    });
    const client = new ApiClient(this.#transport, OPERATOR_NAME);
    this.#client = client;
    this.#queue = new Workqueue(clock, this.#metrics.queue);
    const given = limits === undefined ? {} : { limits };
    this.#caches = new StoreCaches({
      client,
      namespaces,
      clock,
      random,
      logger,
      touched: (key) => this.#queue.add(key),
      ...given,
    });
    this.#events = new EventRecorder({
      client,
      clock,
      logger,
      controller: `resilver.io/${OPERATOR_NAME}`,
      instance: identity,
      ...given,
    });
    this.#elector = new LeaseElector({
      client,
      namespace: options.leaseNamespace,
      name: options.leaseName,
      identity,
      clock,
      logger,
      annotations: leaseAnnotations(namespaces),
      ...given,
    });
    this.#metrics.watch({
      depth: () => this.#queue.depth,
      longestWorkMs: () => this.#queue.longestWorkMs,
      unfinishedWorkMs: () => this.#queue.unfinishedWorkMs,
      activeWorkers: () => this.#queue.active,
      workers: options.workers,
      leads: () => this.#elector.leads,
    });
  }

  /** True while this process is the active one. */
  get leads(): boolean {
    return this.#elector.leads;
  }

  /**
   * Runs until the signal aborts (`stopped`) or the Lease is lost (`lost`: the process must end).
   * Rejects when an invariant broke, or a port cannot be listened on.
   */
  async run(signal: AbortSignal): Promise<"stopped" | "lost"> {
    const servers = await this.#serve();
    const { controller, unlink } = childAbort(signal);
    const broken = (): void => controller.abort(this.#broken.signal.reason);
    this.#broken.signal.addEventListener("abort", broken, { once: true });
    // Caches are warm before this process leads: a successor begins at once.
    const caches = this.#caches.run(controller.signal).catch((error: unknown) => {
      this.#broken.abort(error);
    });
    try {
      const end = await this.#elector.run(controller.signal, (leading) => this.#lead(leading));
      if (this.#broken.signal.aborted) throw this.#broken.signal.reason;
      return end;
    } finally {
      unlink();
      controller.abort(new Error("the operator ends"));
      await caches;
      await Promise.all(servers.map((server) => server.close()));
      this.#transport.close();
    }
  }

  async #lead(signal: AbortSignal): Promise<void> {
    const { logger, clock, random, sidecars, image, workers, endpoint, limits } = this.#options;
    const { leaseNamespace, leaseName } = this.#options;
    const reconciler = new StoreReconciler({
      client: this.#client,
      caches: this.#caches,
      sidecars,
      clock,
      events: this.#events,
      metrics: this.#coordinators,
      logger,
      image,
      lease: { namespace: leaseNamespace, name: leaseName },
      touched: (key) => this.#queue.addAfter(key, TOUCH_MS),
      hasNews: (key) => this.#queue.hasNews(key),
      broken: (error) => this.#broken.abort(error),
      ...(endpoint === undefined ? {} : { endpoint }),
      ...(limits === undefined ? {} : { limits }),
    });
    this.#reconciler = reconciler;
    const events = this.#events.run(signal);
    try {
      await this.#caches.whenSynced(signal);
      await runReconcileLoop(
        {
          queue: this.#queue,
          reconcile: (key, stop) => reconciler.reconcile(key, stop),
          workers,
          logger,
          clock,
          random,
          observe: (outcome) => this.#metrics.reconciled(outcome),
        },
        signal,
      );
    } catch (error) {
      if (!signal.aborted) throw error;
    } finally {
      this.#queue.close();
      await reconciler.close();
      this.#reconciler = null;
      await events;
    }
  }

  async #serve(): Promise<readonly PageServer[]> {
    const { healthPort, metricsPort, logger } = this.#options;
    const { registry } = this.#metrics;
    const health = await servePages(healthPort, {
      "/healthz": () => ({ status: 200, body: "ok\n" }),
      "/readyz": () => this.#ready(),
    });
    try {
      const metrics = await servePages(metricsPort, {
        "/metrics": async () => ({
          status: 200,
          body: await registry.metrics(),
          contentType: registry.contentType,
        }),
      });
      // With port 0 nobody would know else.
      logger.info("serving", { healthPort: health.port, metricsPort: metrics.port });
      return [health, metrics];
    } catch (error) {
      await health.close();
      throw error;
    }
  }

  /** Ready to lead: everything was listed, and is followed. */
  #ready(): Page {
    const { unlisted, interrupted } = this.#caches;
    if (unlisted.length > 0) {
      return { status: 503, body: `not ready: not listed yet: ${unlisted.join(", ")}\n` };
    }
    if (interrupted.length === 0) return { status: 200, body: "ok\n" };
    return { status: 503, body: `not ready: not followed: ${interrupted.join(", ")}\n` };
  }
}
