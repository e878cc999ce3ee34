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
import { type HandlerContext, measure, unary } from "./handlers.ts";
import { peerFromMetadata } from "./peer-metadata.ts";
import { serviceErrorOf } from "./status-map.ts";

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

function duplex<In, Out>(
  runtime: NodeRuntime,
  context: HandlerContext,
  rpc: string,
  serve: (replica: ReplicaHandle, peer: Peer, call: DuplexCall<Out, In>) => Promise<void>,
): (stream: ServerDuplexStream<In, Out>) => void {
  return (stream) => {
    const done = measure(context, rpc);
    let served: Promise<void>;
    let call: DuplexCall<Out, In>;
    try {
      const peer = peerFromMetadata(stream.metadata);
      const replica = runtime.replica(peer.namespace, peer.shard);
      call = serverDuplexCall<Out, In>(stream);
      served = serve(replica, peer, call);
    } catch (error) {
      done(error);
      stream.emit("error", serviceErrorOf(error, "peer"));
      return;
    }
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
  };
}
