/** Streams of gRPC as {@link DuplexCall}; see stream-call.ts. */
import type { StatusObject } from "@grpc/grpc-js";
import type { DuplexCall } from "../lib/ports/duplex-call.ts";
import { calleeStreamCall, callerStreamCall, type ObjectStream } from "../protocol/stream-call.ts";
import { errorOfStatus, serviceErrorOf } from "./status-map.ts";

/** The leader's side of a stream. */
export function clientDuplexCall<Out, In>(
  stream: ObjectStream<Out, In> & { cancel(): void },
): DuplexCall<Out, In> {
  return callerStreamCall<Out, In, StatusObject>(stream, errorOfStatus);
}

/** The follower's side of a stream. */
export function serverDuplexCall<Out, In>(
  stream: ObjectStream<Out, In> & { emit(event: "error", error: Error): unknown },
): DuplexCall<Out, In> {
  return calleeStreamCall(stream, (error) => {
    stream.emit("error", serviceErrorOf(error, "peer"));
  });
}
