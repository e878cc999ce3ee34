/**
 * The two streams between sidecars as framed streams: both ends of the connection (ARCHITECTURE.md,
 * D10). Messages are those of the rpcs of the same names; what a message has of bulk is its frame's
 * content.
 */
import { connect, type Server, type Socket } from "node:net";
import type { Clock } from "../lib/ports/clock.ts";
import { LIMITS } from "../limits.ts";
import { Ack, Append, Peer, SnapshotChunk, SnapshotResponse } from "../protocol/gen/resilver.ts";
import { FrameError, PREFACE_BYTES } from "./frame.ts";
import { type FramedEnd, type FrameParts, FramedStream } from "./framed-stream.ts";

const NOTHING = new Uint8Array(0);

/** A stream of requests and one of answers. */
export interface FramedCall<Request, Response> {
  readonly caller: FramedEnd<Request, Response>;
  readonly callee: FramedEnd<Response, Request>;
}

interface Messages<M> {
  readonly encode: (message: M) => FrameParts;
  readonly decode: (head: Uint8Array, content: Uint8Array) => M;
}

/** SendSnapshot. */
export const SNAPSHOT_CALL: FramedCall<SnapshotChunk, SnapshotResponse> = framedCall({
  preface: "RSLVBLK1",
  // A receiver that writes to a slow volume may say nothing for a while.
  silenceMs: 2 * LIMITS.peerTimeoutMs,
  bulk: true,
  requests: {
    encode: (chunk) => ({
      head: SnapshotChunk.encode({ ...chunk, content: NOTHING }).finish(),
      content: chunk.content,
    }),
    decode: (head, content) => ({ ...SnapshotChunk.decode(head), content }),
  },
  responses: withoutContent(SnapshotResponse),
});

/** Replicate. */
export const REPLICATE_CALL: FramedCall<Append, Ack> = framedCall({
  preface: "RSLVREP1",
  silenceMs: LIMITS.peerTimeoutMs,
  // Entries are kept: in the log until it is written, and for the followers of a later leader.
  bulk: false,
  requests: { encode: encodeAppend, decode: decodeAppend },
  responses: withoutContent(Ack),
});

function encodeAppend(append: Append): FrameParts {
  const { entry } = append;
  if (entry === undefined) return { head: Append.encode(append).finish(), content: NOTHING };
  const head = Append.encode({ ...append, entry: { ...entry, value: NOTHING } }).finish();
  return { head, content: entry.value };
}

function decodeAppend(head: Uint8Array, content: Uint8Array): Append {
  const append = Append.decode(head);
  if (append.entry !== undefined) append.entry.value = content;
  else if (content.length > 0) throw new FrameError("frame: content without an entry");
  return append;
}

/** The other end's half of a call: its stream, to be served. */
export type Served<Call> =
  Call extends FramedCall<infer Request, infer Response> ? FramedStream<Response, Request> : never;

/** Who serves which call. `peer` is who opened it. */
export interface FramedHandlers {
  readonly sendSnapshot: (peer: Peer, stream: Served<typeof SNAPSHOT_CALL>) => void;
  readonly replicate: (peer: Peer, stream: Served<typeof REPLICATE_CALL>) => void;
}

/**
 * Connects to a peer's internal port. Messages may be written at once. A peer that is not there, or
 * is silent, ends the stream with the status UNAVAILABLE.
 */
export function openFramedCall<Request, Response>(
  call: FramedCall<Request, Response>,
  address: { readonly host: string; readonly port: number },
  peer: Peer,
  clock: Clock,
): FramedStream<Request, Response> {
  const socket = connect({ ...address, noDelay: true });
  return new FramedStream(socket, call.caller, Peer.encode(peer).finish(), clock);
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
    const forget = (): void => silent.cancel();
    socket.once("close", forget);
    socket.on("error", forget);
    onFirstBytes(socket, (first) => {
      silent.cancel();
      socket.removeListener("close", forget);
      socket.removeListener("error", forget);
      socket.unshift(first);
      if (isFramed(first)) {
        accept(socket, first, clock, handlers);
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

function accept(socket: Socket, first: Buffer, clock: Clock, handlers: FramedHandlers): void {
  const { sendSnapshot, replicate } = handlers;
  if (REPLICATE_CALL.callee.preface.equals(first.subarray(0, PREFACE_BYTES))) {
    acceptCall(REPLICATE_CALL, socket, clock, replicate);
  } else {
    // Also who asks for another version: the answer's preface says what is spoken here.
    acceptCall(SNAPSHOT_CALL, socket, clock, sendSnapshot);
  }
}

function acceptCall<Request, Response>(
  call: FramedCall<Request, Response>,
  socket: Socket,
  clock: Clock,
  serve: (peer: Peer, stream: FramedStream<Response, Request>) => void,
): void {
  const stream = new FramedStream(socket, call.callee, null, clock);
  stream.once("open", (head: Uint8Array) => serve(Peer.decode(head), stream));
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

function withoutContent<M>(codec: {
  encode(message: M): { finish(): Uint8Array };
  decode(bytes: Uint8Array): M;
}): Messages<M> {
  return {
    encode: (message) => ({ head: codec.encode(message).finish(), content: NOTHING }),
    decode: (head) => codec.decode(head),
  };
}

function framedCall<Request, Response>(call: {
  readonly preface: string;
  readonly silenceMs: number;
  readonly bulk: boolean;
  readonly requests: Messages<Request>;
  readonly responses: Messages<Response>;
}): FramedCall<Request, Response> {
  const { silenceMs, bulk, requests, responses } = call;
  const shared = { preface: Buffer.from(call.preface, "latin1"), silenceMs };
  return {
    caller: {
      ...shared,
      receivesBulk: false,
      encode: requests.encode,
      decode: responses.decode,
    },
    callee: {
      ...shared,
      receivesBulk: bulk,
      encode: responses.encode,
      decode: requests.decode,
    },
  };
}
