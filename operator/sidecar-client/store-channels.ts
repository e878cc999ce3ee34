import { Client, type ClientDuplexStream, connectivityState, Metadata } from "@grpc/grpc-js";
import type { MethodDefinition } from "../../sidecar/protocol/service.ts";
import { sidecarCredentials } from "./credentials.ts";
import { CallError, callErrorOf } from "./store-error.ts";

/** Bulk reads would crawl with gRPC's 64 KiB default (PERFORMANCE.md). */
const WINDOW_BYTES = 8 * 1024 * 1024;
/** The largest message either way: as the servers have it. */
export const MESSAGE_BYTES_MAX = 8 * 1024 * 1024;

const OPTIONS = {
  "grpc.max_receive_message_length": MESSAGE_BYTES_MAX,
  "grpc.max_send_message_length": MESSAGE_BYTES_MAX,
  "grpc-node.flow_control_window": WINDOW_BYTES,
  // A stopped process keeps its connections: only a missing answer to a ping tells.
  "grpc.keepalive_time_ms": 1_000,
  "grpc.keepalive_timeout_ms": 1_000,
  "grpc.keepalive_permit_without_calls": 0,
  // A pod that is made again has another address under its old name; the default asks again after
  // half a minute.
  "grpc.dns_min_time_between_resolutions_ms": 500,
  "grpc.initial_reconnect_backoff_ms": 20,
  "grpc.max_reconnect_backoff_ms": 500,
  "grpc.enable_retries": 0,
  "grpc.use_local_subchannel_pool": 1,
};

/** A server, and who waits for a connection to it. */
interface Server {
  readonly client: Client;
  readonly waiting: Set<() => void>;
  watched: boolean;
}

/** One connection per server, made when first needed. */
export class StoreChannels {
  private readonly servers = new Map<string, Server>();
  private readonly reachedAt: (address: string) => string;

  /** `reachedAt`: where a server is reached that names itself so. */
  constructor(reachedAt: (address: string) => string = (address) => address) {
    this.reachedAt = reachedAt;
  }

  /**
   * Calls a server-streaming rpc and yields its messages. Throws CallError. Leaving the loop, or
   * the signal, cancels the call.
   */
  async *serverStream<Request, Response>(
    address: string,
    method: MethodDefinition<Request, Response, false, true>,
    request: Request,
    signal: AbortSignal,
  ): AsyncGenerator<Response, void, void> {
    if (signal.aborted) throw new CallError("cancelled before the call", null, true);
    const call = this.server(address).client.makeServerStreamRequest(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
      request,
    );
    const cancel = () => call.cancel();
    signal.addEventListener("abort", cancel);
    try {
      for await (const message of call) yield message as Response;
    } catch (error) {
      throw callErrorOf(error);
    } finally {
      signal.removeEventListener("abort", cancel);
      call.cancel();
    }
  }

  /** Opens a stream of writes for one shard. */
  duplex<Request, Response>(
    address: string,
    method: MethodDefinition<Request, Response, true, true>,
    headers: Readonly<Record<string, string>>,
  ): ClientDuplexStream<Request, Response> {
    const metadata = new Metadata();
    for (const [name, value] of Object.entries(headers)) metadata.set(name, value);
    return this.server(address).client.makeBidiStreamRequest(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
      metadata,
    );
  }

  /**
   * Calls `connected` once there is a connection to the server, at once if there is one. It makes
   * none: calls do. Returns what ends the wait.
   */
  onceConnected(address: string, connected: () => void): () => void {
    const server = this.server(address);
    server.waiting.add(connected);
    if (!server.watched) watch(server);
    return () => server.waiting.delete(connected);
  }

  /** Drops the connections to servers that are not in `addresses`. */
  retain(addresses: ReadonlySet<string>): void {
    const kept = new Set([...addresses].map(this.reachedAt));
    for (const [address, { client }] of this.servers) {
      if (kept.has(address)) continue;
      this.servers.delete(address);
      client.close();
    }
  }

  close(): void {
    this.retain(new Set());
  }

  private server(name: string): Server {
    const address = this.reachedAt(name);
    let server = this.servers.get(address);
    if (server === undefined) {
      const client = new Client(address, sidecarCredentials("public"), OPTIONS);
      server = { client, waiting: new Set(), watched: false };
      this.servers.set(address, server);
    }
    return server;
  }
}

function watch(server: Server): void {
  const { client, waiting } = server;
  const channel = client.getChannel();
  const state = channel.getConnectivityState(false);
  server.watched = false;
  if (state === connectivityState.READY) {
    const all = [...waiting];
    waiting.clear();
    for (const connected of all) connected();
  } else if (state !== connectivityState.SHUTDOWN && waiting.size > 0) {
    server.watched = true;
    channel.watchConnectivityState(state, Number.POSITIVE_INFINITY, () => watch(server));
  }
}
