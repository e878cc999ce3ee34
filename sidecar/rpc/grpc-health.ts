/**
 * grpc.health.v1 on the gRPC servers: the process serves, whatever the state of its replicas. Not
 * by the library of that name, which parses a proto file when it is loaded: a quarter of what a
 * start costs, just when a wiped replica is to be found and enrolled.
 */
import type {
  sendUnaryData,
  ServerUnaryCall,
  ServerWritableStream,
  ServiceError,
} from "@grpc/grpc-js";
import { Metadata, status as Code } from "@grpc/grpc-js";
import {
  type HealthCheckRequest,
  type HealthCheckResponse,
  HealthCheckResponse_ServingStatus as ServingStatus,
  type HealthListRequest,
  type HealthListResponse,
} from "../protocol/gen/health.ts";
import { HealthService } from "../protocol/service.ts";
import type { ServedService } from "./server.ts";

/** The process as a whole, and each service that probes may ask for by name. */
const NAMES: readonly string[] = [
  "",
  "io.oxia.proto.v1.OxiaClient",
  "resilver.v1.Coordination",
  "resilver.v1.LogReplication",
];

type Watcher = ServerWritableStream<HealthCheckRequest, HealthCheckResponse>;

/** One health state, served on any number of servers. */
export class GrpcHealth {
  #status: ServingStatus = ServingStatus.SERVING;
  readonly #watchers = new Set<Watcher>();

  /** For each server that is to answer. */
  readonly service: ServedService = {
    definition: HealthService,
    handlers: {
      check: (
        call: ServerUnaryCall<HealthCheckRequest, HealthCheckResponse>,
        answer: sendUnaryData<HealthCheckResponse>,
      ) => this.#check(call.request.service, answer),
      list: (
        _call: ServerUnaryCall<HealthListRequest, HealthListResponse>,
        answer: sendUnaryData<HealthListResponse>,
      ) => answer(null, this.#list()),
      watch: (call: Watcher) => this.#watch(call),
    },
  };

  /** Tells probes and watchers that the process is ending. */
  stop(): void {
    this.#status = ServingStatus.NOT_SERVING;
    for (const watcher of this.#watchers) watcher.write(this.#response());
  }

  #response(): HealthCheckResponse {
    return { status: this.#status };
  }

  #check(service: string, answer: sendUnaryData<HealthCheckResponse>): void {
    if (NAMES.includes(service)) answer(null, this.#response());
    else answer(unknownService(service));
  }

  #list(): HealthListResponse {
    return { statuses: Object.fromEntries(NAMES.map((name) => [name, this.#response()])) };
  }

  /** Open until the caller ends it. A name that is not known may become so, says the protocol. */
  #watch(call: Watcher): void {
    if (!NAMES.includes(call.request.service)) {
      call.write({ status: ServingStatus.SERVICE_UNKNOWN });
      return;
    }
    this.#watchers.add(call);
    call.once("cancelled", () => this.#watchers.delete(call));
    call.write(this.#response());
  }
}

function unknownService(service: string): Partial<ServiceError> {
  const details = `health is not known of ${JSON.stringify(service)}; of: ${NAMES.join(", ")}`;
  return { code: Code.NOT_FOUND, details, metadata: new Metadata() };
}
