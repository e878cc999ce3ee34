/**
 * The streams between processes of a store as framed streams: both ends of each (ARCHITECTURE.md,
 * D10). Messages are those of the rpcs of the same names; what a message has of bulk is its frame's
 * content.
 */
import { LIMITS } from "../limits.ts";
import { FrameError } from "./frame.ts";
import type { FramedEnd, FrameParts } from "./framed-stream.ts";
import { ShardAssignments } from "./gen/oxia-client.ts";
import { Ack, Append, NodeStatus, SnapshotChunk, SnapshotResponse } from "./gen/resilver.ts";

const NOTHING = new Uint8Array(0);
/** A side that is quiet speaks after such a part of what the other one takes for silence. */
const PINGS = 4;

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

/**
 * Whoever watches a node judges its silence, sooner and by more than one sign. A coordinator has
 * these streams to each of thousands of pods: pings would be most of what it does.
 */
const WATCHED_SILENCE_MS = 4 * LIMITS.peerTimeoutMs;

/** WatchStatus. The caller opens it with its request and says nothing more. */
export const WATCH_CALL: FramedCall<never, NodeStatus> = framedCall({
  preface: "RSLVWST1",
  silenceMs: WATCHED_SILENCE_MS,
  callerSilenceMs: LIMITS.watcherSilenceMs,
  bulk: false,
  requests: {
    encode: () => ({ head: NOTHING, content: NOTHING }),
    decode: () => {
      throw new FrameError("frame: a message to a watch; allowed: none");
    },
  },
  responses: asContent(NodeStatus),
});

/** PushShardAssignments. */
export const ASSIGNMENTS_CALL: FramedCall<ShardAssignments, never> = framedCall({
  preface: "RSLVASG1",
  silenceMs: LIMITS.watcherSilenceMs,
  callerSilenceMs: LIMITS.watcherSilenceMs,
  bulk: false,
  requests: asContent(ShardAssignments),
  responses: {
    encode: () => ({ head: NOTHING, content: NOTHING }),
    decode: () => {
      throw new FrameError("frame: an answer to assignments; allowed: none");
    },
  },
});

/** Messages of any size. */
function asContent<M>(codec: {
  encode(message: M): { finish(): Uint8Array };
  decode(bytes: Uint8Array): M;
}): Messages<M> {
  return {
    encode: (message) => ({ head: NOTHING, content: codec.encode(message).finish() }),
    decode: (_head, content) => codec.decode(content),
  };
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
  /** Silence of the caller, if another counts there. */
  readonly callerSilenceMs?: number;
  readonly bulk: boolean;
  readonly requests: Messages<Request>;
  readonly responses: Messages<Response>;
}): FramedCall<Request, Response> {
  const { silenceMs, bulk, requests, responses } = call;
  const { callerSilenceMs = silenceMs } = call;
  const preface = Buffer.from(call.preface, "latin1");
  const shared = { preface, readBytesMax: LIMITS.framedReadBytesMax };
  return {
    caller: {
      ...shared,
      silenceMs,
      pingMs: callerSilenceMs / PINGS,
      receivesBulk: false,
      encode: requests.encode,
      decode: responses.decode,
    },
    callee: {
      ...shared,
      silenceMs: callerSilenceMs,
      pingMs: silenceMs / PINGS,
      receivesBulk: bulk,
      readBytesMax: bulk ? LIMITS.bulkReadBytesMax : LIMITS.framedReadBytesMax,
      encode: responses.encode,
      decode: requests.decode,
    },
  };
}
