import { InvariantError } from "../lib/assert.ts";
import type { LogEntry } from "./entry.ts";
import { WriteRequest } from "./gen/oxia-client.ts";
import { LogEntryValue } from "./gen/resilver.ts";
import { putHeader, varintBytes, wholeField } from "./length-delimited.ts";

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

/** What an entry holds. */
export type EntryContent =
  | { readonly kind: "write"; readonly request: WriteRequest }
  | { readonly kind: "barrier"; readonly lossEpoch: number };

/**
 * What an entry holds; values are views of its bytes. A request is cut out by its length and
 * decoded alone, as it was when it was admitted: nothing in a client's bytes can end the request
 * early and go on as something else, such as a control entry. Throws InvariantError for an entry
 * that nobody could have made, or that only a later version understands: it must not be applied in
 * part (R14).
 */
export function contentOf({ value, offset }: Pick<LogEntry, "value" | "offset">): EntryContent {
  if (isControlValue(value)) {
    const control = LogEntryValue.decode(value).value;
    const request = control?.$case === "controlRequest" ? control.value.request : undefined;
    if (request !== undefined) return { kind: "barrier", lossEpoch: request.value.lossEpoch };
  } else {
    const inner = wholeField(value, 0, FIELD_1);
    const raw = inner < 0 ? -1 : wholeField(value, inner, FIELD_1);
    if (raw >= 0) return { kind: "write", request: WriteRequest.decode(value.subarray(raw)) };
  }
  throw new InvariantError(
    `entry ${offset} holds neither one write request nor a control request that this version knows`,
  );
}
