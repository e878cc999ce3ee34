import { LIMITS } from "../limits.ts";
import { ProtocolError } from "../protocol/errors.ts";
import {
  type GetRequest,
  KeyComparisonType,
  type ListRequest,
  type PutRequest,
  type RangeScanRequest,
  type WriteRequest,
} from "../protocol/gen/oxia-client.ts";
import { VERSION_OVERRIDE_MAX } from "./version-counter.ts";

/** Longest value shown in an error. */
const SHOWN_CHARACTERS = 64;

function unimplemented(field: string, value: string): ProtocolError {
  const shown = cut(value);
  return new ProtocolError(
    "UNIMPLEMENTED",
    `${field} is set to ${shown}, which this version does not serve; it must be absent`,
    { field, value: shown, allowed: "absent" },
  );
}

function outOfRange(field: string, value: string, allowed: string): ProtocolError {
  const shown = cut(value);
  return new ProtocolError("INVALID_ARGUMENT", `${field} is ${shown}; allowed is ${allowed}`, {
    field,
    value: shown,
    allowed,
  });
}

function cut(value: string): string {
  return value.length > SHOWN_CHARACTERS ? `${value.slice(0, SHOWN_CHARACTERS)}...` : value;
}

function keyError(field: string, key: string): ProtocolError | null {
  return bytesError(field, key, LIMITS.keyBytesMax);
}

function bytesError(field: string, text: string, bytesMax: number): ProtocolError | null {
  // A character is at most three bytes of UTF-8 per unit, so most text needs no counting.
  if (text.length * 3 <= bytesMax) return null;
  const bytes = Buffer.byteLength(text);
  if (bytes <= bytesMax) return null;
  return outOfRange(field, `${bytes} bytes`, `at most ${bytesMax} bytes`);
}

function putError(put: PutRequest, field: string): ProtocolError | null {
  if (put.sessionId !== undefined) return unimplemented(`${field}.session_id`, `${put.sessionId}`);
  if (put.sequenceKeyDelta.length > 0) {
    return unimplemented(`${field}.sequence_key_delta`, `[${put.sequenceKeyDelta.join(", ")}]`);
  }
  if (put.secondaryIndexes.length > 0) {
    return unimplemented(`${field}.secondary_indexes`, `${put.secondaryIndexes.length} indexes`);
  }
  return keyError(`${field}.key`, put.key) ?? putLimitError(put, field);
}

function putLimitError(put: PutRequest, field: string): ProtocolError | null {
  if (put.value.byteLength > LIMITS.valueBytesMax) {
    const found = `${put.value.byteLength} bytes`;
    return outOfRange(`${field}.value`, found, `at most ${LIMITS.valueBytesMax} bytes`);
  }
  const identity = bytesError(
    `${field}.client_identity`,
    put.clientIdentity ?? "",
    LIMITS.clientIdentityBytesMax,
  );
  if (identity !== null) return identity;
  // Counts too: clients can take no number above 2^53 - 1, and the counts that follow must be less.
  const overrides = [
    ["override_version_id", put.overrideVersionId],
    ["override_modifications_count", put.overrideModificationsCount],
  ] as const;
  for (const [name, value] of overrides) {
    if (value === undefined || (value >= 0 && value <= VERSION_OVERRIDE_MAX)) continue;
    return outOfRange(`${field}.${name}`, `${value}`, `0 to ${VERSION_OVERRIDE_MAX}`);
  }
  return null;
}

/**
 * What must be refused before a write enters the log: features not served yet (by name), keys and
 * values over the limit. Null when the request may be logged. `entryBytes`: length of the request
 * on the wire, when known.
 */
export function refuseUnsupported(
  request: WriteRequest,
  entryBytes: number = 0,
): ProtocolError | null {
  if (entryBytes > LIMITS.entryBytesMax) {
    const allowed = `at most ${LIMITS.entryBytesMax} bytes`;
    return outOfRange("request", `${entryBytes} bytes`, allowed);
  }
  for (const [at, put] of request.puts.entries()) {
    const error = putError(put, `puts[${at}]`);
    if (error !== null) return error;
  }
  for (const [at, { key }] of request.deletes.entries()) {
    const error = keyError(`deletes[${at}].key`, key);
    if (error !== null) return error;
  }
  for (const [at, range] of request.deleteRanges.entries()) {
    const field = `delete_ranges[${at}]`;
    const error =
      keyError(`${field}.start_inclusive`, range.startInclusive) ??
      keyError(`${field}.end_exclusive`, range.endExclusive);
    if (error !== null) return error;
  }
  return null;
}

function comparisonError({ comparisonType }: GetRequest): ProtocolError | null {
  if (comparisonType >= KeyComparisonType.EQUAL && comparisonType <= KeyComparisonType.HIGHER) {
    return null;
  }
  return outOfRange("comparison_type", `${comparisonType}`, "0 (EQUAL) to 4 (HIGHER)");
}

/** The same for a read. */
export function refuseUnsupportedRead(
  request: GetRequest | ListRequest | RangeScanRequest,
): ProtocolError | null {
  if (request.secondaryIndexName !== undefined) {
    return unimplemented("secondary_index_name", request.secondaryIndexName);
  }
  if ("key" in request) return comparisonError(request) ?? keyError("key", request.key);
  return (
    keyError("start_inclusive", request.startInclusive) ??
    keyError("end_exclusive", request.endExclusive)
  );
}
