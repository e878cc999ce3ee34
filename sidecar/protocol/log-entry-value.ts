import { LogEntryValue } from "./gen/resilver.ts";
import type { LogEntry } from "./entry.ts";
import type { WriteRequest } from "./gen/oxia-client.ts";
import { putHeader, varintBytes } from "./length-delimited.ts";

/** Field 1, length-delimited: LogEntryValue.requests and WriteRequests.writes. */
const FIELD_1 = 10;

/** Field 2, length-delimited: LogEntryValue.control_request. */
const CONTROL = 18;

/** True for the bytes of a LogEntryValue that opens a term or an ensemble change. */
export function isControlValue(value: Uint8Array): boolean {
  return value[0] === CONTROL;
}

/**
 * The bytes of a LogEntryValue that holds one WriteRequest, given that request's own bytes: the
 * request is copied once and never encoded again.
 */
export function wrapWriteRequest(raw: Uint8Array): Uint8Array {
  const innerBytes = 1 + varintBytes(raw.length) + raw.length;
  const value = new Uint8Array(1 + varintBytes(innerBytes) + innerBytes);
  const inner = putHeader(value, 0, FIELD_1, innerBytes);
  value.set(raw, putHeader(value, inner, FIELD_1, raw.length));
  return value;
}

/**
 * The write requests of an entry; empty for control entries. Values are views of the entry's bytes.
 */
export function writesOf(entry: Pick<LogEntry, "value">): readonly WriteRequest[] {
  const { value } = LogEntryValue.decode(entry.value);
  return value?.$case === "requests" ? value.value.writes : [];
}
