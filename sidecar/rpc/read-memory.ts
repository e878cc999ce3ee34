/**
 * What reads keep in memory: their requests, and the pages of their answers that are made and have
 * not left. Clients that do not take their answers would keep both as long as they stay connected,
 * and there may be any number of them.
 */
import { constants, type ServerHttp2Stream } from "node:http2";
import type { Clock, Timer } from "../lib/ports/clock.ts";
import { LIMITS } from "../limits.ts";
import { ProtocolError } from "../protocol/errors.ts";

/** A call as far as it is counted here. The library says `cancelled` at any end of it. */
export interface CountedCall {
  readonly cancelled: boolean;
  on(event: "cancelled", over: () => void): unknown;
}

/** More than a call without content takes. */
const CALL_BYTES = 1024;

/** One for the whole process: its reads together stay below `readBytesMax`. */
export class ReadMemory {
  readonly #clock: Clock;
  /** Those with pages under way; the one that has waited longest for its reader is the first. */
  readonly #sending = new Set<ReadHold>();
  #bytes = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Bytes that are counted now. */
  get bytes(): number {
    return this.#bytes;
  }

  /**
   * Counts a call until it is over, which may be long after its handler is done. Throws
   * RESOURCE_UNAVAILABLE when there is no room.
   */
  hold(call: CountedCall, requestBytes: number): ReadHold {
    if (call.cancelled) throw new DOMException("call cancelled", "AbortError");
    const hold = new ReadHold(call, this.#clock, this.#sending, (bytes) => this.#add(bytes));
    hold.take(CALL_BYTES + requestBytes);
    call.on("cancelled", () => hold.over());
    return hold;
  }

  #add(bytes: number): void {
    if (bytes > 0) this.#makeRoom(bytes);
    this.#bytes += bytes;
  }

  /** Who does not take what it asked for makes room for those who do. */
  #makeRoom(bytes: number): void {
    const stalledMs = this.#clock.monotonicMs() - LIMITS.readStallMs;
    for (const hold of this.#sending) {
      if (this.#bytes + bytes <= LIMITS.readBytesMax || hold.progressMs > stalledMs) break;
      hold.end();
    }
    if (this.#bytes + bytes <= LIMITS.readBytesMax) return;
    const allowed = `at most ${LIMITS.readBytesMax} bytes`;
    throw new ProtocolError(
      "RESOURCE_UNAVAILABLE",
      `reads keep ${this.#bytes} bytes in memory, this one needs ${bytes}; allowed: ${allowed}`,
      { field: "bytes of reads", value: String(this.#bytes), allowed },
    );
  }
}

/** The share of one call. */
export class ReadHold {
  readonly #call: CountedCall;
  readonly #clock: Clock;
  readonly #sending: Set<ReadHold>;
  readonly #add: (bytes: number) => void;
  #bytes = 0;
  #pages = 0;
  #progressMs = 0;
  #timer: Timer | null = null;
  #over = false;

  constructor(
    call: CountedCall,
    clock: Clock,
    sending: Set<ReadHold>,
    add: (bytes: number) => void,
  ) {
    this.#call = call;
    this.#clock = clock;
    this.#sending = sending;
    this.#add = add;
  }

  /** When a page last left, or the first one was made. */
  get progressMs(): number {
    return this.#progressMs;
  }

  /** Throws RESOURCE_UNAVAILABLE when there is no room. */
  take(bytes: number): void {
    if (this.#over) return;
    this.#add(bytes);
    // It may have made room itself.
    if (this.#over) this.#add(-bytes);
    else this.#bytes += bytes;
  }

  /** A page is about to be sent; throws as `take`. */
  page(bytes: number): void {
    this.take(bytes);
    this.#pages += 1;
    if (this.#pages === 1) this.#watch();
  }

  /** A page has left. */
  left(bytes: number): void {
    if (this.#over) return;
    this.#bytes -= bytes;
    this.#add(-bytes);
    this.#pages -= 1;
    this.#watch();
  }

  /** Ends the call when its reader takes nothing of what is under way for too long. */
  #watch(): void {
    this.#timer?.cancel();
    this.#timer = null;
    this.#sending.delete(this);
    if (this.#pages === 0 || this.#over) return;
    this.#progressMs = this.#clock.monotonicMs();
    this.#sending.add(this);
    this.#timer = this.#clock.timer(LIMITS.readViewMsMax, () => this.end());
  }

  /** Ends the call at once, with what it has not sent: its status would wait behind that. */
  end(): void {
    this.over();
    resetStream(this.#call);
  }

  /** The call is over; may be called twice. */
  over(): void {
    if (this.#over) return;
    this.#over = true;
    this.#watch();
    this.#add(-this.#bytes);
  }
}

/**
 * The library ends a call behind all that was written, which a reader that has stalled never lets
 * leave. This reaches into its fields, as server.ts does; a test watches them.
 */
function resetStream(call: CountedCall): void {
  const inner: unknown = Reflect.get(call, "call");
  if (typeof inner !== "object" || inner === null) return;
  const stream = Reflect.get(inner, "stream") as Partial<ServerHttp2Stream> | undefined;
  stream?.close?.(constants.NGHTTP2_CANCEL);
}
