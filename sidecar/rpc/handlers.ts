/**
 * What every rpc handler needs: time it, answer errors by the table, and stop when the caller has
 * gone.
 */
import type { Metadata, sendUnaryData, ServerUnaryCall, ServerWritableStream } from "@grpc/grpc-js";
import { InvariantError } from "../lib/assert.ts";
import type { Clock } from "../lib/ports/clock.ts";
import type { DuplexCall } from "../lib/ports/duplex-call.ts";
import type { Logger } from "../lib/ports/logger.ts";
import type { NodeMetrics } from "../lib/ports/metrics.ts";
import { ProtocolError } from "../protocol/errors.ts";
import { type Audience, outcomeName, serviceErrorOf } from "./status-map.ts";

/** What handlers share. `audience` decides the form of refusals. */
export interface HandlerContext {
  readonly audience: Audience;
  readonly clock: Clock;
  readonly metrics: NodeMetrics;
  readonly logger: Logger;
}

/**
 * A unary rpc. The signal aborts when the caller cancels, its deadline passes or its connection
 * breaks.
 */
export function unary<Request, Response>(
  context: HandlerContext,
  rpc: string,
  handle: (request: Request, signal: AbortSignal, metadata: Metadata) => Promise<Response>,
): (call: ServerUnaryCall<Request, Response>, answer: sendUnaryData<Response>) => void {
  return (call, answer) => {
    const done = measure(context, rpc);
    const signal = callerSignal(call);
    // Within a promise, so that a handler that throws at once is answered like one that rejects.
    const response = new Promise<Response>((resolve) => {
      resolve(handle(call.request, signal, call.metadata));
    });
    response.then(
      (message) => {
        done(null);
        answer(null, message);
      },
      (error: unknown) => {
        done(error);
        answer(serviceErrorOf(error, context.audience));
      },
    );
  };
}

/**
 * A server-streaming rpc: `handle` writes to the call, and returns when everything is written. The
 * signal aborts as that of {@link unary}.
 */
export function serverStream<Request, Response>(
  context: HandlerContext,
  rpc: string,
  handle: (call: ServerWritableStream<Request, Response>, signal: AbortSignal) => Promise<void>,
): (call: ServerWritableStream<Request, Response>) => void {
  return (call) => {
    const done = measure(context, rpc);
    const signal = callerSignal(call);
    const finished = new Promise<void>((resolve) => {
      resolve(handle(call, signal));
    });
    finished.then(
      () => {
        done(null);
        call.end();
      },
      (error: unknown) => {
        done(error);
        if (!call.cancelled) call.emit("error", serviceErrorOf(error, context.audience));
      },
    );
  };
}

/** Serves a stream until `serve` has done with it, and tells the caller how that ended. */
export function serveCall(
  context: HandlerContext,
  rpc: string,
  call: DuplexCall<never, unknown>,
  serve: () => Promise<void>,
): void {
  const done = measure(context, rpc);
  // Within a promise, so that what throws at once is answered like what rejects.
  const served = new Promise<void>((resolve) => {
    resolve(serve());
  });
  served.then(
    () => {
      done(null);
      call.end();
    },
    (error: unknown) => {
      done(error);
      call.fail(error instanceof Error ? error : new Error(String(error)));
    },
  );
}

/** Aborts when the caller has gone. */
function callerSignal(call: { on(event: "cancelled", gone: () => void): unknown }): AbortSignal {
  const caller = new AbortController();
  call.on("cancelled", () => caller.abort(new DOMException("call cancelled", "AbortError")));
  return caller.signal;
}

/** Starts timing one request; call the result once with what it failed with, or null. */
export function measure(context: HandlerContext, rpc: string): (error: unknown) => void {
  const startMs = context.clock.monotonicMs();
  return (error) => {
    const seconds = (context.clock.monotonicMs() - startMs) / 1_000;
    const outcome = error === null ? "OK" : outcomeName(error);
    context.metrics.request(rpc, outcome, seconds);
    if (outcome === "INTERNAL") logInternal(context.logger, rpc, error);
  };
}

/** Resolves when the stream takes more, or nobody reads it any more. */
export function drained(call: ServerWritableStream<unknown, unknown>): Promise<void> {
  if (call.cancelled || !call.writableNeedDrain) return Promise.resolve();
  return new Promise((resolve) => {
    const settle = (): void => {
      call.removeListener("drain", settle);
      call.removeListener("cancelled", settle);
      call.removeListener("close", settle);
      resolve();
    };
    call.on("drain", settle);
    call.on("cancelled", settle);
    call.on("close", settle);
  });
}

/** A number of the request's metadata; a clear refusal when it is absent or no number. */
export function metadataInteger(metadata: Metadata, key: string): number {
  const text = metadataText(metadata, key);
  const value = Number(text);
  if (text === undefined || !/^-?\d{1,16}$/u.test(text) || !Number.isSafeInteger(value)) {
    throw new ProtocolError(
      "INVALID_ARGUMENT",
      `metadata ${key} is ${text === undefined ? "absent" : JSON.stringify(text)}; ` +
        "allowed: a whole number",
      { field: key, value: text ?? "", allowed: "a whole number" },
    );
  }
  return value;
}

/** A text of the request's metadata; undefined when it is absent or empty. */
export function metadataText(metadata: Metadata, key: string): string | undefined {
  const value = metadata.get(key)[0];
  return typeof value === "string" && value !== "" ? value : undefined;
}

function logInternal(logger: Logger, rpc: string, error: unknown): void {
  const broken = error instanceof InvariantError;
  logger.error("request failed for a reason that is not the caller's", {
    rpc,
    broken,
    error: error instanceof Error ? (error.stack ?? error.message) : String(error),
  });
}
