/** Framed calls on the port of a server of HTTP/2 (ARCHITECTURE.md, D10). */
import type { Server, Socket } from "node:net";
import type { Clock } from "../lib/ports/clock.ts";
import type { DuplexCall } from "../lib/ports/duplex-call.ts";
import { LIMITS } from "../limits.ts";
import { DETAILS_KEY } from "../protocol/error-detail.ts";
import { PREFACE_BYTES } from "../protocol/frame.ts";
import {
  ASSIGNMENTS_CALL,
  type FramedCall,
  REPLICATE_CALL,
  SNAPSHOT_CALL,
  WATCH_CALL,
} from "../protocol/framed-calls.ts";
import { FramedStream } from "../protocol/framed-stream.ts";
import type { ShardAssignments } from "../protocol/gen/oxia-client.ts";
import {
  type Ack,
  type Append,
  type NodeStatus,
  Peer,
  type SnapshotChunk,
  type SnapshotResponse,
  WatchStatusRequest,
} from "../protocol/gen/resilver.ts";
import { calleeStreamCall } from "../protocol/stream-call.ts";
import { readingInto } from "./direct-reading.ts";
import { statusOf } from "./status-map.ts";

/** Who serves which call; each gets what the caller opened it with. */
export interface FramedHandlers {
  readonly sendSnapshot: (peer: Peer, call: DuplexCall<SnapshotResponse, SnapshotChunk>) => void;
  readonly replicate: (peer: Peer, call: DuplexCall<Ack, Append>) => void;
  readonly watchStatus: (request: WatchStatusRequest, call: DuplexCall<NodeStatus, never>) => void;
  readonly pushAssignments: (call: DuplexCall<never, ShardAssignments>) => void;
}

/**
 * Makes a server of HTTP/2 serve framed calls on the same port: who connects says with the first
 * bytes which it wants, since a client of HTTP/2 begins with "PRI". Returns what ends the
 * connections that are still open.
 */
export function serveFramedCalls(
  server: Server,
  clock: Clock,
  handlers: FramedHandlers,
): () => void {
  const http2Listeners = server.listeners("connection");
  const open = new Set<Socket>();
  server.removeAllListeners("connection");
  server.on("connection", (socket: Socket) => {
    open.add(socket);
    socket.once("close", () => open.delete(socket));
    // Whoever says nothing at all holds no connection for long.
    const silent = clock.timer(LIMITS.greetingMs, () => socket.destroy());
    const forget = (): void => {
      silent.cancel();
      socket.removeListener("close", forget);
      socket.removeListener("error", forget);
    };
    socket.once("close", forget);
    socket.on("error", forget);
    onFirstBytes(socket, (first) => {
      socket.unshift(first);
      if (isFramed(first)) {
        accept(socket, first, clock, handlers, forget);
        return;
      }
      forget();
      open.delete(socket);
      for (const listener of http2Listeners) Reflect.apply(listener, server, [socket]);
    });
  });
  return () => {
    for (const socket of open) socket.destroy();
  };
}

/** What a connection that begins so is for. `opened`: its caller has said what it wants. */
type Accept = (socket: Socket, clock: Clock, handlers: FramedHandlers, opened: () => void) => void;

const CALLS: ReadonlyMap<string, Accept> = new Map([
  serving(SNAPSHOT_CALL, (head, call, { sendSnapshot }) => sendSnapshot(Peer.decode(head), call)),
  serving(REPLICATE_CALL, (head, call, { replicate }) => replicate(Peer.decode(head), call)),
  serving(WATCH_CALL, (head, call, { watchStatus }) =>
    watchStatus(WatchStatusRequest.decode(head), call),
  ),
  serving(ASSIGNMENTS_CALL, (_head, call, { pushAssignments }) => pushAssignments(call)),
]);

function serving<Request, Response>(
  framed: FramedCall<Request, Response>,
  serve: (head: Uint8Array, call: DuplexCall<Response, Request>, handlers: FramedHandlers) => void,
): readonly [string, Accept] {
  const accept: Accept = (socket, clock, handlers, opened) => {
    const stream = new FramedStream(socket, framed.callee, null, clock, (place) =>
      readingInto(socket, place),
    );
    stream.once("open", (head: Uint8Array) => {
      opened();
      const call = calleeStreamCall(stream, (error) => {
        const { code, details, metadata } = statusOf(error, "peer");
        const [detail] = metadata.get(DETAILS_KEY);
        stream.refuse({ code, details, detail: Buffer.isBuffer(detail) ? detail : null });
      });
      serve(head, call, handlers);
    });
  };
  return [framed.callee.preface.toString("latin1"), accept];
}

function accept(
  socket: Socket,
  first: Buffer,
  clock: Clock,
  handlers: FramedHandlers,
  opened: () => void,
): void {
  const preface = first.toString("latin1", 0, PREFACE_BYTES);
  // Who asks for another version learns from the answer's preface that it is not spoken here.
  const take = CALLS.get(preface) ?? CALLS.get(SNAPSHOT_CALL.callee.preface.toString("latin1"));
  take?.(socket, clock, handlers, opened);
}

function isFramed(first: Buffer): boolean {
  return first[0] === SNAPSHOT_CALL.callee.preface[0];
}

/** `found` gets enough to tell what the connection is for; it is not told of one that says less. */
function onFirstBytes(socket: Socket, found: (first: Buffer) => void): void {
  let first = Buffer.alloc(0);
  const look = (): void => {
    const more: Buffer | null = socket.read();
    if (more === null) return;
    first = Buffer.concat([first, more]);
    if (isFramed(first) && first.length < PREFACE_BYTES) return;
    socket.removeListener("readable", look);
    found(first);
  };
  socket.on("readable", look);
}
