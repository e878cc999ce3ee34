/**
 * One end of a bidirectional stream, client or server side: gRPC in production, a queue in the
 * simulator. Nothing hangs: `cancel()` (or the signal it was made with) always ends `messages`
 * (part five of the seed).
 */
export interface DuplexCall<Out, In> {
  /**
   * Queues a message. False: the transport's buffer is full, wait for `drained` before the next
   * one. `sent` is called once the message's buffers are no longer needed; not when the call ends
   * before.
   */
  write(message: Out, sent?: () => void): boolean;
  /** Resolves when the transport takes messages again, or when the call has ended. */
  drained(): Promise<void>;
  /**
   * Messages of the other side. Ends normally when that side ended or this side cancelled;
   * otherwise throws: ProtocolError for a refusal by name, TransportError for anything else. The
   * error of the receiving side wins over one of the sending side; a cancellation is no error. A
   * snapshot chunk's content may be used until the next message is asked for, and is then reused.
   */
  readonly messages: AsyncIterable<In>;
  /** Ends this side normally (half close). */
  end(): void;
  /** Server side: ends the call with a refusal. Client side: cancels. */
  fail(error: Error): void;
  /** Ends both directions at once. */
  cancel(): void;
}

/** The connection, not the peer's answer, failed. */
export class TransportError extends Error {
  override readonly name = "TransportError";
}
