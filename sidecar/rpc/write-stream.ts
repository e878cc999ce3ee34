/**
 * WriteStream: many writes in flight on one stream, answered in request order. Accepting stops at a
 * bound of requests and bytes, so that a fast client waits in its own flow-control window. The
 * first refusal ends the stream, as Oxia's clients expect: they resend what was not answered.
 */
import type { ServerDuplexStream } from "@grpc/grpc-js";
import { LIMITS } from "../limits.ts";
import { ProtocolError } from "../protocol/errors.ts";
import type { WriteResponse } from "../protocol/gen/oxia-client.ts";
import type { ReplicaHandle } from "../runtime/ports.ts";
import type { RawWrite } from "./decoded-request.ts";
import { type HandlerContext, measure, metadataInteger, metadataText } from "./handlers.ts";
import { DEFAULT_NAMESPACE, type ShardLookup } from "./shard-lookup.ts";
import { serviceErrorOf } from "./status-map.ts";

const SHARD_KEY = "shard-id";

/** What the handler is made of. */
export interface WriteStreamOptions {
  readonly context: HandlerContext;
  readonly lookup: ShardLookup;
  readonly check: (write: RawWrite) => void;
  readonly stopping: AbortSignal;
}

type Stream = ServerDuplexStream<RawWrite, WriteResponse>;

/** The gRPC handler of WriteStream. */
export function handleWriteStream(options: WriteStreamOptions): (stream: Stream) => void {
  return (stream) => {
    const namespace = metadataText(stream.metadata, "namespace") ?? DEFAULT_NAMESPACE;
    let shard: number | undefined;
    const fail = (error: unknown): void => {
      const told = options.lookup.withLeader(error, namespace, shard);
      if (!stream.cancelled) stream.emit("error", serviceErrorOf(told, options.context.audience));
    };
    try {
      shard = metadataInteger(stream.metadata, SHARD_KEY);
      const replica = options.lookup.find(shard, stream.metadata);
      new WriteStream(stream, replica, shard, options, fail).start();
    } catch (error) {
      measure(options.context, "WriteStream")(error);
      fail(error);
    }
  };
}

/** One write that was accepted. `outcome` is null until it is applied or refused. */
interface Slot {
  readonly bytes: number;
  outcome: { readonly response: WriteResponse } | { readonly error: unknown } | null;
}

class WriteStream {
  readonly #stream: Stream;
  readonly #replica: ReplicaHandle;
  readonly #shard: number;
  readonly #options: WriteStreamOptions;
  readonly #fail: (error: unknown) => void;
  /** In request order; the first is answered next. */
  #slots: Slot[] = [];
  #bytes = 0;
  #inputEnded = false;
  /** Set when the process stops: what was accepted is answered, nothing more is accepted. */
  #stopping = false;
  /** Taken in and not handed on yet; see {@link WriteStream.#handOn}. */
  #waiting: { readonly slot: Slot; readonly write: RawWrite }[] = [];
  /**
   * Set at the first refusal: what comes after it is not executed, since the stream ends with the
   * refusal and nobody would be told.
   */
  #refused = false;
  #over = false;

  constructor(
    stream: Stream,
    replica: ReplicaHandle,
    shard: number,
    options: WriteStreamOptions,
    fail: (error: unknown) => void,
  ) {
    this.#stream = stream;
    this.#replica = replica;
    this.#shard = shard;
    this.#options = options;
    this.#fail = fail;
  }

  start(): void {
    const stop = (): void => {
      this.#stopping = true;
      this.#answer();
    };
    this.#options.stopping.addEventListener("abort", stop, { once: true });
    this.#stream.on("cancelled", () => {
      this.#options.stopping.removeEventListener("abort", stop);
      this.#over = true;
      this.#slots = [];
    });
    this.#stream.on("data", (write: RawWrite) => this.#accept(write));
    this.#stream.on("drain", () => this.#flow());
    this.#stream.on("end", () => {
      this.#inputEnded = true;
      this.#answer();
    });
    if (this.#options.stopping.aborted) stop();
  }

  #accept(write: RawWrite): void {
    if (this.#over || this.#stopping || this.#refused) return;
    const slot: Slot = { bytes: write.raw.byteLength, outcome: null };
    this.#slots.push(slot);
    this.#bytes += slot.bytes;
    this.#waiting.push({ slot, write });
    if (this.#waiting.length === 1) this.#handOn();
    this.#flow();
  }

  /**
   * One at a time, each a microtask after the one before: a replica that refuses a write at once
   * has said so by then, and the next one must not be logged.
   */
  #handOn(): void {
    const [next] = this.#waiting;
    if (next === undefined || this.#over || this.#refused) {
      this.#waiting = [];
      return;
    }
    this.#execute(next.slot, next.write);
    queueMicrotask(() => {
      this.#waiting.shift();
      this.#handOn();
    });
  }

  #execute(slot: Slot, write: RawWrite): void {
    const done = measure(this.#options.context, "WriteStream");
    const refuse = (error: unknown): void => {
      done(error);
      this.#refused = true;
      // Told in its turn: the writes before it may have succeeded, and must not be sent again.
      slot.outcome = { error };
      this.#answer();
    };
    let response: Promise<WriteResponse>;
    try {
      this.#checkShard(write);
      this.#options.check(write);
      response = this.#replica.write(write.request, write.raw);
    } catch (error) {
      refuse(error);
      return;
    }
    response.then((message) => {
      done(null);
      slot.outcome = { response: message };
      this.#answer();
    }, refuse);
  }

  #checkShard(write: RawWrite): void {
    const shard = write.request.shard;
    if (shard === undefined || shard === this.#shard) return;
    throw new ProtocolError(
      "INVALID_ARGUMENT",
      `shard is ${shard} in a request on a stream of shard ${this.#shard}`,
      { field: "shard", value: String(shard), allowed: String(this.#shard) },
    );
  }

  /** Answers everything at the front that is applied; a refusal there ends the stream. */
  #answer(): void {
    if (this.#over) return;
    let answered = 0;
    for (const slot of this.#slots) {
      if (slot.outcome === null) break;
      if ("error" in slot.outcome) {
        this.#end(slot.outcome.error);
        return;
      }
      this.#stream.write(slot.outcome.response);
      this.#bytes -= slot.bytes;
      answered++;
    }
    if (answered > 0) this.#slots = this.#slots.slice(answered);
    if (this.#slots.length === 0 && this.#inputEnded) {
      this.#over = true;
      this.#stream.end();
    } else if (this.#slots.length === 0 && this.#stopping) {
      this.#end(new ProtocolError("NOT_INITIALIZED", "the sidecar is shutting down"));
    } else {
      this.#flow();
    }
  }

  /** Takes more requests, or stops taking them, by the bounds and by how fast answers are read. */
  #flow(): void {
    const full =
      this.#stopping ||
      this.#slots.length >= LIMITS.writeStreamRequestsMax ||
      this.#bytes >= LIMITS.writeStreamBytesMax ||
      this.#stream.writableNeedDrain;
    if (full) this.#stream.pause();
    else if (this.#stream.isPaused()) this.#stream.resume();
  }

  #end(error: unknown): void {
    this.#over = true;
    this.#slots = [];
    this.#fail(error);
  }
}
