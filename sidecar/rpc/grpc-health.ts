/** grpc.health.v1 on the gRPC servers: the process serves, whatever the state of its replicas. */
import type { Server } from "@grpc/grpc-js";
import type { HealthImplementation, ServingStatusMap } from "grpc-health-check";
import type { Clock } from "../lib/ports/clock.ts";

/** The process as a whole, and each service that probes may ask for by name. */
const NAMES = [
  "",
  "io.oxia.proto.v1.OxiaClient",
  "resilver.v1.Coordination",
  "resilver.v1.LogReplication",
] as const;

/**
 * The library parses a proto file when it is loaded, which takes a tenth of the whole start-up.
 * Probes come later than the first election, so they wait for it instead.
 */
const LOAD_DELAY_MS = 100;

/** One health state, served on any number of servers. */
export class GrpcHealth {
  #implementation: HealthImplementation | null = null;
  #status: "SERVING" | "NOT_SERVING" = "SERVING";
  /** Resolves when the servers answer health checks, or were stopped before. */
  readonly ready: Promise<void>;
  #stopped: () => void = () => {};

  constructor(servers: readonly Server[], clock: Clock) {
    this.ready = new Promise((resolve, reject) => {
      const timer = clock.timer(LOAD_DELAY_MS, () => {
        this.#serve(servers).then(resolve, reject);
      });
      this.#stopped = () => {
        timer.cancel();
        resolve();
      };
    });
  }

  /** Tells probes and watchers that the process is ending. */
  stop(): void {
    this.#status = "NOT_SERVING";
    if (this.#implementation === null) this.#stopped();
    for (const name of NAMES) this.#implementation?.setStatus(name, this.#status);
  }

  async #serve(servers: readonly Server[]): Promise<void> {
    const { HealthImplementation: Implementation } = await import("grpc-health-check");
    const statuses: ServingStatusMap = Object.fromEntries(
      NAMES.map((name) => [name, this.#status]),
    );
    this.#implementation = new Implementation(statuses);
    for (const server of servers) this.#implementation.addToServer(server);
  }
}
