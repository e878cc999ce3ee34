import type { Refusal, Reply } from "../core/effect.ts";
import type { RequestId } from "../core/input.ts";
import type { Offset } from "../protocol/entry.ts";
import { ProtocolError } from "../protocol/errors.ts";
import type { WriteResponse } from "../protocol/gen/oxia-client.ts";
import { LIMITS } from "../limits.ts";

/** Makes the error that callers see of a refusal of the core. */
export function protocolError(refusal: Refusal): ProtocolError {
  return new ProtocolError(refusal.reason, refusal.message, refusal.metadata);
}

interface Waiter<T> {
  readonly resolve: (value: T) => void;
  readonly reject: (error: Error) => void;
}

interface PendingWrite extends Waiter<WriteResponse> {
  readonly bytes: number;
  readonly startMs: number;
}

/** Requests that wait for the core's answer, and writes that wait for their entry to be applied. */
export class PendingRequests {
  readonly #cancelled: (id: RequestId, what: "order" | "read") => void;
  readonly #orders = new Map<RequestId, Waiter<Reply>>();
  readonly #reads = new Map<RequestId, Waiter<void>>();
  readonly #proposals = new Map<RequestId, PendingWrite>();
  readonly #writes = new Map<Offset, PendingWrite>();
  #writeBytes = 0;
  #nextId: RequestId = 1;

  get writes(): number {
    return this.#writes.size + this.#proposals.size;
  }

  /** Wants `cancelled` called, once, when `signal` aborts before there is an answer. */
  constructor(cancelled: (id: RequestId, what: "order" | "read") => void) {
    this.#cancelled = cancelled;
  }

  order(feed: (id: RequestId) => void, signal?: AbortSignal): Promise<Reply> {
    return this.#wait("order", this.#orders, feed, signal);
  }

  read(feed: (id: RequestId) => void, signal: AbortSignal): Promise<void> {
    return this.#wait("read", this.#reads, feed, signal);
  }

  /** Refuses beyond the bounds: a client is told to slow down rather than held in memory. */
  write(bytes: number, nowMs: number, feed: (id: RequestId) => void): Promise<WriteResponse> {
    if (
      this.writes >= LIMITS.pendingWritesMax ||
      this.#writeBytes + bytes > LIMITS.pendingWriteBytesMax
    ) {
      return Promise.reject(
        new ProtocolError("RESOURCE_UNAVAILABLE", "too many writes wait to be committed already", {
          field: "pending writes",
          value: String(this.writes),
          allowed: `up to ${LIMITS.pendingWritesMax} writes or ${LIMITS.pendingWriteBytesMax} bytes`,
          outcome: "none",
        }),
      );
    }
    return new Promise((resolve, reject) => {
      const id = this.#nextId++;
      this.#writeBytes += bytes;
      this.#proposals.set(id, { resolve, reject, bytes, startMs: nowMs });
      feed(id);
    });
  }

  proposed(id: RequestId, offset: Offset): void {
    const write = this.#proposals.get(id);
    if (write === undefined) return;
    this.#proposals.delete(id);
    this.#writes.set(offset, write);
  }

  /** The entry was applied; returns when its write began, null when it was none of ours. */
  applied(offset: Offset, response: WriteResponse | null): number | null {
    const write = this.#writes.get(offset);
    if (write === undefined) return null;
    this.#writes.delete(offset);
    this.#writeBytes -= write.bytes;
    write.resolve(response ?? { puts: [], deletes: [], deleteRanges: [] });
    return write.startMs;
  }

  replied(id: RequestId, reply: Reply): void {
    this.#orders.get(id)?.resolve(reply);
    this.#orders.delete(id);
  }

  released(id: RequestId): void {
    this.#reads.get(id)?.resolve();
    this.#reads.delete(id);
  }

  refused(id: RequestId, error: Error): void {
    const proposal = this.#proposals.get(id);
    if (proposal !== undefined) this.#writeBytes -= proposal.bytes;
    (this.#orders.get(id) ?? this.#reads.get(id) ?? proposal)?.reject(error);
    this.#orders.delete(id);
    this.#reads.delete(id);
    this.#proposals.delete(id);
  }

  /** Leadership ended: what the entries under way become is for the next leader to decide. */
  steppedDown(): void {
    const unknown = new ProtocolError(
      "RESOURCE_UNAVAILABLE",
      "the leadership ended before the write was acknowledged; it may or may not take effect",
      { outcome: "unknown" },
    );
    this.#rejectAll(this.#writes, unknown);
    this.#rejectAll(this.#proposals, unknown);
    this.#writeBytes = 0;
    const moved = new ProtocolError("NODE_IS_NOT_LEADER", "this replica no longer leads the shard");
    this.#rejectAll(this.#reads, moved);
  }

  close(error: Error): void {
    this.#rejectAll(this.#orders, error);
    this.#rejectAll(this.#reads, error);
    this.#rejectAll(this.#proposals, error);
    this.#rejectAll(this.#writes, error);
    this.#writeBytes = 0;
  }

  #rejectAll(waiters: Map<number, { reject(error: Error): void }>, error: Error): void {
    const all = [...waiters.values()];
    waiters.clear();
    for (const waiter of all) waiter.reject(error);
  }

  #wait<T>(
    what: "order" | "read",
    waiters: Map<RequestId, Waiter<T>>,
    feed: (id: RequestId) => void,
    signal?: AbortSignal,
  ): Promise<T> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted === true) {
        reject(signal.reason as Error);
        return;
      }
      const id = this.#nextId++;
      const aborted = (): void => {
        // It may have been answered in this very turn.
        if (waiters.delete(id)) this.#cancelled(id, what);
        reject(signal?.reason as Error);
      };
      const ended = (): void => signal?.removeEventListener("abort", aborted);
      signal?.addEventListener("abort", aborted, { once: true });
      waiters.set(id, {
        resolve: (value) => {
          ended();
          resolve(value);
        },
        reject: (error) => {
          ended();
          reject(error);
        },
      });
      feed(id);
    });
  }
}
