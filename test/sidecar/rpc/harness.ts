/** Real sockets on free ports around a fake runtime, and raw gRPC clients of the two services. */
import {
  Client,
  type ClientReadableStream,
  credentials,
  Metadata,
  type ServiceError,
} from "@grpc/grpc-js";
import type { Clock } from "../../../sidecar/lib/ports/clock.ts";
import { SILENT_LOGGER } from "../../../sidecar/lib/ports/logger.ts";
import { NO_METRICS } from "../../../sidecar/lib/ports/metrics.ts";
import { NodeClock } from "../../../sidecar/os/node-clock.ts";
import type { Peer } from "../../../sidecar/protocol/gen/resilver.ts";
import { LogReplicationService, type MethodDefinition } from "../../../sidecar/protocol/service.ts";
import { replicationService } from "../../../sidecar/rpc/replication-service.ts";
import { RpcServer } from "../../../sidecar/rpc/server.ts";
import { SidecarServers } from "../../../sidecar/rpc/sidecar-servers.ts";
import type { NodeRuntime } from "../../../sidecar/runtime/ports.ts";

/** Open servers with clients; `close` ends everything. */
export interface Harness {
  readonly servers: SidecarServers;
  readonly public: Client;
  readonly internal: Client;
  readonly internalAddress: string;
  readonly publicAddress: string;
  close(): Promise<void>;
}

/** Opens a sidecar's three ports on 127.0.0.1. */
export async function openHarness(
  runtime: NodeRuntime,
  clock: Clock = new NodeClock(),
): Promise<Harness> {
  const servers = await SidecarServers.open({
    publicAddress: "127.0.0.1:0",
    internalAddress: "127.0.0.1:0",
    metricsAddress: { host: "127.0.0.1", port: 0 },
    storeId: "store-1",
    version: "test",
    runtime,
    clock,
    logger: SILENT_LOGGER,
    metrics: { ...NO_METRICS, contentType: "text/plain", page: async () => "" },
  });
  const publicAddress = `127.0.0.1:${servers.ports.public}`;
  const internalAddress = `127.0.0.1:${servers.ports.internal}`;
  const publicClient = client(publicAddress);
  const internalClient = client(internalAddress);
  return {
    servers,
    public: publicClient,
    internal: internalClient,
    publicAddress,
    internalAddress,
    async close() {
      publicClient.close();
      internalClient.close();
      await servers.close(() => runtime.close());
    },
  };
}

/** Who opens the streams of these tests. */
export const PEER: Peer = {
  namespace: "default",
  shard: 0,
  term: 4,
  generation: 2,
  majorityHolds: true,
  leaderUid: "leader-uid",
  targetUid: "target-uid",
  storeId: "store-1",
};

/** All messages of a stream. Rejects with what it failed with. */
export async function drain<T>(messages: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const message of messages) all.push(message);
  return all;
}

/** A sidecar's internal port as builds served it that knew no framed calls. */
export async function openOlderServer(
  runtime: NodeRuntime,
  clock: Clock = new NodeClock(),
): Promise<{ readonly address: string; close(): Promise<void> }> {
  const context = { audience: "peer", clock, logger: SILENT_LOGGER, metrics: NO_METRICS } as const;
  const server = await RpcServer.listen({
    port: "internal",
    address: "127.0.0.1:0",
    clock,
    services: [
      { definition: LogReplicationService, handlers: replicationService(runtime, context) },
    ],
  });
  return { address: `127.0.0.1:${server.portNumber}`, close: () => server.close(100) };
}

function client(address: string): Client {
  return new Client(address, credentials.createInsecure(), {
    "grpc.use_local_subchannel_pool": 1,
    "grpc.max_receive_message_length": -1,
    "grpc.max_send_message_length": -1,
  });
}

/** Metadata with these entries. */
export function metadataOf(entries: Readonly<Record<string, string>>): Metadata {
  const metadata = new Metadata();
  for (const [key, value] of Object.entries(entries)) metadata.set(key, value);
  return metadata;
}

/** One unary call. Rejects with the ServiceError. */
export function callUnary<Request, Response>(
  from: Client,
  method: MethodDefinition<Request, Response>,
  request: Request,
  metadata: Metadata = new Metadata(),
): Promise<Response> {
  return new Promise((resolve, reject) => {
    from.makeUnaryRequest(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
      request,
      metadata,
      (error, response) => {
        if (error !== null) reject(error);
        else if (response !== undefined) resolve(response);
      },
    );
  });
}

/** Opens a server-streaming call. */
export function openStream<Request, Response>(
  from: Client,
  method: MethodDefinition<Request, Response>,
  request: Request,
  metadata: Metadata = new Metadata(),
): ClientReadableStream<Response> {
  return from.makeServerStreamRequest(
    method.path,
    method.requestSerialize,
    method.responseDeserialize,
    request,
    metadata,
  );
}

/** All messages of a server-streaming call. Rejects with the ServiceError. */
export async function collect<Request, Response>(
  from: Client,
  method: MethodDefinition<Request, Response>,
  request: Request,
  metadata: Metadata = new Metadata(),
): Promise<Response[]> {
  const messages: Response[] = [];
  for await (const message of openStream(from, method, request, metadata)) messages.push(message);
  return messages;
}

/** What a call failed with. */
export async function failure(call: Promise<unknown>): Promise<ServiceError> {
  try {
    await call;
  } catch (error) {
    return error as ServiceError;
  }
  throw new Error("the call succeeded");
}

/** Settles like `promise`, or rejects after `ms`: what must not hang, fails instead. */
export async function within<T>(promise: Promise<T>, ms: number = 5_000): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`nothing happened within ${ms} ms`)), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
