/**
 * Everything a sidecar listens with: the two gRPC ports and the HTTP port, opened and closed in
 * order.
 */
import type { Clock } from "../lib/ports/clock.ts";
import type { Logger } from "../lib/ports/logger.ts";
import type { MetricsRegistry } from "../observability/metrics.ts";
import { notReadyBecause } from "../observability/readiness.ts";
import {
  CoordinationService,
  LogReplicationService,
  underReleasedName,
} from "../protocol/service.ts";
import type { NodeRuntime } from "../runtime/ports.ts";
import { Assignments } from "./assignments.ts";
import { coordinationService, framedCoordination } from "./coordination-service.ts";
import { GrpcHealth } from "./grpc-health.ts";
import type { HandlerContext } from "./handlers.ts";
import { type HealthServer, openHealthServer } from "./health-server.ts";
import { publicService, PublicServiceDefinition } from "./public-service.ts";
import { framedReplication, replicationService } from "./replication-service.ts";
import { ReadMemory } from "./read-memory.ts";
import { RpcServer, type ServedService } from "./server.ts";
import type { Audience } from "./status-map.ts";

/** What the servers are made of. Addresses are host:port; port 0 takes any free one. */
export interface SidecarServersOptions {
  readonly publicAddress: string;
  readonly internalAddress: string;
  readonly metricsAddress: { readonly host: string; readonly port: number };
  /** Empty: any store. */
  readonly storeId: string;
  readonly version: string;
  readonly runtime: NodeRuntime;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: MetricsRegistry;
}

/** How long clients' calls in flight may take once the process stops. */
const PUBLIC_GRACE_MS = 1_500;
/** Peers' streams have ended with the runtime by then. */
const INTERNAL_GRACE_MS = 250;

/** See the file's header. */
export class SidecarServers {
  readonly assignments: Assignments;
  readonly #public: RpcServer;
  readonly #internal: RpcServer;
  readonly #http: HealthServer;
  readonly #health: GrpcHealth;
  readonly #stopping: AbortController;

  private constructor(parts: {
    readonly assignments: Assignments;
    readonly publicServer: RpcServer;
    readonly internalServer: RpcServer;
    readonly http: HealthServer;
    readonly health: GrpcHealth;
    readonly stopping: AbortController;
  }) {
    this.assignments = parts.assignments;
    this.#public = parts.publicServer;
    this.#internal = parts.internalServer;
    this.#http = parts.http;
    this.#health = parts.health;
    this.#stopping = parts.stopping;
  }

  /** Rejects with ListenError, with nothing left open. */
  static async open(options: SidecarServersOptions): Promise<SidecarServers> {
    const { runtime, clock, metrics } = options;
    const assignments = new Assignments();
    const stopping = new AbortController();
    const health = new GrpcHealth();
    const shared: Shared = { ...options, assignments, stopping: stopping.signal };
    const internalServer = await RpcServer.listen({
      port: "internal",
      address: options.internalAddress,
      clock,
      services: [...internalServices(shared), health.service],
      framed: {
        ...framedReplication(runtime, contextFor(shared, "peer")),
        ...framedCoordination({ ...shared, context: contextFor(shared, "peer") }),
      },
    });
    let publicServer: RpcServer | null = null;
    try {
      publicServer = await RpcServer.listen({
        port: "public",
        address: options.publicAddress,
        clock,
        services: [...publicServices(shared), health.service],
      });
      const http = await openHealthServer(options.metricsAddress, {
        notReadyBecause: () =>
          stopping.signal.aborted
            ? "shutting down"
            : notReadyBecause({
                replicas: runtime.status().replicas,
                leftAlone: runtime.leftAlone(),
                coordinatorReached: assignments.latest !== null,
              }),
        contentType: metrics.contentType,
        metricsPage: () => metrics.page(),
      });
      return new SidecarServers({
        assignments,
        publicServer,
        internalServer,
        http,
        health,
        stopping,
      });
    } catch (error) {
      await Promise.all([publicServer?.close(0), internalServer.close(0)]);
      throw error;
    }
  }

  /** The ports that are listened on. */
  get ports(): { readonly public: number; readonly internal: number; readonly metrics: number } {
    return {
      public: this.#public.portNumber,
      internal: this.#internal.portNumber,
      metrics: this.#http.portNumber,
    };
  }

  /**
   * Ends long-lived streams, lets clients' calls in flight finish, then `closeRuntime` (which ends
   * peers' streams and syncs), then the rest.
   */
  async close(closeRuntime: () => Promise<void>): Promise<void> {
    this.#health.stop();
    this.#stopping.abort();
    await this.#public.close(PUBLIC_GRACE_MS);
    await closeRuntime();
    await this.#internal.close(INTERNAL_GRACE_MS);
    await this.#http.close();
  }
}

interface Shared extends SidecarServersOptions {
  readonly assignments: Assignments;
  readonly stopping: AbortSignal;
}

function contextFor(shared: Shared, audience: Audience): HandlerContext {
  const { clock, logger, metrics } = shared;
  return { audience, clock, logger, metrics };
}

function internalServices(shared: Shared): readonly ServedService[] {
  const context = contextFor(shared, "peer");
  return [
    { definition: CoordinationService, handlers: coordinationService({ ...shared, context }) },
    { definition: LogReplicationService, handlers: replicationService(shared.runtime, context) },
  ];
}

function publicServices(shared: Shared): readonly ServedService[] {
  const reads = new ReadMemory(shared.clock);
  const handlers = (audience: Audience): ServedService["handlers"] =>
    publicService({ ...shared, reads, context: contextFor(shared, audience) });
  return [
    { definition: PublicServiceDefinition, handlers: handlers("public") },
    { definition: underReleasedName(PublicServiceDefinition), handlers: handlers("released") },
  ];
}
