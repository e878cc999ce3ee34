/**
 * Calls to sidecars. What is asked once goes over gRPC, one channel per node, closed when it was
 * not used for a while. The two streams that stay open for as long as a pod lives go in frames,
 * over a connection each, at less than half the memory (the sidecar's ARCHITECTURE.md, D10); over
 * gRPC to a sidecar that takes no frames. An AbortSignal becomes a cancelled call, a refusal
 * becomes a ProtocolError, all else a CallFailed.
 */
import { connect } from "node:net";
import {
  Client,
  Metadata,
  status,
  type CallOptions as GrpcCallOptions,
  type ClientReadableStream,
  type ServiceError,
} from "@grpc/grpc-js";
import type { Clock, Timer } from "../../sidecar/lib/ports/clock.ts";
import type { DuplexCall } from "../../sidecar/lib/ports/duplex-call.ts";
import { DETAILS_KEY, refusalOf } from "../../sidecar/protocol/error-detail.ts";
import { ProtocolError } from "../../sidecar/protocol/errors.ts";
import { FramedCaller } from "../../sidecar/protocol/framed-caller.ts";
import { ASSIGNMENTS_CALL, WATCH_CALL } from "../../sidecar/protocol/framed-calls.ts";
import type { ShardAssignments } from "../../sidecar/protocol/gen/oxia-client.ts";
import { type NodeStatus, WatchStatusRequest } from "../../sidecar/protocol/gen/resilver.ts";
import {
  CoordinationService as Service,
  type MethodDefinition,
} from "../../sidecar/protocol/service.ts";
import {
  CallFailed,
  type CallOptions,
  type NodeEndpoint,
  type SidecarClient,
} from "../controller/ports.ts";
import { sidecarCredentials } from "./credentials.ts";

/** As the sidecar's own bound: a status report of very many shards is the largest message here. */
const MESSAGE_BYTES_MAX = 8 * 1024 * 1024;

const CHANNEL_OPTIONS = {
  "grpc.max_receive_message_length": MESSAGE_BYTES_MAX,
  "grpc.max_send_message_length": MESSAGE_BYTES_MAX,
  // A restarted sidecar must be found again at once: the default of a second is longer than a
  // failover.
  "grpc.initial_reconnect_backoff_ms": 20,
  "grpc.min_reconnect_backoff_ms": 20,
  "grpc.max_reconnect_backoff_ms": 100,
  // Finds half-open connections of streams that carry nothing.
  "grpc.keepalive_time_ms": 2_000,
  "grpc.keepalive_timeout_ms": 2_000,
  "grpc.keepalive_permit_without_calls": 1,
  // A proxy of the environment is for the world outside; pods are reached at their addresses.
  "grpc.enable_http_proxy": 0,
  // What is not used here costs memory for each of thousands of pods.
  "grpc.enable_retries": 0,
  "grpc.enable_channelz": 0,
  "grpc.use_local_subchannel_pool": 1,
  "grpc.service_config_disable_resolution": 1,
};

/** A channel costs memory, and a pod that came back has another address. */
const UNUSED_MS = 10_000;
const NOTHING = new Uint8Array(0);

/** How to reach sidecars. */
export interface CoordinationClientOptions {
  readonly clock: Clock;
  /** A channel without a call for so long is closed (10,000). */
  readonly unusedMs?: number;
}

/** {@link SidecarClient} over connections. */
export class CoordinationClient implements SidecarClient {
  readonly #channels = new Map<string, Channel>();
  readonly #framed: FramedCaller;
  readonly #clock: Clock;
  readonly #unusedMs: number;

  constructor({ clock, unusedMs = UNUSED_MS }: CoordinationClientOptions) {
    this.#framed = new FramedCaller(clock, (address) => connect({ ...address, noDelay: true }));
    this.#clock = clock;
    this.#unusedMs = unusedMs;
  }

  openShard: SidecarClient["openShard"] = (to, request, call) =>
    this.#unary(to, Service.openShard, request, call);

  newTerm: SidecarClient["newTerm"] = (to, request, call) =>
    this.#unary(to, Service.newTerm, request, call);

  becomeLeader: SidecarClient["becomeLeader"] = (to, request, call) =>
    this.#unary(to, Service.becomeLeader, request, call);

  addFollower: SidecarClient["addFollower"] = async (to, request, call) => {
    await this.#unary(to, Service.addFollower, request, call);
  };

  removeFollower: SidecarClient["removeFollower"] = (to, request, call) =>
    this.#unary(to, Service.removeFollower, request, call);

  promote: SidecarClient["promote"] = async (to, request, call) => {
    await this.#unary(to, Service.promote, request, call);
  };

  updateEnsemble: SidecarClient["updateEnsemble"] = (to, request, call) =>
    this.#unary(to, Service.updateEnsemble, request, call);

  enrol: SidecarClient["enrol"] = async (to, request, call) => {
    await this.#unary(to, Service.enrol, request, call);
  };

  deleteShard: SidecarClient["deleteShard"] = async (to, request, call) => {
    await this.#unary(to, Service.deleteShard, request, call);
  };

  getInfo: SidecarClient["getInfo"] = (to, call) => this.#unary(to, Service.getInfo, {}, call);

  async *watchStatus(
    to: NodeEndpoint,
    request: WatchStatusRequest,
    signal: AbortSignal,
  ): AsyncGenerator<NodeStatus, void> {
    signal.throwIfAborted();
    const head = WatchStatusRequest.encode(request).finish();
    const opened = this.#framed.open(WATCH_CALL, to.internalAddress, head, signal);
    if (opened !== null) {
      const { call, isRefused, isUnanswered } = opened;
      try {
        for await (const status of call.messages) yield status;
        throw new CallFailed(to.node, `${to.node}: WatchStatus ended`, false);
      } catch (error) {
        const failure = failureOf(to, signal, error);
        if (!signal.aborted && isUnanswered()) {
          throw new CallFailed(to.node, failure.message, true, error);
        }
        if (signal.aborted || !isRefused()) throw failure;
      } finally {
        call.cancel();
      }
    }
    yield* this.#watchOverGrpc(to, request, signal);
  }

  async pushAssignments(
    to: NodeEndpoint,
    updates: AsyncIterable<ShardAssignments>,
    signal: AbortSignal,
  ): Promise<void> {
    signal.throwIfAborted();
    const opened = this.#framed.open(ASSIGNMENTS_CALL, to.internalAddress, NOTHING, signal);
    if (opened === null) {
      await this.#pushOverGrpc(to, updates, signal);
      return;
    }
    const { call } = opened;
    const ended = new AbortController();
    try {
      await Promise.all([untilAnswered(call, ended), writeAll(call, updates, ended.signal)]);
    } catch (error) {
      throw failureOf(to, signal, error);
    } finally {
      call.cancel();
    }
  }

  async close(): Promise<void> {
    for (const address of [...this.#channels.keys()]) this.#close(address);
    this.#framed.close();
    await Promise.resolve();
  }

  async *#watchOverGrpc(
    to: NodeEndpoint,
    request: WatchStatusRequest,
    signal: AbortSignal,
  ): AsyncGenerator<NodeStatus, void> {
    const method = Service.watchStatus;
    const channel = this.#channel(to);
    const stream: ClientReadableStream<NodeStatus> = channel.client.makeServerStreamRequest(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
      request,
    );
    const cancel = (): void => {
      stream.cancel();
    };
    signal.addEventListener("abort", cancel, { once: true });
    const release = channel.lend();
    try {
      for await (const message of stream) yield message as NodeStatus;
      throw new CallFailed(to.node, `${to.node}: WatchStatus ended`, false);
    } catch (error) {
      throw failureOf(to, signal, error);
    } finally {
      release();
      signal.removeEventListener("abort", cancel);
      stream.cancel();
    }
  }

  async #pushOverGrpc(
    to: NodeEndpoint,
    updates: AsyncIterable<ShardAssignments>,
    signal: AbortSignal,
  ): Promise<void> {
    const method = Service.pushShardAssignments;
    // Stops waiting for the next update when the call ends for another reason.
    const ended = new AbortController();
    const { stream, done } = this.#clientStream(to, method, ended);
    const cancel = (): void => {
      stream.cancel();
    };
    signal.addEventListener("abort", cancel, { once: true });
    const out = {
      write: (message: ShardAssignments) => stream.write(message),
      drained: () => new Promise<void>((go) => void stream.once("drain", go)),
      end: () => stream.end(),
    };
    try {
      await Promise.all([done, writeAll(out, updates, ended.signal)]);
    } catch (error) {
      throw failureOf(to, signal, error);
    } finally {
      signal.removeEventListener("abort", cancel);
      stream.cancel();
    }
  }

  #clientStream(
    to: NodeEndpoint,
    method: typeof Service.pushShardAssignments,
    ended: AbortController,
  ): { readonly stream: AssignmentStream; readonly done: Promise<void> } {
    let finish: (error: ServiceError | null) => void = () => undefined;
    const done = new Promise<void>((resolve, reject) => {
      finish = (error) => {
        ended.abort();
        if (error === null) resolve();
        else reject(error);
      };
    });
    const channel = this.#channel(to);
    const release = channel.lend();
    const stream = channel.client.makeClientStreamRequest(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
      (error) => {
        release();
        finish(error);
      },
    );
    return { stream, done };
  }

  #unary<Request, Response>(
    to: NodeEndpoint,
    method: MethodDefinition<Request, Response, false, false>,
    request: Request,
    call: CallOptions,
  ): Promise<Response> {
    return new Promise<Response>((resolve, reject) => {
      if (call.signal.aborted) {
        reject(call.signal.reason as Error);
        return;
      }
      const options: GrpcCallOptions = { deadline: new Date(Date.now() + call.deadlineMs) };
      const cancel = (): void => {
        running.cancel();
      };
      const channel = this.#channel(to);
      const release = channel.lend();
      const running = channel.client.makeUnaryRequest(
        method.path,
        method.requestSerialize,
        method.responseDeserialize,
        request,
        new Metadata(),
        options,
        (error, response) => {
          release();
          call.signal.removeEventListener("abort", cancel);
          if (error !== null) reject(failureOf(to, call.signal, error));
          else if (response === undefined) reject(new CallFailed(to.node, "no answer", false));
          else resolve(response);
        },
      );
      call.signal.addEventListener("abort", cancel, { once: true });
    });
  }

  #channel(to: NodeEndpoint): Channel {
    const address = to.internalAddress;
    const present = this.#channels.get(address);
    if (present !== undefined) return present;
    const client = new Client(address, sidecarCredentials("internal"), CHANNEL_OPTIONS);
    const unused = (): Timer => this.#clock.timer(this.#unusedMs, () => this.#close(address));
    const channel = new Channel(client, unused);
    this.#channels.set(address, channel);
    return channel;
  }

  #close(address: string): void {
    const channel = this.#channels.get(address);
    this.#channels.delete(address);
    channel?.close();
  }
}

/** A connection to one address, and whether anybody is using it. */
class Channel {
  readonly client: Client;
  readonly #unused: () => Timer;
  #calls = 0;
  #timer: Timer | null = null;
  #closed = false;

  /** `unused`: begins to wait before it is closed. */
  constructor(client: Client, unused: () => Timer) {
    this.client = client;
    this.#unused = unused;
  }

  /** Counts a call until the function that is returned is called. */
  lend(): () => void {
    this.#calls += 1;
    this.#timer?.cancel();
    this.#timer = null;
    return () => {
      this.#calls -= 1;
      if (this.#calls === 0 && !this.#closed) this.#timer = this.#unused();
    };
  }

  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
    this.client.close();
  }
}

interface AssignmentStream {
  write(message: ShardAssignments): boolean;
  once(event: "drain", listener: () => void): unknown;
  end(): void;
  cancel(): void;
}

async function writeAll(
  out: Pick<DuplexCall<ShardAssignments, never>, "write" | "drained" | "end">,
  updates: AsyncIterable<ShardAssignments>,
  ended: AbortSignal,
): Promise<void> {
  const iterator = updates[Symbol.asyncIterator]();
  const stop = new Promise<null>((resolve) => {
    ended.addEventListener("abort", () => resolve(null), { once: true });
  });
  try {
    for (;;) {
      const next = await Promise.race([iterator.next(), stop]);
      if (next === null) return;
      if (next.done === true) break;
      if (out.write(next.value)) continue;
      await Promise.race([out.drained(), stop]);
    }
    out.end();
  } finally {
    // Not awaited: a source that waits for its next update may answer only then.
    void iterator.return?.();
  }
}

/** Resolves when the other side ended the call; rejects with what it failed with. */
async function untilAnswered(
  call: DuplexCall<ShardAssignments, never>,
  ended: AbortController,
): Promise<void> {
  try {
    await call.messages[Symbol.asyncIterator]().next();
  } finally {
    ended.abort();
  }
}

function failureOf(to: NodeEndpoint, signal: AbortSignal, error: unknown): Error {
  if (signal.aborted) {
    return signal.reason instanceof Error ? signal.reason : new Error("aborted", { cause: error });
  }
  if (error instanceof CallFailed) return error;
  if (error instanceof ProtocolError) {
    return new ProtocolError(error.reason, `${to.node}: ${error.message}`, error.metadata);
  }
  if (!isServiceError(error)) {
    const text = error instanceof Error ? error.message : String(error);
    return new CallFailed(to.node, `${to.node}: ${text}`, false, error);
  }
  const detail = error.metadata?.get(DETAILS_KEY)[0];
  const bytes = typeof detail === "string" ? undefined : detail;
  const refusal = refusalOf(error.code, `${to.node}: ${error.details}`, bytes);
  if (refusal !== null) return refusal;
  const timedOut = error.code === status.DEADLINE_EXCEEDED;
  return new CallFailed(to.node, `${to.node}: ${error.details}`, timedOut, error);
}

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && "code" in error && typeof error.code === "number";
}
