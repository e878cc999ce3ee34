/** Operator to sidecar: adapts each rpc to the replica it names. */
import type { sendUnaryData, ServerReadableStream } from "@grpc/grpc-js";
import type { Timer } from "../lib/ports/clock.ts";
import { ProtocolError } from "../protocol/errors.ts";
import type { ShardAssignments } from "../protocol/gen/oxia-client.ts";
import {
  type AddFollowerRequest,
  type AddFollowerResponse,
  type BecomeLeaderRequest,
  type BecomeLeaderResponse,
  type ChecksumRequest,
  type ChecksumResponse,
  type CoordinationShardAssignmentsResponse,
  type DeleteShardRequest,
  type DeleteShardResponse,
  type EnrolRequest,
  type EnrolResponse,
  Feature,
  type GetInfoRequest,
  type GetInfoResponse,
  type GetStatusRequest,
  type GetStatusResponse,
  type HandshakeRequest,
  type HandshakeResponse,
  HandshakeStatus,
  type NewTermRequest,
  type NewTermResponse,
  type NodeStatus,
  type OpenShardRequest,
  type PromoteRequest,
  type PromoteResponse,
  type RemoveFollowerRequest,
  type RemoveFollowerResponse,
  type ReplicaStatus,
  type UpdateEnsembleRequest,
  type UpdateEnsembleResponse,
  type WatchStatusRequest,
} from "../protocol/gen/resilver.ts";
import type { NodeRuntime, ReplicaHandle } from "../runtime/ports.ts";
import { heartbeatMsOf, StatusReports } from "../runtime/status-reports.ts";
import type { Assignments } from "./assignments.ts";
import type { FramedHandlers } from "./framed-server.ts";
import {
  drained,
  type HandlerContext,
  measure,
  serveCall,
  serverStream,
  unary,
} from "./handlers.ts";
import { DEFAULT_NAMESPACE } from "./shard-lookup.ts";
import { serviceErrorOf } from "./status-map.ts";

/** What the service is made of. */
export interface CoordinationServiceOptions {
  readonly runtime: NodeRuntime;
  readonly assignments: Assignments;
  readonly context: HandlerContext;
  /** The one store this sidecar may belong to; empty: the first that names a shard. */
  readonly storeId: string;
  readonly version: string;
  readonly stopping: AbortSignal;
}

type Handlers = Readonly<Record<string, (call: never, answer: never) => void>>;

/** Handlers of CoordinationService, in the shape that gRPC's addService takes. */
export function coordinationService(options: CoordinationServiceOptions): Handlers {
  return { ...nodeHandlers(options), ...replicaHandlers(options) };
}

/** What concerns the node, not one of its replicas. */
function nodeHandlers(options: CoordinationServiceOptions): Handlers {
  const { runtime, context } = options;
  return {
    pushShardAssignments: receiveAssignments(options),
    handshake: unary<HandshakeRequest, HandshakeResponse>(context, "Handshake", async (request) =>
      handshake(request, options.storeId),
    ),
    getInfo: unary<GetInfoRequest, GetInfoResponse>(context, "GetInfo", async () => ({
      featuresSupported: [Feature.DB_CHECKSUM],
      version: options.version,
      node: runtime.node,
      bootId: runtime.bootId,
    })),
    openShard: unary<OpenShardRequest, ReplicaStatus>(context, "OpenShard", async (request) => {
      checkStore(request.storeId, options.storeId);
      return runtime.openShard(request);
    }),
    watchStatus: serverStream<WatchStatusRequest, NodeStatus>(
      context,
      "WatchStatus",
      async (call, gone) => {
        const out = {
          write: (report: NodeStatus) => call.write(report),
          drained: () => drained(call),
        };
        await new StatusWatch(call.request, out, gone, options).run();
      },
    ),
    deleteShard: unary<DeleteShardRequest, DeleteShardResponse>(
      context,
      "DeleteShard",
      async ({ namespace, shard, term, storeId, generation }) => {
        await runtime.deleteShard(namespace, shard, term, storeId, generation);
        return {};
      },
    ),
  };
}

/** What is passed to the replica that the request names. */
function replicaHandlers({ runtime, context }: CoordinationServiceOptions): Handlers {
  const replica = (request: { namespace: string; shard: number }): ReplicaHandle =>
    runtime.replica(request.namespace, request.shard);
  return {
    newTerm: unary<NewTermRequest, NewTermResponse>(context, "NewTerm", async (request, signal) =>
      replica(request).newTerm(request, signal),
    ),
    becomeLeader: unary<BecomeLeaderRequest, BecomeLeaderResponse>(
      context,
      "BecomeLeader",
      async (request, signal) => replica(request).becomeLeader(request, signal),
    ),
    addFollower: unary<AddFollowerRequest, AddFollowerResponse>(
      context,
      "AddFollower",
      async (request, signal) => {
        await replica(request).addFollower(request, signal);
        return {};
      },
    ),
    removeFollower: unary<RemoveFollowerRequest, RemoveFollowerResponse>(
      context,
      "RemoveFollower",
      async (request, signal) => replica(request).removeFollower(request, signal),
    ),
    promote: unary<PromoteRequest, PromoteResponse>(context, "Promote", async (request, signal) => {
      await replica(request).promote(request, signal);
      return {};
    }),
    updateEnsemble: unary<UpdateEnsembleRequest, UpdateEnsembleResponse>(
      context,
      "UpdateEnsemble",
      async (request, signal) => replica(request).updateEnsemble(request, signal),
    ),
    enrol: unary<EnrolRequest, EnrolResponse>(context, "Enrol", async (request, signal) =>
      replica(request).enrol(request, signal),
    ),
    getStatus: unary<GetStatusRequest, GetStatusResponse>(context, "GetStatus", async (request) => {
      const namespace = request.namespace === "" ? DEFAULT_NAMESPACE : request.namespace;
      return statusResponse(runtime.replica(namespace, request.shard).status());
    }),
    checksum: unary<ChecksumRequest, ChecksumResponse>(
      context,
      "Checksum",
      async (request, signal) => replica(request).checksum(request.atLeastOffset, signal),
    ),
  };
}

function checkStore(given: string, expected: string): void {
  if (expected === "" || given === expected) return;
  throw new ProtocolError(
    "WRONG_STORE",
    `store_id is ${JSON.stringify(given)}, but this sidecar belongs to ${JSON.stringify(expected)}`,
    { field: "store_id", value: given, allowed: expected },
  );
}

function handshake(request: HandshakeRequest, storeId: string): HandshakeResponse {
  const matches = storeId === "" || request.instanceId === storeId;
  return {
    status: matches ? HandshakeStatus.BOUND : HandshakeStatus.MISMATCH,
    featuresSupported: [Feature.DB_CHECKSUM],
  };
}

function statusResponse(replica: ReplicaStatus): GetStatusResponse {
  return {
    term: replica.term,
    status: replica.status,
    headOffset: replica.head?.offset ?? -1,
    commitOffset: replica.commitOffset,
    shardStats: undefined,
    replica,
  };
}

function receiveAssignments(
  options: CoordinationServiceOptions,
): (
  call: ServerReadableStream<ShardAssignments, CoordinationShardAssignmentsResponse>,
  answer: sendUnaryData<CoordinationShardAssignmentsResponse>,
) => void {
  return (call, answer) => {
    const done = measure(options.context, "PushShardAssignments");
    const stop = (): void => {
      answer(
        serviceErrorOf(
          new ProtocolError("NOT_INITIALIZED", "the sidecar is shutting down"),
          options.context.audience,
        ),
      );
    };
    options.stopping.addEventListener("abort", stop, { once: true });
    // Emitted at the end of every call, however it ended.
    call.on("cancelled", () => options.stopping.removeEventListener("abort", stop));
    call.on("data", (assignments: ShardAssignments) => options.assignments.update(assignments));
    // The coordinator went away; what it pushed stays valid until another one pushes.
    call.on("error", () => {});
    call.on("end", () => {
      done(null);
      answer(null, {});
    });
  };
}

/** Takes the streams that come in frames; otherwise as the rpcs of the same names. */
export function framedCoordination(
  options: CoordinationServiceOptions,
): Pick<FramedHandlers, "watchStatus" | "pushAssignments"> {
  const { context, assignments, stopping } = options;
  return {
    watchStatus: (request, call) =>
      serveCall(context, "WatchStatus", call, async () => {
        const gone = new AbortController();
        const end = (): void => gone.abort(new DOMException("call ended", "AbortError"));
        const ended = endOf(call.messages).then(end, end);
        await new StatusWatch(request, call, gone.signal, options).run();
        call.end();
        await ended;
      }),
    pushAssignments: (call) =>
      serveCall(context, "PushShardAssignments", call, async () => {
        const stop = (): void =>
          call.fail(new ProtocolError("NOT_INITIALIZED", "the sidecar is shutting down"));
        if (stopping.aborted) stop();
        stopping.addEventListener("abort", stop, { once: true });
        try {
          for await (const pushed of call.messages) assignments.update(pushed);
        } finally {
          stopping.removeEventListener("abort", stop);
        }
      }),
  };
}

async function endOf(messages: AsyncIterable<never>): Promise<void> {
  const { done } = await messages[Symbol.asyncIterator]().next();
  if (done !== true) throw new ProtocolError("INVALID_ARGUMENT", "a watch takes no messages");
}

/** Where a watch's reports go. */
interface ReportStream {
  write(report: NodeStatus): unknown;
  /** Resolves also when nobody reads them any more. */
  drained(): Promise<void>;
}

/** One WatchStatus stream, with a heartbeat. */
class StatusWatch {
  readonly #out: ReportStream;
  readonly #gone: AbortSignal;
  readonly #options: CoordinationServiceOptions;
  readonly #reports: StatusReports;
  #wake: () => void = () => {};
  readonly #heartbeatMs: number;
  #timer: Timer | null = null;

  /** Throws INVALID_ARGUMENT for a heartbeat that is out of bounds. */
  constructor(
    request: WatchStatusRequest,
    out: ReportStream,
    gone: AbortSignal,
    options: CoordinationServiceOptions,
  ) {
    this.#out = out;
    this.#gone = gone;
    this.#options = options;
    this.#reports = new StatusReports(options.runtime);
    this.#heartbeatMs = heartbeatMsOf(request);
  }

  async run(): Promise<void> {
    const { runtime, stopping } = this.#options;
    const wake = (): void => this.#wake();
    const unwatch = runtime.watch((statuses) => {
      this.#reports.changed(statuses);
      wake();
    });
    this.#gone.addEventListener("abort", wake);
    stopping.addEventListener("abort", wake);
    this.#beat();
    try {
      while (!this.#gone.aborted && !stopping.aborted) {
        if (!this.#reports.pending) {
          await new Promise<void>((resolve) => {
            this.#wake = resolve;
          });
          continue;
        }
        this.#out.write(this.#reports.next());
        await this.#out.drained();
      }
    } finally {
      this.#timer?.cancel();
      this.#timer = null;
      unwatch();
      this.#gone.removeEventListener("abort", wake);
      stopping.removeEventListener("abort", wake);
    }
    if (stopping.aborted) {
      throw new ProtocolError("NOT_INITIALIZED", "the sidecar is shutting down");
    }
  }

  #beat(): void {
    this.#timer = this.#options.context.clock.timer(this.#heartbeatMs, () => {
      this.#reports.beat();
      this.#beat();
      this.#wake();
    });
  }
}
