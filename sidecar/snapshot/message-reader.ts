/**
 * Reads a stream's messages one at a time and stops waiting the moment a signal aborts, whatever
 * the transport does then (part five of the seed: stopping always unblocks the reader).
 */
export class MessageReader<T> {
  readonly #iterator: AsyncIterator<T>;
  readonly #signal: AbortSignal;
  readonly #onAbort: () => void;
  #rejectWaiting: ((reason: unknown) => void) | null = null;

  constructor(messages: AsyncIterable<T>, signal: AbortSignal) {
    this.#iterator = messages[Symbol.asyncIterator]();
    this.#signal = signal;
    this.#onAbort = () => this.#rejectWaiting?.(signal.reason);
    signal.addEventListener("abort", this.#onAbort, { once: true });
  }

  /**
   * The next message; null when the stream ended. Rejects with the stream's error or the signal's
   * reason.
   */
  async next(): Promise<T | null> {
    this.#signal.throwIfAborted();
    try {
      const result = await new Promise<IteratorResult<T>>((resolve, reject) => {
        this.#rejectWaiting = reject;
        this.#iterator.next().then(resolve, reject);
      });
      return result.done === true ? null : result.value;
    } finally {
      this.#rejectWaiting = null;
    }
  }

  /** Lets go of the signal. */
  close(): void {
    this.#signal.removeEventListener("abort", this.#onAbort);
  }
}
