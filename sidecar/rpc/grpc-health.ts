/** grpc.health.v1 on a gRPC server: the process serves, whatever the state of its replicas. */
import type { Server } from "@grpc/grpc-js";
import type { HealthImplementation, ServingStatusMap } from "grpc-health-check";

/** The process as a whole, and each service that probes may ask for by name. */
const NAMES = [
  "",
  "io.oxia.proto.v1.OxiaClient",
  "resilver.v1.Coordination",
  "resilver.v1.LogReplication",
] as const;

/** One health state, served on any number of servers. */
export class GrpcHealth {
  #implementation: HealthImplementation | null = null;

  /** Adds the service. Loads its library only now: it parses a proto file, which start-up need not wait for. */
  async serve(servers: readonly Server[]): Promise<void> {
    const { HealthImplementation: Implementation } = await import("grpc-health-check");
    const statuses: ServingStatusMap = Object.fromEntries(NAMES.map((name) => [name, "SERVING"]));
    this.#implementation = new Implementation(statuses);
    for (const server of servers) this.#implementation.addToServer(server);
  }

  /** Tells probes and watchers that the process is ending. */
  stop(): void {
    for (const name of NAMES) this.#implementation?.setStatus(name, "NOT_SERVING");
  }
}
