import { type ServiceError, status } from "@grpc/grpc-js";
import { DETAILS_KEY, refusalOf } from "../../sidecar/protocol/error-detail.ts";
import { type ProtocolError, type Reason, REASONS } from "../../sidecar/protocol/errors.ts";

/**
 * What went wrong, for a caller to decide on:
 * - UNKNOWN_OUTCOME: a write was sent and no answer came; it may have happened, now or later;
 * - UNAVAILABLE: nothing was done, no leader could be reached in time;
 * - REFUSED: nothing was done, and nothing will be before what `reason` names has changed: mostly
 *   the request itself, room on a volume with NO_SPACE;
 * - OVERLOADED: nothing was sent, this client holds too many requests already;
 * - ABORTED: the caller's signal fired before the request was sent;
 * - CLOSED: the client was closed before the request was sent.
 */
export type StoreErrorCode =
  | "UNKNOWN_OUTCOME"
  | "UNAVAILABLE"
  | "REFUSED"
  | "OVERLOADED"
  | "ABORTED"
  | "CLOSED";

/** Every failure of the client. `reason` is the store's refusal, where there was one. */
export class StoreError extends Error {
  override readonly name = "StoreError";
  readonly code: StoreErrorCode;
  readonly reason: string | null;
  constructor(code: StoreErrorCode, message: string, cause?: unknown) {
    super(message, { cause });
    this.code = code;
    this.reason = cause instanceof CallError ? (cause.refusal?.reason ?? null) : null;
  }
}

/**
 * What a write is refused with for now, always before it is logged. RESOURCE_UNAVAILABLE is not
 * here: it also ends writes that were logged, when a leadership or a replica ends. Where it does
 * not, its metadata says so.
 */
const BEFORE_LOGGED: ReadonlySet<Reason> = new Set<Reason>([
  "NODE_IS_NOT_LEADER",
  "NODE_IS_NOT_MEMBER",
  "NOT_INITIALIZED",
  "NO_SPACE",
  "SHARD_NOT_FOUND",
]);

/** One call that ended badly: a refusal by name, or (refusal null) the connection or a deadline. */
export class CallError extends Error {
  override readonly name = "CallError";
  readonly refusal: ProtocolError | null;
  /** The same call may succeed later or elsewhere. */
  readonly retry: boolean;
  constructor(message: string, refusal: ProtocolError | null, retry: boolean) {
    super(message);
    this.refusal = refusal;
    this.retry = retry;
  }

  /**
   * The request that it answers was refused, and certainly nothing was done. Only a refusal by name
   * says so: the library ends calls by itself, also with codes that sound like one, and then the
   * requests under way may have been done.
   */
  get nothingDone(): boolean {
    if (this.refusal === null) return false;
    if (this.refusal.metadata["outcome"] === "unknown") return false;
    if (this.nothingDoneAfter) return true;
    return !this.retry || BEFORE_LOGGED.has(this.refusal.reason);
  }

  /** Nor was anything of what was sent after that request. */
  get nothingDoneAfter(): boolean {
    return this.refusal?.metadata["outcome"] === "none";
  }
}

/** Codes that say nothing about the request, only about the way to the server. */
const TRANSPORT_CODES: readonly number[] = [
  status.CANCELLED,
  status.UNKNOWN,
  status.DEADLINE_EXCEEDED,
  status.ABORTED,
  status.INTERNAL,
  status.UNAVAILABLE,
];

/**
 * Reads an error of the gRPC library. Anything else becomes a CallError that is not worth a retry.
 */
export function callErrorOf(error: unknown): CallError {
  if (error instanceof CallError) return error;
  if (!isServiceError(error)) return new CallError(String(error), null, false);
  const detail = error.metadata.get(DETAILS_KEY)[0];
  const bytes = typeof detail === "string" ? undefined : detail;
  const refusal = refusalOf(error.code, error.details, bytes);
  if (refusal !== null) {
    return new CallError(
      `${refusal.reason}: ${refusal.message}`,
      refusal,
      REASONS[refusal.reason].retry,
    );
  }
  const name = status[error.code] ?? String(error.code);
  // The library adds a note about name resolution, mostly an empty one.
  const details = error.details.replace(/ Resolution note: $/, "");
  return new CallError(`${name}: ${details}`, null, TRANSPORT_CODES.includes(error.code));
}

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && "code" in error && "metadata" in error && "details" in error;
}
