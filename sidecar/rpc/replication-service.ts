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
import type { FramedHandlers } from "./framed-server.ts";
import { type HandlerContext, serveCall, unary } from "./handlers.ts";
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
export function framedReplication(
  runtime: NodeRuntime,
  context: HandlerContext,
): Pick<FramedHandlers, "sendSnapshot" | "replicate"> {
  const replica = ({ namespace, shard }: Peer): ReplicaHandle => runtime.replica(namespace, shard);
  return {
    sendSnapshot: (peer, call) =>
      serveCall(context, "SendSnapshot", call, () => replica(peer).serveSnapshot(peer, call)),
    replicate: (peer, call) =>
      serveCall(context, "Replicate", call, () => replica(peer).serveReplicate(peer, call)),
  };
}

function duplex<In, Out>(
  runtime: NodeRuntime,
  context: HandlerContext,
  rpc: string,
  serve: (replica: ReplicaHandle, peer: Peer, call: DuplexCall<Out, In>) => Promise<void>,
): (stream: ServerDuplexStream<In, Out>) => void {
  return (stream) => {
    const call = serverDuplexCall<Out, In>(stream);
    serveCall(context, rpc, call, () => {
      const peer = peerFromMetadata(stream.metadata);
      return serve(runtime.replica(peer.namespace, peer.shard), peer, call);
    });
  };
}
