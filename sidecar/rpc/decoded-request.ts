/** Requests of the public API as they arrive: looked at strictly, then decoded. */
import { ProtocolError } from "../protocol/errors.ts";
import { WriteRequest } from "../protocol/gen/oxia-client.ts";
import { refuseMalformed } from "../protocol/strict-request.ts";

/** A request, or why its bytes are none. */
export interface DecodedRequest<Request> {
  readonly request: Request;
  /** Set when the bytes are no request that can be taken; `request` is empty then. */
  readonly malformed: ProtocolError | null;
  /** What it came as. */
  readonly bytes: number;
}

/** A write with the bytes it came as. */
export interface RawWrite extends DecodedRequest<WriteRequest> {
  /** The bytes of `request`: the log entry's content. */
  readonly raw: Uint8Array;
}

/** What a generated message type offers. */
interface Decoder<Request> {
  decode(bytes: Uint8Array): Request;
}

const decodeWriteRequest = strictly(WriteRequest, "write");

/** Decodes a WriteRequest and keeps its bytes. Never throws. */
export function decodeWrite(bytes: Buffer): RawWrite {
  return { ...decodeWriteRequest(bytes), raw: bytes };
}

/** A function that decodes requests of one type and never throws. */
export function strictly<Request>(
  codec: Decoder<Request>,
  kind: Parameters<typeof refuseMalformed>[1],
): (bytes: Buffer) => DecodedRequest<Request> {
  const refused = (bytes: Buffer, malformed: ProtocolError): DecodedRequest<Request> => ({
    request: codec.decode(new Uint8Array(0)),
    malformed,
    bytes: bytes.byteLength,
  });
  return (bytes) => {
    const malformed = refuseMalformed(bytes, kind);
    if (malformed !== null) return refused(bytes, malformed);
    try {
      return { request: codec.decode(bytes), malformed, bytes: bytes.byteLength };
    } catch (error) {
      return refused(bytes, undecodable(error));
    }
  };
}

/** A number is too big: the decoder does not say which. */
function undecodable(error: unknown): ProtocolError {
  const found = error instanceof Error ? error.message : String(error);
  return new ProtocolError(
    "INVALID_ARGUMENT",
    `request cannot be decoded: ${found}; allowed: numbers within -(2^53 - 1) to 2^53 - 1`,
    { field: "request", value: found, allowed: "numbers within -(2^53 - 1) to 2^53 - 1" },
  );
}
