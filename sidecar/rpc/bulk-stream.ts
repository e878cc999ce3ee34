/**
 * One call over a connection of its own, in frames: what gRPC's streams do for a bulk transfer, at
 * a fraction of their cost (ARCHITECTURE.md, D10). It has the events and methods of gRPC's streams
 * that `duplex-call.ts` uses, so that what that file guarantees holds here too.
 */
import { EventEmitter } from "node:events";
import type { Socket } from "node:net";
import { Metadata, type ServiceError, status as Code, type StatusObject } from "@grpc/grpc-js";
import type { Clock, Timer } from "../lib/ports/clock.ts";
import { LIMITS } from "../limits.ts";
import { DETAILS_KEY } from "../protocol/error-detail.ts";
import { bufferView } from "../protocol/service.ts";
import {
  BULK_PREFACE,
  FRAME,
  type Frame,
  FrameError,
  FrameReader,
  frameHeader,
} from "./bulk-frame.ts";
import { readingInto } from "./direct-reading.ts";

/** A message as a frame's two parts. */
export interface FrameParts {
  readonly head: Uint8Array;
  readonly content: Uint8Array;
}

/** How messages become frames and back. Decoded content is valid until the next `read`. */
export interface FrameCodec<Out, In> {
  encode(message: Out): FrameParts;
  decode(head: Uint8Array, content: Uint8Array): In;
}

const NOTHING = new Uint8Array(0);
/** The connection counts as broken when nothing came in so many intervals between two pings. */
const SILENT_PINGS_MAX = 3;

interface Received<In> {
  readonly message: In;
  readonly content: Uint8Array;
}

/**
 * Events: `readable`, `drain`, `end`, `close`; at the caller's end also one `status`, at the
 * callee's `open` with the head of the first frame, and `cancelled` when the connection ends before
 * the call does. The callee answers with an error by emitting `error` with a ServiceError.
 */
export class BulkStream<Out, In> extends EventEmitter {
  readonly #socket: Socket;
  readonly #codec: FrameCodec<Out, In>;
  readonly #caller: boolean;
  readonly #reader = new FrameReader();
  readonly #received: Received<In>[] = [];
  readonly #pings: Timer;
  #receivedBytes = 0;
  /** Content of the message that was read last; its buffer is free at the next read. */
  #lent: Uint8Array = NOTHING;
  #pendingBytes = 0;
  #full = false;
  #silentPings = 0;
  #sendingEnded = false;
  #receivingEnded = false;
  #over = false;
  #foreign = false;

  /** `openHead`: the caller's first frame; null at the callee's end. */
  constructor(
    socket: Socket,
    codec: FrameCodec<Out, In>,
    openHead: Uint8Array | null,
    clock: Clock,
  ) {
    super();
    // What the callee receives is bulk: straight to its place. The caller gets a few answers.
    const direct = openHead === null ? this.#readDirectly(socket) : null;
    this.#socket = direct ?? socket;
    this.#codec = codec;
    this.#caller = openHead !== null;
    this.#listen(this.#socket, direct === null);
    this.#socket.write(BULK_PREFACE);
    if (openHead !== null) this.#send(FRAME.OPEN, openHead, NOTHING);
    this.#pings = pingTimer(clock, () => this.#ping());
  }

  #listen(socket: Socket, byData: boolean): void {
    socket.setNoDelay(true);
    socket.once("end", () => this.#ungreeted());
    if (byData) socket.on("data", (data: Buffer) => this.#take(this.#reader.push(data)));
    socket.on("error", (error) => this.#broken(error));
    socket.on("close", () => this.#broken(new Error("the connection was closed")));
    this.on("error", (error: ServiceError) => this.#answer(error));
    socket.resume();
  }

  #readDirectly(socket: Socket): Socket | null {
    return readingInto(socket, {
      room: () => this.#reader.room,
      before: (data) => this.#take(this.#reader.push(data)),
      filled: (count) => this.#take(this.#reader.filled(count)),
    });
  }

  /** The listener's parameters are the event's (see above). */
  override on(event: string, listener: (...args: never[]) => void): this {
    return super.on(event, listener as (...args: unknown[]) => void);
  }

  /**
   * True when the other side speaks another protocol: it said so, or hung up in order without a
   * greeting. One whose connection broke has merely gone.
   */
  get foreign(): boolean {
    return this.#foreign;
  }

  read(): In | null {
    this.#reader.recycle(this.#lent);
    this.#lent = NOTHING;
    const next = this.#received.shift();
    if (next === undefined) return null;
    this.#lent = next.content;
    this.#receivedBytes -= next.content.length;
    if (this.#socket.isPaused() && this.#receivedBytes <= LIMITS.bulkReadBytesMax / 2) {
      this.#socket.resume();
    }
    return next.message;
  }

  /** False: wait for `drain` before the next one. `sent`: the kernel has the message's bytes. */
  write(message: Out, sent?: () => void): boolean {
    const { head, content } = this.#codec.encode(message);
    this.#send(FRAME.MESSAGE, head, content, sent);
    this.#full = this.#pendingBytes >= LIMITS.bulkWriteBytesMax;
    return !this.#full;
  }

  end(): void {
    if (this.#sendingEnded || this.#over) return;
    this.#sendingEnded = true;
    this.#send(FRAME.END, NOTHING, NOTHING);
    // The callee has the last word.
    if (!this.#caller) this.#finish();
  }

  /** The caller gives up: the connection ends at once. */
  cancel(): void {
    this.#end({ code: Code.CANCELLED, details: "cancelled", metadata: new Metadata() });
    this.#socket.destroy();
  }

  #take(frames: Iterable<Frame>): void {
    if (this.#over) return;
    this.#silentPings = 0;
    try {
      for (const frame of frames) this.#frame(frame);
    } catch (error) {
      this.#ungreeted();
      this.#broken(error as Error);
      this.#socket.destroy();
      return;
    }
    if (this.#receivedBytes >= LIMITS.bulkReadBytesMax) this.#socket.pause();
  }

  #frame({ kind, head, content }: Frame): void {
    if (kind === FRAME.MESSAGE) {
      this.#received.push({ message: this.#codec.decode(head, content), content });
      this.#receivedBytes += content.length;
      this.emit("readable");
    } else if (kind === FRAME.OPEN && !this.#caller) {
      this.emit("open", head);
    } else if (kind === FRAME.END) {
      this.#receivingEnded = true;
      this.emit("end");
      if (this.#caller) this.#end({ code: Code.OK, details: "", metadata: new Metadata() });
    } else if (kind === FRAME.STATUS && this.#caller) {
      this.#end(statusFrom(head, content));
    } else if (kind !== FRAME.PING) {
      throw new FrameError(`bulk frame: kind is ${kind}, allowed: another one here`);
    }
  }

  /** The caller's call is over, as `status` says. */
  #end(status: StatusObject): void {
    if (this.#over) return;
    this.#finish();
    this.emit("status", status);
  }

  /** The callee's answer is an error. */
  #answer(error: ServiceError): void {
    if (this.#caller || this.#over) return;
    const [detail] = error.metadata?.get(DETAILS_KEY) ?? [];
    const code = Buffer.alloc(4);
    code.writeInt32BE(error.code ?? Code.UNKNOWN);
    const head = Buffer.concat([code, Buffer.from(error.details ?? error.message, "utf8")]);
    this.#send(FRAME.STATUS, head, Buffer.isBuffer(detail) ? detail : NOTHING);
    this.#finish();
  }

  #ungreeted(): void {
    if (!this.#over && !this.#reader.greeted) this.#foreign = true;
  }

  #broken(error: Error): void {
    if (this.#over) return;
    if (this.#caller) {
      const details = `bulk stream: ${error.message}`;
      this.#end({ code: Code.UNAVAILABLE, details, metadata: new Metadata() });
      return;
    }
    this.#finish();
    if (!this.#receivingEnded || !this.#sendingEnded) this.emit("cancelled");
    this.emit("close");
  }

  /** Lets what was written go out, and reads no further. */
  #finish(): void {
    this.#over = true;
    this.#pings.cancel();
    this.#socket.end();
    // A peer that never closes its half would keep the connection; its answer is not awaited.
    this.#socket.resume();
    if (this.#caller) this.#socket.destroySoon();
  }

  #send(kind: number, head: Uint8Array, content: Uint8Array, sent?: () => void): void {
    if (this.#over || this.#socket.destroyed) return;
    const bytes = head.length + content.length;
    this.#pendingBytes += bytes;
    this.#socket.cork();
    this.#socket.write(frameHeader(kind, head.length, content.length));
    if (head.length > 0) this.#socket.write(head);
    if (content.length > 0) {
      this.#socket.write(bufferView(content), (error) => {
        this.#written(bytes);
        if (!error) sent?.();
      });
    } else {
      this.#pendingBytes -= bytes;
    }
    this.#socket.uncork();
  }

  #written(bytes: number): void {
    this.#pendingBytes -= bytes;
    if (!this.#full || this.#pendingBytes > LIMITS.bulkWriteBytesMax / 2) return;
    this.#full = false;
    this.emit("drain");
  }

  #ping(): void {
    // While this side does not read, silence says nothing of the other one.
    if (!this.#socket.isPaused()) this.#silentPings++;
    if (this.#silentPings > SILENT_PINGS_MAX) {
      this.#broken(new Error("the other side is silent"));
      this.#socket.destroy();
      return;
    }
    this.#send(FRAME.PING, NOTHING, NOTHING);
  }
}

function pingTimer(clock: Clock, ping: () => void): Timer {
  let timer: Timer | null = null;
  const arm = (): void => {
    timer = clock.timer(LIMITS.peerTimeoutMs / 2, () => {
      timer = null;
      arm();
      ping();
    });
  };
  arm();
  return { cancel: () => timer?.cancel() };
}

function statusFrom(head: Uint8Array, detail: Uint8Array): StatusObject {
  const bytes = bufferView(head);
  const metadata = new Metadata();
  if (detail.length > 0) metadata.set(DETAILS_KEY, Buffer.from(detail));
  if (bytes.length < 4) throw new FrameError("bulk frame: a status without a code");
  return { code: bytes.readInt32BE(0) as Code, details: bytes.toString("utf8", 4), metadata };
}
