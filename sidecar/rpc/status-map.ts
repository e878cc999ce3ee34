/**
 * Refusals to gRPC statuses and back: the only place of the sidecar that names gRPC codes (WIRE.md,
 * "Errors"). Peers and the operator get the numeric code and the detail, clients of the public API
 * the standard code and the detail; a receiver recognises either.
 */
import { Metadata, type ServiceError, status as Code, type StatusObject } from "@grpc/grpc-js";
import { DiskError } from "../lib/ports/disk.ts";
import { TransportError } from "../lib/ports/duplex-call.ts";
import { DETAILS_KEY, encodeErrorDetail, refusalOf } from "../protocol/error-detail.ts";
import { ProtocolError, REASONS, type Reason } from "../protocol/errors.ts";
import { bufferView } from "../protocol/service.ts";

/**
 * Who reads the status. Clients that were released before there were details take only UNAVAILABLE
 * for a reason to try again; those that know details look at the reason, whatever the code.
 */
export type Audience = "public" | "released" | "peer";

/** A longer text would not fit into the headers that carry it. */
const MESSAGE_CHARACTERS_MAX = 1_000;
/** Of one value of the detail. An address must fit: a DNS name of 253 characters, and a port. */
const VALUE_CHARACTERS_MAX = 320;
/** Of the detail's names and values together: receivers take headers of 8 KiB, in base64. */
const METADATA_BYTES_MAX = 4_096;

/** The status that tells `error` to the other side. Any value that was thrown is accepted. */
export function statusOf(error: unknown, audience: Audience): StatusObject {
  const refusal = findRefusal(error);
  if (refusal !== null) return refusalStatus(refusal, audience);
  const message = cleanText(error instanceof Error ? error.message : String(error));
  return { code: plainCode(error), details: message, metadata: new Metadata() };
}

/** {@link statusOf} as an Error, the form that gRPC handlers answer with. */
export function serviceErrorOf(error: unknown, audience: Audience): ServiceError {
  const status = statusOf(error, audience);
  return Object.assign(new Error(status.details), status);
}

/** Short name of how a request ended, for metrics: OK, a reason, or a gRPC code's name. */
export function outcomeName(error: unknown): string {
  const refusal = findRefusal(error);
  return refusal === null ? (Code[plainCode(error)] ?? "UNKNOWN") : refusal.reason;
}

/**
 * What a call that ended with `status` failed with; null when it did not fail: OK, or a
 * cancellation, bare or wrapped in a status.
 */
export function errorOfStatus(status: {
  readonly code: number;
  readonly details: string;
  readonly metadata?: Metadata | null;
}): ProtocolError | TransportError | null {
  if (status.code === Code.OK) return null;
  const detail = status.metadata?.get(DETAILS_KEY).find((value) => Buffer.isBuffer(value));
  const refusal = refusalOf(status.code, status.details, detail);
  if (refusal !== null) return refusal;
  if (status.code === Code.CANCELLED) return null;
  return new TransportError(`${Code[status.code] ?? status.code}: ${status.details}`);
}

/**
 * Errors that wrap others: the first refusal in the order of REASONS, so that 112 wins over 102.
 */
function findRefusal(error: unknown): ProtocolError | null {
  const found = [...wrapped(error, 0)];
  if (found.length < 2) return found[0] ?? null;
  const order = Object.keys(REASONS);
  return found.reduce((a, b) => (order.indexOf(b.reason) < order.indexOf(a.reason) ? b : a));
}

const WRAP_DEPTH_MAX = 4;

function* wrapped(error: unknown, depth: number): Generator<ProtocolError> {
  if (!(error instanceof Error) || depth > WRAP_DEPTH_MAX) return;
  if (error instanceof ProtocolError) yield error;
  else if (error instanceof DiskError && error.code === "NO_SPACE") {
    yield new ProtocolError("NO_SPACE", error.message, { path: error.path });
  }
  if (error instanceof AggregateError) {
    for (const inner of error.errors) yield* wrapped(inner, depth + 1);
  }
  yield* wrapped(error.cause, depth + 1);
}

function refusalStatus(refusal: ProtocolError, audience: Audience): StatusObject {
  const entry = REASONS[refusal.reason];
  const code = codeFor(entry, audience);
  const message = cleanText(refusal.message);
  const metadata = new Metadata();
  const sent = new ProtocolError(refusal.reason, message, boundedMetadata(refusal));
  metadata.set(DETAILS_KEY, bufferView(encodeErrorDetail(code, sent)));
  return { code, details: message, metadata };
}

/** What is too long is cut, and what does not fit beside the rest is left out. */
function boundedMetadata({ metadata }: ProtocolError): Readonly<Record<string, string>> {
  const kept: (readonly [string, string])[] = [];
  let bytes = 0;
  for (const [name, value] of Object.entries(metadata)) {
    const shown = cleanText(value, VALUE_CHARACTERS_MAX);
    const size = Buffer.byteLength(name) + Buffer.byteLength(shown);
    if (bytes + size > METADATA_BYTES_MAX) continue;
    bytes += size;
    kept.push([name, shown]);
  }
  return Object.fromEntries(kept);
}

function codeFor(entry: (typeof REASONS)[Reason], audience: Audience): Code {
  // The library's type lists the standard codes only; the wire takes any number.
  if (audience === "peer" && entry.code !== null) return entry.code as Code;
  if (audience === "released" && entry.status === "ABORTED") return Code.UNAVAILABLE;
  return Code[entry.status];
}

function plainCode(error: unknown): Code {
  if (error instanceof TransportError) return Code.UNAVAILABLE;
  if (error instanceof Error && error.name === "AbortError") return Code.CANCELLED;
  return Code.INTERNAL;
}

/**
 * gRPC percent-encodes the text and throws at half a surrogate pair, which a cut key may end with.
 */
function cleanText(text: string, charactersMax = MESSAGE_CHARACTERS_MAX): string {
  const short = text.length > charactersMax ? `${text.slice(0, charactersMax)}...` : text;
  return short.replaceAll(/\p{Surrogate}/gu, "\u{FFFD}");
}
