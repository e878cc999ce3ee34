/** SendSnapshot over a bulk stream: both ends of the connection (ARCHITECTURE.md, D10). */
import { connect, type Server, type Socket } from "node:net";
import type { Clock } from "../lib/ports/clock.ts";
import { LIMITS } from "../limits.ts";
import { Peer, SnapshotChunk, SnapshotResponse } from "../protocol/gen/resilver.ts";
import { BULK_PREFACE } from "./bulk-frame.ts";
import { BulkStream, type FrameCodec } from "./bulk-stream.ts";

const NOTHING = new Uint8Array(0);

const chunkFrames: FrameCodec<SnapshotChunk, SnapshotResponse> = {
  encode: (chunk) => ({
    head: SnapshotChunk.encode({ ...chunk, content: NOTHING }).finish(),
    content: chunk.content,
  }),
  decode: (head) => SnapshotResponse.decode(head),
};

const responseFrames: FrameCodec<SnapshotResponse, SnapshotChunk> = {
  encode: (response) => ({ head: SnapshotResponse.encode(response).finish(), content: NOTHING }),
  decode: (head, content) => ({ ...SnapshotChunk.decode(head), content }),
};

/** The leader's end. */
export type BulkSender = BulkStream<SnapshotChunk, SnapshotResponse>;
/** The follower's end. */
export type BulkReceiver = BulkStream<SnapshotResponse, SnapshotChunk>;

/**
 * Connects to a peer's internal port. Messages may be written at once. A peer that is not there, or
 * is silent, ends the stream with the status UNAVAILABLE.
 */
export function openBulkSender(
  address: { readonly host: string; readonly port: number },
  peer: Peer,
  clock: Clock,
): BulkSender {
  const socket = connect({ ...address, noDelay: true });
  return new BulkStream(socket, chunkFrames, Peer.encode(peer).finish(), clock);
}

/**
 * Makes a server of HTTP/2 serve bulk streams on the same port: who connects says with the first
 * byte which it wants, since a client of HTTP/2 begins with "PRI". `serve` gets each stream with
 * who opened it. Returns what ends the connections that are still open.
 */
export function serveBulkStreams(
  server: Server,
  clock: Clock,
  serve: (peer: Peer, stream: BulkReceiver) => void,
): () => void {
  const http2Listeners = server.listeners("connection");
  const open = new Set<Socket>();
  server.removeAllListeners("connection");
  server.on("connection", (socket: Socket) => {
    open.add(socket);
    socket.once("close", () => open.delete(socket));
    // Whoever says nothing at all holds no connection for long.
    const silent = clock.timer(LIMITS.greetingMs, () => socket.destroy());
    const forget = (): void => silent.cancel();
    socket.once("close", forget);
    socket.on("error", forget);
    onFirstBytes(socket, (first) => {
      silent.cancel();
      socket.removeListener("close", forget);
      socket.removeListener("error", forget);
      socket.unshift(first);
      if (first[0] === BULK_PREFACE[0]) {
        accept(socket, clock, serve);
        return;
      }
      open.delete(socket);
      for (const listener of http2Listeners) Reflect.apply(listener, server, [socket]);
    });
  });
  return () => {
    for (const socket of open) socket.destroy();
  };
}

function accept(
  socket: Socket,
  clock: Clock,
  serve: (peer: Peer, stream: BulkReceiver) => void,
): void {
  const stream: BulkReceiver = new BulkStream(socket, responseFrames, null, clock);
  stream.once("open", (head: Uint8Array) => serve(Peer.decode(head), stream));
}

function onFirstBytes(socket: Socket, found: (first: Buffer) => void): void {
  const look = (): void => {
    const first: Buffer | null = socket.read();
    if (first === null) return;
    socket.removeListener("readable", look);
    found(first);
  };
  socket.on("readable", look);
}
