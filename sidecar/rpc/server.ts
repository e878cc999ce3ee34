/**
 * A gRPC server on one port: limits, flow-control windows, health, and a shutdown with a deadline.
 */
import type { Http2Server, ServerHttp2Session } from "node:http2";
import {
  logVerbosity,
  Server,
  type ServiceDefinition,
  setLogVerbosity,
  type UntypedServiceImplementation,
} from "@grpc/grpc-js";
import type { Clock } from "../lib/ports/clock.ts";
import { LIMITS } from "../limits.ts";
import { type Port, serverCredentials } from "./credentials.ts";
import { type FramedHandlers, serveFramedCalls } from "./framed-server.ts";

/** A service's definition with the handlers of each of its methods. */
export interface ServedService {
  readonly definition: Readonly<Record<string, object>>;
  readonly handlers: Readonly<Record<string, (call: never, answer: never) => void>>;
}

/** What to serve where. */
export interface RpcServerOptions {
  readonly port: Port;
  /** host:port to listen on; port 0 takes any free one. */
  readonly address: string;
  readonly services: readonly ServedService[];
  readonly clock: Clock;
  /** Take framed calls, which then are served on the same port. */
  readonly framed?: FramedHandlers;
}

/** The address cannot be listened on. The message names it, and what to do. */
export class ListenError extends Error {
  override readonly name = "ListenError";
}

/**
 * How soon a broken connection is noticed: peers within R4's silence, clients with less traffic.
 */
const KEEPALIVE_MS = { public: 10_000, internal: LIMITS.peerTimeoutMs / 2 } as const;

/** One listening gRPC server. */
export class RpcServer {
  readonly #server: Server;
  readonly #clock: Clock;
  /** The port that is listened on. */
  readonly portNumber: number;
  readonly #endFramed: () => void;

  private constructor(server: Server, portNumber: number, clock: Clock, endFramed: () => void) {
    this.#server = server;
    this.portNumber = portNumber;
    this.#clock = clock;
    this.#endFramed = endFramed;
  }

  /** Rejects with {@link ListenError}. */
  static async listen(options: RpcServerOptions): Promise<RpcServer> {
    // The library would print lines of its own to standard error; every failure is told to its
    // caller.
    setLogVerbosity(logVerbosity.NONE);
    const server = new Server({
      "grpc.max_receive_message_length": LIMITS.messageBytesMax,
      "grpc.max_send_message_length": LIMITS.messageBytesMax,
      "grpc.max_concurrent_streams": LIMITS.streamsPerConnectionMax,
      "grpc.keepalive_time_ms": KEEPALIVE_MS[options.port],
      "grpc.keepalive_timeout_ms": KEEPALIVE_MS[options.port],
      "grpc.enable_channelz": 0,
    });
    widenStreamWindows(server);
    for (const service of options.services) {
      // The library's types want functions with any-typed calls; each handler is typed where it is
      // made.
      server.addService(
        service.definition as ServiceDefinition,
        service.handlers as unknown as UntypedServiceImplementation,
      );
    }
    const portNumber = await bind(server, options);
    widenSessionWindows(server);
    const endFramed = serveFramed(server, options);
    return new RpcServer(server, portNumber, options.clock, endFramed);
  }

  /** Accepts nothing more, waits for calls in flight up to `graceMs`, then ends them. */
  async close(graceMs: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = this.#clock.timer(graceMs, () => {
        this.#endFramed();
        this.#server.forceShutdown();
      });
      this.#server.tryShutdown(() => {
        timer.cancel();
        resolve();
      });
    });
  }
}

function bind(server: Server, options: RpcServerOptions): Promise<number> {
  return new Promise((resolve, reject) => {
    server.bindAsync(options.address, serverCredentials(options.port), (error, port) => {
      if (error === null) resolve(port);
      else reject(new ListenError(explainListen(options, error.message), { cause: error }));
    });
  });
}

function explainListen(options: RpcServerOptions, message: string): string {
  const field = `${options.port}Address`;
  if (message.includes("EADDRINUSE")) {
    return `${field} ${options.address} is in use by another process; allowed: a free port, or 0`;
  }
  return `${field} ${options.address} cannot be listened on: ${message}`;
}

/**
 * The library has an option for the client's HTTP/2 windows and none for the server's, whose
 * default of 64 KiB costs bulk streams a factor of 3 to 5. These two reach into its fields; when an
 * upgrade moves them nothing breaks but the speed, which a test watches.
 */
function widenStreamWindows(server: Server): void {
  const options: unknown = Reflect.get(server, "commonServerOptions");
  if (typeof options !== "object" || options === null) return;
  const settings: unknown = Reflect.get(options, "settings");
  Reflect.set(options, "settings", {
    ...(typeof settings === "object" ? settings : {}),
    initialWindowSize: LIMITS.http2WindowBytes,
  });
}

function widenSessionWindows(server: Server): void {
  for (const http2Server of listeningServers(server)) {
    http2Server.on("session", (session: ServerHttp2Session) => {
      session.setLocalWindowSize(LIMITS.http2WindowBytes);
    });
  }
}

/** Without handlers, or where the library keeps its servers elsewhere, all goes by gRPC. */
function serveFramed(server: Server, { framed, clock }: RpcServerOptions): () => void {
  if (framed === undefined) return () => undefined;
  const ends = listeningServers(server).map((one) => serveFramedCalls(one, clock, framed));
  return () => ends.forEach((end) => end());
}

function listeningServers(server: Server): readonly Http2Server[] {
  const servers: unknown = Reflect.get(server, "http2Servers");
  return servers instanceof Map ? [...(servers.keys() as Iterable<Http2Server>)] : [];
}
