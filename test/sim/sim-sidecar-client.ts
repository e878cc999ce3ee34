import {
  CallFailed,
  type CallOptions,
  type NodeEndpoint,
  type SidecarClient,
} from "../../operator/controller/ports.ts";
import { ProtocolError } from "../../sidecar/protocol/errors.ts";
import type { ShardAssignments } from "../../sidecar/protocol/gen/oxia-client.ts";
import { NodeStatus, WatchStatusRequest } from "../../sidecar/protocol/gen/resilver.ts";
import type { NodeRuntime, ReplicaHandle } from "../../sidecar/runtime/ports.ts";
import { heartbeatMsOf, StatusReports } from "../../sidecar/runtime/status-reports.ts";
import { plainCopy } from "./plain-copy.ts";
import type { SimProcess, SimTime } from "./sim-clock.ts";
import { NetworkFailure, type SimNetwork } from "./sim-network.ts";
import type { SimStream } from "./sim-stream.ts";
import { withoutStack } from "./without-stack.ts";

/** What the client needs of the simulated world. */
export interface SidecarClientOptions {
  readonly process: SimProcess;
  readonly network: SimNetwork;
  readonly time: SimTime;
  /** The pod through whose address a node is called, as far as the caller knows; null: none. */
  readonly podOf: (node: string) => number | null;
  /** The pod that is there; null on platforms without any. */
  readonly podThere: (node: string) => number | null;
  /** Called at each call, before it is sent. */
  readonly onCall: (name: string, to: string) => void;
  /** Called at the node, when the call arrives. */
  readonly onServing: (name: string, node: SimProcess, request: object) => void;
  /** Called at the node, after it answered. */
  readonly onAnswer: (name: string, node: SimProcess, request: object, answer: object) => void;
  /** Called at the node, when it answered or refused, with how long that took. */
  readonly onServed: (name: string, node: SimProcess, request: object, tookMs: number) => void;
}

/**
 * The coordinator's calls over the simulated network: the adapter that `operator/sidecar-client` is
 * for gRPC.
 */
export function simSidecarClient(options: SidecarClientOptions): SidecarClient {
  type Request = { readonly namespace: string; readonly shard: number };
  const unary = <Q extends object, A>(
    name: string,
    act: (runtime: NodeRuntime, request: Q, signal: () => AbortSignal) => Promise<A>,
  ) => {
    return (to: NodeEndpoint, request: Q, call: CallOptions): Promise<A> =>
      callNode(options, name, to, request, call, act);
  };
  const onReplica = <Q extends Request, A>(
    name: string,
    act: (replica: ReplicaHandle, request: Q, signal: () => AbortSignal) => Promise<A>,
  ) =>
    unary<Q, A>(name, (runtime, request, signal) =>
      act(runtime.replica(request.namespace, request.shard), request, signal),
    );
  return {
    openShard: unary("openShard", (runtime, request) => runtime.openShard(request)),
    newTerm: onReplica("newTerm", (replica, request, signal) => replica.newTerm(request, signal())),
    becomeLeader: onReplica("becomeLeader", (replica, request, signal) =>
      replica.becomeLeader(request, signal()),
    ),
    addFollower: onReplica("addFollower", (replica, request, signal) =>
      replica.addFollower(request, signal()),
    ),
    removeFollower: onReplica("removeFollower", (replica, request, signal) =>
      replica.removeFollower(request, signal()),
    ),
    promote: onReplica("promote", (replica, request, signal) => replica.promote(request, signal())),
    updateEnsemble: onReplica("updateEnsemble", (replica, request, signal) =>
      replica.updateEnsemble(request, signal()),
    ),
    enrol: onReplica("enrol", async (replica, request, signal) => {
      await replica.enrol(request, signal());
    }),
    deleteShard: unary("deleteShard", (runtime, { namespace, shard, term, storeId, generation }) =>
      runtime.deleteShard(namespace, shard, term, storeId, generation),
    ),
    getInfo: (to, call) =>
      callNode(options, "getInfo", to, {}, call, async ({ node, bootId }) => ({
        node,
        bootId,
        featuresSupported: [],
        version: "sim",
      })),
    watchStatus: (to, request, signal) => watchStatus(options, to, request, signal),
    pushAssignments: (to, updates, signal) => pushAssignments(to, updates, signal),
    close: async () => undefined,
  };
}

/** The pod that is called, since its address is its own; null on platforms without any. */
function addressed(options: SidecarClientOptions, { node }: NodeEndpoint): number | null {
  return options.podThere(node) === null ? null : options.podOf(node);
}

function hasAddress(options: SidecarClientOptions, { node }: NodeEndpoint): boolean {
  return options.podThere(node) === null || options.podOf(node) !== null;
}

function noSuchPod({ node }: NodeEndpoint): CallFailed {
  return withoutStack(() => new CallFailed(node, "there is no such pod", false));
}

function callNode<Q extends object, A>(
  options: SidecarClientOptions,
  name: string,
  to: NodeEndpoint,
  request: Q,
  call: CallOptions,
  act: (runtime: NodeRuntime, request: Q, signal: () => AbortSignal) => Promise<A>,
): Promise<A> {
  const { process, network, time, onCall, onAnswer, onServing, onServed } = options;
  if (!hasAddress(options, to)) return Promise.reject(noSuchPod(to));
  const pod = addressed(options, to);
  onCall(name, to.node);
  const sent = plainCopy(request);
  const { answer, cancel } = network.unary({
    from: process,
    to: to.node,
    label: name,
    mayRepeat: true,
    serve: async (node, signal) => {
      const running = options.podThere(to.node) === pod ? node.runtime : null;
      if (running === null) {
        throw withoutStack(() => new NetworkFailure("connection refused: still starting"));
      }
      onServing(name, node, sent);
      const beganMs = time.nowMs;
      const answered = await act(running, sent, signal).finally(() => {
        if (node.alive) onServed(name, node, sent, time.nowMs - beganMs);
      });
      onAnswer(name, node, sent, (answered ?? {}) as object);
      return answered;
    },
  });
  return new Promise<A>((resolve, reject) => {
    const { signal } = call;
    const end = (): void => {
      timer.cancel();
      signal.removeEventListener("abort", aborted);
    };
    const aborted = (): void => {
      end();
      cancel();
      reject(signal.reason as Error);
    };
    const timer = process.clock.timer(call.deadlineMs, () => {
      end();
      cancel();
      reject(new CallFailed(to.node, `${name}: no answer in ${call.deadlineMs} ms`, true));
    });
    if (signal.aborted) {
      aborted();
      return;
    }
    signal.addEventListener("abort", aborted, { once: true });
    answer.then(
      (value) => {
        end();
        resolve(value);
      },
      (error: Error) => {
        end();
        reject(failure(to.node, error));
      },
    );
  });
}

function failure(node: string, error: Error): Error {
  if (error instanceof ProtocolError) return error;
  return withoutStack(() => new CallFailed(node, error.message, false, error));
}

async function* watchStatus(
  options: SidecarClientOptions,
  to: NodeEndpoint,
  request: WatchStatusRequest,
  signal: AbortSignal,
): AsyncGenerator<NodeStatus, void, void> {
  const { process, network } = options;
  if (!hasAddress(options, to)) throw noSuchPod(to);
  const pod = addressed(options, to);
  const stream = network.stream({
    from: process,
    to: to.node,
    label: "watchStatus",
    up: WatchStatusRequest,
    down: NodeStatus,
    window: 64,
    serve: (node, opened: SimStream<WatchStatusRequest, NodeStatus>) => {
      const runtime = options.podThere(to.node) === pod ? node.runtime : null;
      if (runtime === null) opened.server.fail(new Error("still starting"));
      else serveStatus(options, node, runtime, opened, heartbeatMsOf(request));
    },
  });
  const abort = (): void => stream.client.cancel();
  signal.addEventListener("abort", abort, { once: true });
  try {
    signal.throwIfAborted();
    yield* stream.client.messages;
    signal.throwIfAborted();
    throw new CallFailed(to.node, "the status stream ended", false);
  } catch (error) {
    signal.throwIfAborted();
    throw failure(to.node, error as Error);
  } finally {
    signal.removeEventListener("abort", abort);
    stream.client.cancel();
  }
}

/** As the coordination service does. */
function serveStatus(
  options: SidecarClientOptions,
  node: SimProcess,
  runtime: NodeRuntime,
  stream: SimStream<WatchStatusRequest, NodeStatus>,
  heartbeatMs: number,
): void {
  const reports = new StatusReports(runtime);
  const send = (): void => {
    if (stream.overForServer) unwatch();
    else stream.server.write(reports.next());
  };
  const unwatch = runtime.watch((changed) => {
    reports.changed(changed);
    send();
  });
  const beat = (): void => {
    reports.beat();
    send();
    // As the service that ships: nothing is reported into a connection that is known to be gone.
    if (stream.overForServer) return;
    options.time.after(heartbeatMs, node, "status beat", beat);
  };
  beat();
}

/** Nobody in the simulation reads assignments: clients ask the record who leads. */
async function pushAssignments(
  _to: NodeEndpoint,
  updates: AsyncIterable<ShardAssignments>,
  _signal: AbortSignal,
): Promise<void> {
  for await (const update of updates) void update;
}
