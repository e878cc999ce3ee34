import { type DuplexCall, TransportError } from "../../sidecar/lib/ports/duplex-call.ts";

/** What a test may do to messages on their way. */
export interface MemoryCallOptions<Up, Down> {
  /** Messages in flight one way before `write` says false. */
  readonly window?: number;
  /** Each client message on its way to the server: return what arrives (none, one, several). */
  readonly up?: (message: Up) => readonly Up[];
  readonly down?: (message: Down) => readonly Down[];
}

/** Both ends of an in-memory stream, and a way to cut it. */
export interface MemoryCallPair<Up, Down> {
  readonly client: DuplexCall<Up, Down>;
  readonly server: DuplexCall<Down, Up>;
  /** The connection breaks: both ends see a TransportError after what had arrived. */
  sever(): void;
}

/**
 * A pair of connected calls with the rules of gRPC: half close each way, a refusal of the server or
 * a cancellation of the client ends both ways, and nothing hangs.
 */
export function memoryCall<Up, Down>(
  options: MemoryCallOptions<Up, Down> = {},
): MemoryCallPair<Up, Down> {
  const window = options.window ?? 16;
  const up = new Lane<Up>(window, options.up);
  const down = new Lane<Down>(window, options.down);
  const client: DuplexCall<Up, Down> = {
    write: (message) => up.write(message),
    drained: () => up.drained(),
    messages: down,
    end: () => up.end(null),
    fail: () => cancelClient(),
    cancel: () => cancelClient(),
  };
  function cancelClient(): void {
    down.abandon();
    up.end(new TransportError("cancelled by the client"));
  }
  const server: DuplexCall<Down, Up> = {
    write: (message) => down.write(message),
    drained: () => down.drained(),
    messages: up,
    end: () => {
      down.end(null);
      // As in gRPC: once the server has ended, nothing more of the client is read.
      up.abandon();
    },
    fail: (error) => {
      down.end(error);
      up.abandon();
    },
    cancel: () => {
      down.end(new TransportError("cancelled by the server"));
      up.abandon();
    },
  };
  const sever = (): void => {
    up.end(new TransportError("connection lost"));
    down.end(new TransportError("connection lost"));
  };
  return { client, server, sever };
}

/** One direction: a queue with an end. */
class Lane<T> implements AsyncIterable<T> {
  readonly #window: number;
  readonly #alter: ((message: T) => readonly T[]) | undefined;
  readonly #queue: T[] = [];
  readonly #drainWaiters: (() => void)[] = [];
  #reader: (() => void) | null = null;
  #ended: { readonly error: Error | null } | null = null;

  constructor(window: number, alter?: (message: T) => readonly T[]) {
    this.#window = window;
    this.#alter = alter;
  }

  write(message: T): boolean {
    if (this.#ended !== null) return false;
    // A message is bytes on a wire: nobody can change it afterwards.
    const sent = structuredClone(message);
    this.#queue.push(...(this.#alter?.(sent) ?? [sent]));
    this.#wake();
    return this.#queue.length < this.#window;
  }

  async drained(): Promise<void> {
    if (this.#ended !== null || this.#queue.length < this.#window) return;
    await new Promise<void>((resolve) => this.#drainWaiters.push(resolve));
  }

  /** The writing side ends; what is queued still arrives. */
  end(error: Error | null): void {
    if (this.#ended !== null) return;
    this.#ended = { error };
    this.#wake();
    this.#drain();
  }

  /** The reading side is gone; an end that was there already stays what it is. */
  abandon(): void {
    this.#queue.length = 0;
    this.#ended ??= { error: null };
    this.#wake();
    this.#drain();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T, void, void> {
    for (;;) {
      const message = this.#queue.shift();
      if (message !== undefined) {
        if (this.#queue.length < this.#window) this.#drain();
        yield message;
      } else if (this.#ended !== null) {
        if (this.#ended.error !== null) throw this.#ended.error;
        return;
      } else {
        await new Promise<void>((resolve) => {
          this.#reader = resolve;
        });
      }
    }
  }

  #wake(): void {
    this.#reader?.();
    this.#reader = null;
  }

  #drain(): void {
    for (const waiter of this.#drainWaiters.splice(0)) waiter();
  }
}
