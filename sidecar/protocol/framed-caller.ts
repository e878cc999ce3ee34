/**
 * Opens framed calls, and remembers who takes none: a process of a build before them, which gets
 * the rpcs of the same names over gRPC.
 */
import type { Clock, Timer } from "../lib/ports/clock.ts";
import { type DuplexCall, TransportError } from "../lib/ports/duplex-call.ts";
import { LIMITS } from "../limits.ts";
import { type Address, splitAddress } from "./address.ts";
import type { FramedCall } from "./framed-calls.ts";
import { errorOfFramedStatus, FramedStream, type FrameSocket } from "./framed-stream.ts";
import { callerStreamCall, failedCall } from "./stream-call.ts";

/** After that a process may have been upgraded. */
const REFUSED_MS = 60_000;
/** How often a connection is looked at before it counts as not made. */
const CONNECT_LOOKS = 3;

/** A call that was opened. */
export interface OpenedCall<Out, In> {
  readonly call: DuplexCall<Out, In>;
  /** True once it has ended because the other side takes no frames. */
  readonly isRefused: () => boolean;
  /** True once it has ended because no connection was made in time: nobody refused one either. */
  readonly isUnanswered: () => boolean;
}

/** See the file's header. */
export class FramedCaller {
  readonly #clock: Clock;
  readonly #connect: (address: Address) => FrameSocket;
  readonly #calls = new Set<DuplexCall<never, unknown>>();
  /** Which call at which address was refused, and until when that is remembered. */
  readonly #refused = new Map<string, number>();

  /** `connect` begins to connect; what is written meanwhile goes out afterwards. */
  constructor(clock: Clock, connect: (address: Address) => FrameSocket) {
    this.#clock = clock;
    this.#connect = connect;
  }

  /**
   * Opens a call, to be written to at once; it fails with TransportError where `address` is no
   * host:port. Null: the other side took none of its kind lately. One that takes none ends this
   * call with TransportError, and the next gets null. `signal`, when given, cancels the call.
   */
  open<Out, In>(
    framed: FramedCall<Out, In>,
    address: string,
    openHead: Uint8Array,
    signal?: AbortSignal,
  ): OpenedCall<Out, In> | null {
    const at = splitAddress(address);
    if (at === null) {
      const error = new TransportError(`address is ${JSON.stringify(address)}; allowed: host:port`);
      return { call: failedCall(error), isRefused: () => false, isUnanswered: () => false };
    }
    const key = `${framed.caller.preface.toString("latin1")} ${address}`;
    if ((this.#refused.get(key) ?? 0) > this.#clock.monotonicMs()) return null;
    const socket = this.#connect(at);
    const isUnanswered = this.#bound(socket, address);
    const stream = new FramedStream(socket, framed.caller, openHead, this.#clock);
    const call = callerStreamCall(stream, errorOfFramedStatus, signal);
    this.#calls.add(call);
    stream.once("status", () => {
      this.#calls.delete(call);
      if (stream.foreign) this.#remember(key);
    });
    return { call, isRefused: () => stream.foreign, isUnanswered };
  }

  /** Cancels all calls. */
  close(): void {
    for (const call of this.#calls) call.cancel();
  }

  /**
   * Ends what is not connected in time; the function says whether it did. Where this process is
   * late, a connection may be made and lie there unseen: that is one look, and what lies there is
   * seen before the next.
   */
  #bound(socket: FrameSocket, address: string): () => boolean {
    const { connectTimeoutMs } = LIMITS;
    let ended = false;
    const look = (left: number): Timer =>
      this.#clock.timer(connectTimeoutMs / CONNECT_LOOKS, () => {
        ended = left === 1;
        if (!ended) late = look(left - 1);
        else socket.destroy(new Error(`no connection to ${address} within ${connectTimeoutMs} ms`));
      });
    let late = look(CONNECT_LOOKS);
    const done = (): void => late.cancel();
    socket.once("connect", done);
    socket.once("close", done);
    return () => ended;
  }

  #remember(key: string): void {
    // To be told once more costs one connection.
    if (this.#refused.size >= LIMITS.framesRefusedMax) this.#refused.clear();
    this.#refused.set(key, this.#clock.monotonicMs() + REFUSED_MS);
  }
}
