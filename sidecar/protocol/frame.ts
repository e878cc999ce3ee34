/**
 * Frames of a framed stream: a header of 12 bytes (kind, three zero bytes, lengths of head and
 * content, big-endian), a head (an encoded message without its bulk bytes), the content. Bulk
 * content is read into buffers of its own, which are used again once the reader gives them back.
 */
import { LIMITS } from "../limits.ts";

/** Bytes of a preface, which a connection begins with in both directions. */
export const PREFACE_BYTES = 8;

/** What a frame is. STATUS ends a call with an error, END ends one direction normally. */
export const FRAME = Object.freeze({ OPEN: 1, MESSAGE: 2, END: 3, STATUS: 4, PING: 5 });

const KIND_MAX = FRAME.PING;
const HEADER_BYTES = 12;
/** Buffers kept for further content; as many as a full read queue and the one in use. */
const SPARE_MAX = 8;
/** A slice of the shared pool keeps all of it: worth it where a content is read and let go. */
const POOLED_BYTES_MAX = 1024;

/** The other side does not speak this protocol, or broke it. */
export class FrameError extends Error {
  override readonly name = "FrameError";
}

/** One frame. Both parts may be kept until {@link FrameReader.recycle} gets the content. */
export interface Frame {
  readonly kind: number;
  readonly head: Uint8Array;
  readonly content: Uint8Array;
}

/** The bytes that go before a frame's head. */
export function frameHeader(kind: number, headBytes: number, contentBytes: number): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUInt8(kind, 0);
  header.writeUInt32BE(headBytes, 4);
  header.writeUInt32BE(contentBytes, 8);
  return header;
}

type Part = "preface" | "header" | "head" | "content";

/** Puts frames together from whatever pieces the connection gives. */
export class FrameReader {
  readonly #spare: Buffer[] = [];
  readonly #expected: Buffer;
  readonly #preface = Buffer.alloc(PREFACE_BYTES);
  readonly #header = Buffer.alloc(HEADER_BYTES);
  /** What is being filled, how far, and what comes after it. */
  #part: Part = "preface";
  #into: Buffer = this.#preface;
  #filled = 0;
  #kind = 0;
  #contentBytes = 0;
  #head: Buffer = Buffer.alloc(0);

  /** `preface`: what the other side has to begin with. */
  constructor(preface: Buffer) {
    this.#expected = preface;
  }

  /** True once the other side has shown that it speaks this protocol. */
  get greeted(): boolean {
    return this.#part !== "preface";
  }

  /** Where the next bytes belong, for who can have them put there; never empty. */
  get room(): Buffer {
    return this.#into.subarray(this.#filled);
  }

  /** Takes the next bytes; yields each frame that they complete. Throws {@link FrameError}. */
  *push(data: Buffer): Generator<Frame, void, void> {
    let at = 0;
    while (at < data.length) {
      const count = data.copy(this.#into, this.#filled, at);
      at += count;
      yield* this.filled(count);
    }
  }

  /** As {@link push}, of bytes that are in {@link room} already. */
  *filled(count: number): Generator<Frame, void, void> {
    this.#filled += count;
    // Parts of no bytes are complete at once, hence the loop.
    while (this.#filled === this.#into.length) {
      const frame = this.#complete();
      if (frame !== null) yield frame;
      if (this.#part === "header") return;
    }
  }

  /** Gives a frame's content back: its buffer will hold another one. */
  recycle(content: Uint8Array): void {
    if (content.length <= POOLED_BYTES_MAX || this.#spare.length >= SPARE_MAX) return;
    this.#spare.push(Buffer.from(content.buffer, content.byteOffset, content.length));
  }

  #complete(): Frame | null {
    switch (this.#part) {
      case "preface":
        if (!this.#preface.equals(this.#expected)) {
          throw new FrameError(
            `the other side does not speak ${this.#expected.toString("latin1")}`,
          );
        }
        this.#begin("header", this.#header);
        return null;
      case "header":
        this.#openFrame();
        return null;
      case "head":
        this.#begin("content", this.#buffer(this.#contentBytes));
        return null;
      case "content": {
        const frame = { kind: this.#kind, head: this.#head, content: this.#into };
        this.#begin("header", this.#header);
        return frame;
      }
    }
  }

  #openFrame(): void {
    this.#kind = this.#header.readUInt8(0);
    const headBytes = this.#header.readUInt32BE(4);
    this.#contentBytes = this.#header.readUInt32BE(8);
    check("kind", this.#kind, KIND_MAX);
    check("head bytes", headBytes, LIMITS.frameHeadBytesMax);
    check("content bytes", this.#contentBytes, LIMITS.messageBytesMax);
    this.#head = Buffer.allocUnsafe(headBytes);
    this.#begin("head", this.#head);
  }

  #begin(part: Part, into: Buffer): void {
    this.#part = part;
    this.#into = into;
    this.#filled = 0;
  }

  #buffer(bytes: number): Buffer {
    if (bytes <= POOLED_BYTES_MAX) return Buffer.allocUnsafe(bytes);
    const at = this.#spare.findLastIndex((spare) => spare.length === bytes);
    // Not from the shared pool: a slice of it would keep the whole pool alive.
    return this.#spare.splice(at, at < 0 ? 0 : 1)[0] ?? Buffer.allocUnsafeSlow(bytes);
  }
}

function check(field: string, value: number, max: number): void {
  if (value <= max) return;
  throw new FrameError(`frame: ${field} is ${value}, allowed: at most ${max}`);
}
