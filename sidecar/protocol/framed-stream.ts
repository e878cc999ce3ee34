/**
 * One call over a connection of its own, in frames: what gRPC's streams do between sidecars, at a
 * fraction of their cost (ARCHITECTURE.md, D10). It has the events and methods of gRPC's streams
 * that `stream-call.ts` uses, so that what that file guarantees holds here too.
 */
import { EventEmitter } from "node:events";
import type { Clock, Timer } from "../lib/ports/clock.ts";
import { TransportError } from "../lib/ports/duplex-call.ts";
import { LIMITS } from "../limits.ts";
import { refusalOf } from "./error-detail.ts";
import { FRAME, type Frame, FrameError, FrameReader, frameHeader } from "./frame.ts";
import { bufferView } from "./service.ts";

/** What a framed stream needs of a connection: a part of Node's Socket. */
export interface FrameSocket {
  readonly destroyed: boolean;
  write(bytes: Uint8Array, written?: (error?: Error | null) => void): unknown;
  cork(): void;
  uncork(): void;
  pause(): unknown;
  resume(): unknown;
  isPaused(): boolean;
  setNoDelay(noDelay: boolean): unknown;
  end(): unknown;
  destroy(error?: Error): unknown;
  destroySoon(): void;
  on(event: "data", listener: (data: Buffer) => void): unknown;
  on(event: "error", listener: (error: Error) => void): unknown;
  on(event: "close", listener: () => void): unknown;
  once(event: "connect" | "end" | "close", listener: () => void): unknown;
}

/** A message as a frame's two parts. */
export interface FrameParts {
  readonly head: Uint8Array;
  readonly content: Uint8Array;
}

/** How a call ended: the numbers of gRPC's statuses and of our refusals (WIRE.md, "Errors"). */
export interface FramedStatus {
  readonly code: number;
  readonly details: string;
  /** An encoded google.rpc.Status; null without one. */
  readonly detail: Uint8Array | null;
}

const CODE = Object.freeze({ OK: 0, CANCELLED: 1, UNKNOWN: 2, INTERNAL: 13, UNAVAILABLE: 14 });
const CODE_NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries(CODE).map(([name, code]) => [code, name]),
);

/** What a call failed with: ProtocolError or TransportError; null when it did not. */
export function errorOfFramedStatus({ code, details, detail }: FramedStatus): Error | null {
  if (code === CODE.OK) return null;
  const refusal = refusalOf(code, details, detail ?? undefined);
  if (refusal !== null) return refusal;
  if (code === CODE.CANCELLED) return null;
  return new TransportError(`${CODE_NAMES.get(code) ?? code}: ${details}`);
}

/** Reads the connection straight into where its bytes belong; null where that cannot be. */
export type DirectReading = (place: {
  readonly room: () => Uint8Array;
  readonly filled: (count: number) => void;
  readonly before: (data: Buffer) => void;
}) => FrameSocket | null;

/** One end of a framed protocol: how its messages become frames and back. */
export interface FramedEnd<Out, In> {
  /** What both sides begin with: says protocol and version. PREFACE_BYTES long. */
  readonly preface: Buffer;
  /** Silence of the other side after which the connection counts as broken. */
  readonly silenceMs: number;
  /** How often this side says something: several times in what the other one takes for silence. */
  readonly pingMs: number;
  /** What is read ahead of who asks for messages, one frame more at most. */
  readonly readBytesMax: number;
  /**
   * What is received is bulk: a message's content is valid until the next `read`, when its buffer
   * is used again.
   */
  readonly receivesBulk: boolean;
  readonly encode: (message: Out) => FrameParts;
  /** May throw: the connection is given up. */
  readonly decode: (head: Uint8Array, content: Uint8Array) => In;
}

const NOTHING = new Uint8Array(0);
/** How often silence is looked at, in the time that makes one. */
const LOOKS = 4;
/** A frame up to this size is one piece: to copy it costs less than to hand over three. */
const ONE_PIECE_BYTES_MAX = 8 * 1024;

interface Received<In> {
  readonly message: In;
  readonly content: Uint8Array;
  /** Of the whole frame. */
  readonly bytes: number;
}

/**
 * Events: `readable`, `drain`, `end`, `close`; at the caller's end also one `status`, at the
 * callee's `open` with the head of the first frame, and `cancelled` when the connection ends before
 * the call does. The callee ends the call with `end`, or with `refuse`.
 */
export class FramedStream<Out, In> extends EventEmitter {
  readonly #socket: FrameSocket;
  readonly #protocol: FramedEnd<Out, In>;
  readonly #clock: Clock;
  readonly #caller: boolean;
  readonly #reader: FrameReader;
  readonly #received: Received<In>[] = [];
  readonly #looks: Timer;
  #receivedBytes = 0;
  /** Content of the message that was read last; its buffer is free at the next read. */
  #lent: Uint8Array = NOTHING;
  #pendingBytes = 0;
  #full = false;
  /** Between two looks at the silence of either side. */
  readonly #lookMs: number;
  /** Looks since the other side, and this one, said something. */
  #silentLooks = 0;
  #quietLooks = 0;
  #corked = false;
  #sendingEnded = false;
  #receivingEnded = false;
  #opened = false;
  #over = false;
  #foreign = false;

  /** `openHead`: the caller's first frame; null at the callee's end. */
  constructor(
    socket: FrameSocket,
    protocol: FramedEnd<Out, In>,
    openHead: Uint8Array | null,
    clock: Clock,
    directly: DirectReading = () => null,
  ) {
    super();
    this.#protocol = protocol;
    this.#clock = clock;
    this.#reader = new FrameReader(protocol.preface);
    const direct = protocol.receivesBulk ? this.#readDirectly(directly) : null;
    this.#socket = direct ?? socket;
    this.#caller = openHead !== null;
    this.#listen(this.#socket, direct === null);
    this.#socket.write(protocol.preface);
    if (openHead !== null) this.#send(FRAME.OPEN, openHead, NOTHING);
    this.#lookMs = Math.min(protocol.silenceMs / LOOKS, protocol.pingMs);
    this.#looks = repeating(clock, this.#lookMs, () => this.#look());
  }

  #listen(socket: FrameSocket, byData: boolean): void {
    socket.setNoDelay(true);
    socket.once("end", () => this.#ungreeted());
    if (byData) socket.on("data", (data: Buffer) => this.#take(this.#reader.push(data)));
    socket.on("error", (error) => this.#broken(error));
    socket.on("close", () => this.#broken(new Error("the connection was closed")));
    socket.resume();
  }

  #readDirectly(directly: DirectReading): FrameSocket | null {
    return directly({
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
    if (this.#protocol.receivesBulk) this.#lent = next.content;
    this.#receivedBytes -= next.bytes;
    if (this.#socket.isPaused() && this.#receivedBytes <= this.#protocol.readBytesMax / 2) {
      this.#socket.resume();
    }
    return next.message;
  }

  /** False: wait for `drain` before the next one. `sent`: the kernel has the message's bytes. */
  write(message: Out, sent?: () => void): boolean {
    const { head, content } = this.#protocol.encode(message);
    this.#send(FRAME.MESSAGE, head, content, sent);
    this.#full = this.#pendingBytes >= LIMITS.framedWriteBytesMax;
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
    this.#end({ code: CODE.CANCELLED, details: "cancelled", detail: null });
    this.#socket.destroy();
  }

  #take(frames: Iterable<Frame>): void {
    if (this.#over) return;
    this.#silentLooks = 0;
    try {
      for (const frame of frames) this.#frame(frame);
    } catch (error) {
      this.#ungreeted();
      this.#broken(error as Error);
      this.#socket.destroy();
      return;
    }
    if (this.#receivedBytes >= this.#protocol.readBytesMax) this.#socket.pause();
  }

  #frame({ kind, head, content }: Frame): void {
    if (kind === FRAME.MESSAGE && (this.#caller || this.#opened)) {
      const bytes = head.length + content.length;
      this.#received.push({ message: this.#protocol.decode(head, content), content, bytes });
      this.#receivedBytes += bytes;
      this.emit("readable");
    } else if (kind === FRAME.OPEN && !this.#caller && !this.#opened) {
      this.#opened = true;
      this.emit("open", head);
    } else if (kind === FRAME.END) {
      this.#receivingEnded = true;
      this.emit("end");
      if (this.#caller) this.#end({ code: CODE.OK, details: "", detail: null });
    } else if (kind === FRAME.STATUS && this.#caller) {
      this.#end(statusFrom(head, content));
    } else if (kind !== FRAME.PING) {
      throw new FrameError(`frame: kind is ${kind}, allowed: another one here`);
    }
  }

  /** The caller's call is over, as `status` says. */
  #end(status: FramedStatus): void {
    if (this.#over) return;
    this.#finish();
    this.emit("status", status);
  }

  /** The callee's answer is an error. */
  refuse({ code, details, detail }: FramedStatus): void {
    if (this.#caller || this.#over) return;
    const head = Buffer.alloc(4);
    head.writeInt32BE(code);
    const text = Buffer.from(details, "utf8");
    this.#send(FRAME.STATUS, Buffer.concat([head, text]), detail ?? NOTHING);
    this.#finish();
  }

  #ungreeted(): void {
    if (!this.#over && !this.#reader.greeted) this.#foreign = true;
  }

  #broken(error: Error): void {
    if (this.#over) return;
    if (this.#caller) {
      const details = `framed stream: ${error.message}`;
      this.#end({ code: CODE.UNAVAILABLE, details, detail: null });
      return;
    }
    this.#finish();
    if (!this.#receivingEnded || !this.#sendingEnded) this.emit("cancelled");
    this.emit("close");
  }

  /** Lets what was written go out, for as long as a living peer needs, and reads no further. */
  #finish(): void {
    this.#over = true;
    this.#looks.cancel();
    if (!this.#socket.destroyed) {
      const gone = this.#clock.timer(this.#protocol.silenceMs, () => this.#socket.destroy());
      this.#socket.once("close", () => gone.cancel());
    }
    this.#socket.end();
    // A peer that never closes its half would keep the connection; its answer is not awaited.
    this.#socket.resume();
    if (this.#caller) this.#socket.destroySoon();
  }

  #send(kind: number, head: Uint8Array, content: Uint8Array, sent?: () => void): void {
    if (this.#over || this.#socket.destroyed) return;
    this.#quietLooks = 0;
    const bytes = head.length + content.length;
    this.#pendingBytes += bytes;
    this.#cork();
    const written = (error?: Error | null): void => {
      this.#written(bytes);
      if (!error) sent?.();
    };
    const header = frameHeader(kind, head.length, content.length);
    if (bytes <= ONE_PIECE_BYTES_MAX) {
      this.#socket.write(Buffer.concat([header, head, content]), written);
      return;
    }
    this.#socket.write(Buffer.concat([header, head]));
    this.#socket.write(bufferView(content), written);
  }

  /** What is sent in one turn leaves together. */
  #cork(): void {
    if (this.#corked) return;
    this.#corked = true;
    this.#socket.cork();
    queueMicrotask(() => {
      this.#corked = false;
      this.#socket.uncork();
    });
  }

  #written(bytes: number): void {
    this.#pendingBytes -= bytes;
    if (!this.#full || this.#pendingBytes > LIMITS.framedWriteBytesMax / 2) return;
    this.#full = false;
    this.emit("drain");
  }

  #look(): void {
    const { silenceMs, pingMs } = this.#protocol;
    // While this side does not read, silence says nothing of the other one.
    if (!this.#socket.isPaused()) this.#silentLooks++;
    if (this.#silentLooks * this.#lookMs > silenceMs) {
      this.#broken(new Error("the other side is silent"));
      this.#socket.destroy();
      return;
    }
    this.#quietLooks++;
    if (this.#quietLooks * this.#lookMs > pingMs) this.#send(FRAME.PING, NOTHING, NOTHING);
  }
}

function repeating(clock: Clock, everyMs: number, act: () => void): Timer {
  let timer: Timer | null = null;
  const arm = (): void => {
    timer = clock.timer(everyMs, () => {
      timer = null;
      arm();
      act();
    });
  };
  arm();
  return { cancel: () => timer?.cancel() };
}

function statusFrom(head: Uint8Array, detail: Uint8Array): FramedStatus {
  const bytes = bufferView(head);
  if (bytes.length < 4) throw new FrameError("frame: a status without a code");
  return {
    code: bytes.readInt32BE(0),
    details: bytes.toString("utf8", 4),
    detail: detail.length === 0 ? null : detail,
  };
}
