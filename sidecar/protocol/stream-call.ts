/**
 * Bidirectional streams, gRPC's or of framed-stream.ts, as {@link DuplexCall}. What it guarantees
 * (part five of the seed): the receiving side always ends: by the other side's end, by its error,
 * or by cancel(), whatever the sending side is doing; the error that the other side answered with
 * wins over one of writing to it; a cancellation is no error. Messages are pulled one by one, so
 * that a slow reader slows the sender.
 */
import type { DuplexCall } from "../lib/ports/duplex-call.ts";

/** The parts of a Node stream that both ends of a call share. */
export interface ObjectStream<Out, In> {
  read(): In | null;
  write(message: Out, sent?: () => void): boolean;
  end(): unknown;
  on(event: string, listener: (...args: never[]) => void): unknown;
}

/**
 * The calling side of a stream. `errorOf`: what a status tells of, null for nothing. `signal`, when
 * given, cancels the call and is unlinked at its end.
 */
export function callerStreamCall<Out, In, Status>(
  stream: ObjectStream<Out, In> & { cancel(): void },
  errorOf: (status: Status) => Error | null,
  signal?: AbortSignal,
): DuplexCall<Out, In> {
  const core = new StreamCore<Out, In>(stream);
  const cancel = (): void => {
    core.finish(null);
    stream.cancel();
  };
  // `status` comes exactly once for each call, after the last message; `error` repeats it, or tells
  // of a failed write, which the status that follows explains better.
  stream.on("error", () => core.sendFailed());
  stream.on("status", (status: Status) => {
    signal?.removeEventListener("abort", cancel);
    core.finishAfterMessages(errorOf(status));
  });
  if (signal?.aborted === true) cancel();
  else signal?.addEventListener("abort", cancel, { once: true });
  return core.call({ fail: cancel, cancel });
}

/** The answering side of a stream. `refuse` tells the other side of an error. */
export function calleeStreamCall<Out, In>(
  stream: ObjectStream<Out, In>,
  refuse: (error: unknown) => void,
): DuplexCall<Out, In> {
  const core = new StreamCore<Out, In>(stream);
  const fail = (error: unknown): void => {
    const open = core.closeSending();
    core.finish(null);
    if (open) refuse(error);
  };
  // The other side cancelled, or the connection broke: the stream is over, and nobody can be
  // answered.
  stream.on("cancelled", () => {
    core.closeSending();
    core.finish(null);
  });
  stream.on("error", () => core.sendFailed());
  return core.call({
    fail,
    cancel: () => fail(new DOMException("cancelled by the receiver", "AbortError")),
  });
}

/** A call that has failed before anything was sent. */
export function failedCall<Out, In>(error: Error): DuplexCall<Out, In> {
  const nothing = (): void => undefined;
  return {
    write: () => true,
    drained: () => Promise.resolve(),
    messages: { [Symbol.asyncIterator]: () => ({ next: () => Promise.reject(error) }) },
    end: nothing,
    fail: nothing,
    cancel: nothing,
  };
}

/** Reading and writing of one stream. The outcome is set once; afterwards writes are dropped. */
class StreamCore<Out, In> {
  readonly #stream: ObjectStream<Out, In>;
  readonly #waiting = new Set<() => void>();
  #sendingClosed = false;
  /** No more messages will be handed out. */
  #done = false;
  /** The other side sent its last message; what is buffered is still handed out. */
  #ended = false;
  #error: Error | null = null;
  #full = false;

  constructor(stream: ObjectStream<Out, In>) {
    this.#stream = stream;
    stream.on("readable", () => this.#wake());
    stream.on("drain", () => {
      this.#full = false;
      this.#wake();
    });
    stream.on("end", () => {
      this.#ended = true;
      this.#wake();
    });
    stream.on("close", () => {
      this.#ended = true;
      this.#wake();
    });
  }

  /** The other side's last word arrived; messages before it are still handed out. */
  finishAfterMessages(error: Error | null): void {
    if (this.#done) return;
    this.#error ??= error;
    this.#ended = true;
    this.#sendingClosed = true;
    this.#wake();
  }

  /** Ends the receiving side at once; what is buffered is dropped. */
  finish(error: Error | null): void {
    if (this.#done) return;
    this.#error = error;
    this.#done = true;
    this.#wake();
  }

  /** Writing failed. Why is for the receiving side to tell. */
  sendFailed(): void {
    this.#sendingClosed = true;
    this.#wake();
  }

  /** False when it was closed before. */
  closeSending(): boolean {
    const open = !this.#sendingClosed;
    this.#sendingClosed = true;
    this.#wake();
    return open;
  }

  call(ends: {
    readonly fail: (error: Error) => void;
    readonly cancel: () => void;
  }): DuplexCall<Out, In> {
    return {
      write: (message, sent) => this.#write(message, sent),
      drained: () => this.#drained(),
      messages: { [Symbol.asyncIterator]: () => this.#iterate() },
      end: () => {
        if (this.closeSending()) this.#stream.end();
      },
      fail: ends.fail,
      cancel: ends.cancel,
    };
  }

  #write(message: Out, sent?: () => void): boolean {
    // True after the end: there is nothing to wait for, and `messages` tells what happened.
    if (this.#sendingClosed) return true;
    this.#full = !this.#stream.write(message, sent);
    return !this.#full;
  }

  async #drained(): Promise<void> {
    while (this.#full && !this.#sendingClosed && !this.#done) await this.#change();
  }

  #iterate(): AsyncIterator<In> {
    return {
      next: () => this.#next(),
      // Leaving the loop early does not cancel: the caller may still have something to write.
      return: () => Promise.resolve({ done: true, value: undefined }),
    };
  }

  async #next(): Promise<IteratorResult<In>> {
    for (;;) {
      if (this.#done) break;
      const message = this.#stream.read();
      if (message !== null) return { done: false, value: message };
      if (this.#ended) break;
      await this.#change();
    }
    this.#done = true;
    const error = this.#error;
    this.#error = null;
    if (error !== null) throw error;
    return { done: true, value: undefined };
  }

  #change(): Promise<void> {
    return new Promise((resolve) => this.#waiting.add(resolve));
  }

  #wake(): void {
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const resolve of waiting) resolve();
  }
}
