/** Leader to follower: adapts the three rpcs to the replica they name. */
import type { ServerDuplexStream } from "@grpc/grpc-js";
import type { DuplexCall } from "../lib/ports/duplex-call.ts";
import type {
  Ack,
  Append,
  Peer,
  SnapshotChunk,
  SnapshotResponse,
  TruncateRequest,
  TruncateResponse,
} from "../protocol/gen/resilver.ts";
import type { NodeRuntime, ReplicaHandle } from "../runtime/ports.ts";
import { serverDuplexCall } from "./duplex-call.ts";
import type { FramedHandlers } from "./framed-calls.ts";
import { type HandlerContext, measure, unary } from "./handlers.ts";
import { peerFromMetadata } from "./peer-metadata.ts";

/** Handlers of LogReplicationService, in the shape that gRPC's addService takes. */
export function replicationService(
  runtime: NodeRuntime,
  context: HandlerContext,
): Readonly<Record<string, (call: never, answer: never) => void>> {
  return {
    truncate: unary<TruncateRequest, TruncateResponse>(context, "Truncate", async (request) =>
      runtime.replica(request.namespace, request.shard).truncate(request),
    ),
    replicate: duplex<Append, Ack>(runtime, context, "Replicate", (replica, peer, call) =>
      replica.serveReplicate(peer, call),
    ),
    sendSnapshot: duplex<SnapshotChunk, SnapshotResponse>(
      runtime,
      context,
      "SendSnapshot",
      (replica, peer, call) => replica.serveSnapshot(peer, call),
    ),
  };
}

/** Takes the streams that come in frames; otherwise as the rpcs of the same names. */
export function framedHandlers(runtime: NodeRuntime, context: HandlerContext): FramedHandlers {
  const replica = ({ namespace, shard }: Peer): ReplicaHandle => runtime.replica(namespace, shard);
  return {
    sendSnapshot: (peer, stream) =>
      serveDuplex<SnapshotChunk, SnapshotResponse>(context, "SendSnapshot", stream, (call) =>
        replica(peer).serveSnapshot(peer, call),
      ),
    replicate: (peer, stream) =>
      serveDuplex<Append, Ack>(context, "Replicate", stream, (call) =>
        replica(peer).serveReplicate(peer, call),
      ),
  };
}

function duplex<In, Out>(
  runtime: NodeRuntime,
  context: HandlerContext,
  rpc: string,
  serve: (replica: ReplicaHandle, peer: Peer, call: DuplexCall<Out, In>) => Promise<void>,
): (stream: ServerDuplexStream<In, Out>) => void {
  return (stream) =>
    serveDuplex<In, Out>(context, rpc, stream, (call) => {
      const peer = peerFromMetadata(stream.metadata);
      return serve(runtime.replica(peer.namespace, peer.shard), peer, call);
    });
}

function serveDuplex<In, Out>(
  context: HandlerContext,
  rpc: string,
  stream: Parameters<typeof serverDuplexCall<Out, In>>[0],
  serve: (call: DuplexCall<Out, In>) => Promise<void>,
): void {
  const done = measure(context, rpc);
  const call = serverDuplexCall<Out, In>(stream);
  // Within a promise, so that what throws at once is answered like what rejects.
  const served = new Promise<void>((resolve) => {
    resolve(serve(call));
  });
  served.then(
    () => {
      done(null);
      call.end();
    },
    (error: unknown) => {
      done(error);
      call.fail(error instanceof Error ? error : new Error(String(error)));
    },
  );
}
