import type { BinaryReader, BinaryWriter } from "@bufbuild/protobuf/wire";
import { type DuplexCall, TransportError } from "../../sidecar/lib/ports/duplex-call.ts";
import { sameMessage } from "../../sidecar/protocol/same-message.ts";
import { plainCopy } from "./plain-copy.ts";
import { MessageReader, MessageWriter } from "./wire.ts";
import { withoutStack } from "./without-stack.ts";

/** Turns messages into bytes and back, so that nothing is shared between processes. */
export interface Codec<T> {
  encode(message: T, writer: BinaryWriter): BinaryWriter;
  decode(bytes: BinaryReader): T;
}

type Item =
  | { readonly kind: "message"; readonly bytes: Uint8Array }
  | { readonly kind: "end"; readonly error: Error | null };

/** A message and its bytes. */
interface Carried<T> {
  readonly message: T;
  readonly bytes: Uint8Array;
}

/** Carries an item to the other side: in order, later, or never. */
export type Carry = (deliver: () => void) => void;

/** One direction of a stream: a queue on the way, and one at the reader. */
export class SimLane<T> implements AsyncIterable<T> {
  readonly #codec: Codec<T>;
  readonly #window: number;
  readonly #carry: Carry;
  readonly #arrived: T[] = [];
  #inFlight = 0;
  /** The writing side has ended it. */
  #closed = false;
  #end: { readonly error: Error | null } | null = null;
  #reader: (() => void) | null = null;
  /** What was written last, and what was read: most heartbeats say what those before them said. */
  #written: Carried<T> | null = null;
  #read: Carried<T> | null = null;
  #drainWaiters: (() => void)[] = [];

  constructor(codec: Codec<T>, window: number, carry: Carry) {
    this.#codec = codec;
    this.#window = window;
    this.#carry = carry;
  }

  write(message: T): boolean {
    if (this.#closed || this.#end !== null) return false;
    if (this.#written === null || !sameMessage(this.#written.message, message)) {
      this.#written = { message, bytes: encoded(this.#codec, message) };
    }
    const { bytes } = this.#written;
    this.#inFlight += 1;
    this.#carry(() => this.#deliver({ kind: "message", bytes }));
    return this.#room;
  }

  async drained(): Promise<void> {
    if (this.#closed || this.#end !== null || this.#room) return;
    await new Promise<void>((resolve) => {
      this.#drainWaiters.push(resolve);
    });
  }

  /** The writing side ends it, after what it wrote. */
  close(error: Error | null): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#wakeWriters();
    this.#carry(() => this.#deliver({ kind: "end", error }));
  }

  /** The reading side sees its end now; what was on its way is gone. */
  cut(error: Error | null, keepArrived: boolean): void {
    if (this.#end !== null) return;
    if (!keepArrived) this.#arrived.length = 0;
    this.#end = { error };
    this.#wakeReader();
  }

  /** Its reader has been told of its end. */
  get ended(): boolean {
    return this.#end !== null;
  }

  /** The writing side gives up: nobody reads any more. */
  abandon(): void {
    this.#closed = true;
    this.#wakeWriters();
  }

  get #room(): boolean {
    return this.#inFlight + this.#arrived.length < this.#window;
  }

  /** Not a generator: of each message of a run it would make several promises more. */
  [Symbol.asyncIterator](): AsyncIterator<T, void, void> {
    return {
      next: () => this.#next(),
      return: () => Promise.resolve({ done: true, value: undefined }),
    };
  }

  #next(): Promise<IteratorResult<T, void>> {
    const message = this.#arrived.shift();
    if (message !== undefined) {
      if (this.#room) this.#wakeWriters();
      return Promise.resolve({ done: false, value: message });
    }
    if (this.#end !== null) {
      const { error } = this.#end;
      return error === null
        ? Promise.resolve({ done: true, value: undefined })
        : Promise.reject(error);
    }
    return new Promise((resolve, reject) => {
      this.#reader = () => {
        this.#next().then(resolve, reject);
      };
    });
  }

  #deliver(item: Item): void {
    if (item.kind === "message") this.#inFlight -= 1;
    if (this.#end !== null) return;
    if (item.kind === "message") this.#arrived.push(this.#decoded(item.bytes));
    else this.#end = { error: item.error };
    this.#wakeReader();
  }

  /** Each reader's own, also of bytes that came before. */
  #decoded(bytes: Uint8Array): T {
    if (this.#read?.bytes === bytes) return plainCopy(this.#read.message);
    const message = this.#codec.decode(new MessageReader(bytes));
    this.#read = { message, bytes };
    return message;
  }

  #wakeReader(): void {
    const reader = this.#reader;
    this.#reader = null;
    reader?.();
  }

  #wakeWriters(): void {
    for (const wake of this.#drainWaiters.splice(0)) wake();
  }
}

function transportError(why: string): TransportError {
  return withoutStack(() => new TransportError(why));
}

/** A writer whose buffer serves again; null while a message is being written with it. */
let spare: MessageWriter | null = null;

function encoded<T>(codec: Codec<T>, message: T): Uint8Array {
  const writer = spare ?? new MessageWriter();
  // One that threw halfway is not taken up again.
  spare = null;
  const bytes = codec.encode(message, writer).finish();
  spare = writer;
  return bytes;
}

/** Both ends of a stream over two lanes, with the rules of gRPC; see {@link DuplexCall}. */
export class SimStream<Up, Down> {
  readonly client: DuplexCall<Up, Down>;
  readonly server: DuplexCall<Down, Up>;
  readonly #up: SimLane<Up>;
  readonly #down: SimLane<Down>;
  #clientEnded = false;
  #serverEnded = false;

  constructor(up: SimLane<Up>, down: SimLane<Down>) {
    this.#up = up;
    this.#down = down;
    const cancelClient = (): void => {
      if (this.#clientEnded) return;
      this.#clientEnded = true;
      down.cut(null, false);
      down.abandon();
      up.close(transportError("cancelled by the client"));
    };
    this.client = {
      write: (message) => up.write(message),
      drained: () => up.drained(),
      messages: down,
      end: () => up.close(null),
      fail: cancelClient,
      cancel: cancelClient,
    };
    const endServer = (error: Error | null): void => {
      if (this.#serverEnded) return;
      this.#serverEnded = true;
      // Once the server has ended, nothing more of the client is read.
      up.cut(null, false);
      up.abandon();
      down.close(error);
    };
    this.server = {
      write: (message) => down.write(message),
      drained: () => down.drained(),
      messages: up,
      end: () => endServer(null),
      fail: (error) => endServer(error),
      cancel: () => endServer(transportError("cancelled by the server")),
    };
  }

  /** True when neither side has anything to expect of the other any more. */
  get over(): boolean {
    const client = this.#clientEnded || this.#down.ended;
    return client && this.overForServer;
  }

  /** True when the server has nothing to expect any more; a client that died never says so. */
  get overForServer(): boolean {
    return this.#serverEnded || this.#up.ended;
  }

  /** The client's connection is gone, as far as it knows. */
  breakClient(why: string): void {
    this.#clientEnded = true;
    this.#down.cut(transportError(why), true);
    this.#up.abandon();
  }

  /** The server's connection is gone, as far as it knows. */
  breakServer(why: string): void {
    this.#serverEnded = true;
    this.#up.cut(transportError(why), true);
    this.#down.abandon();
  }
}
