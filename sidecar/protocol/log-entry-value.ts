import { LogEntryValue } from "./gen/resilver.ts";
import type { LogEntry } from "./entry.ts";
import type { WriteRequest } from "./gen/oxia-client.ts";

function varintBytes(value: number): number {
  let bytes = 1;
  for (let rest = value; rest >= 128; rest = Math.floor(rest / 128)) bytes += 1;
  return bytes;
}

function putVarint(into: Uint8Array, at: number, value: number): number {
  let rest = value;
  let position = at;
  while (rest >= 128) {
    into[position++] = (rest % 128) + 128;
    rest = Math.floor(rest / 128);
  }
  into[position++] = rest;
  return position;
}

/**
 * The bytes of a LogEntryValue that holds one WriteRequest, given that request's own bytes: the
 * request is copied once and never encoded again.
 */
export function wrapWriteRequest(raw: Uint8Array): Uint8Array {
  const innerBytes = 1 + varintBytes(raw.length) + raw.length;
  const value = new Uint8Array(1 + varintBytes(innerBytes) + innerBytes);
  // Field 1, length-delimited, twice: LogEntryValue.requests, WriteRequests.writes.
  value[0] = 10;
  let at = putVarint(value, 1, innerBytes);
  value[at++] = 10;
  at = putVarint(value, at, raw.length);
  value.set(raw, at);
  return value;
}

/**
 * The write requests of an entry; empty for control entries. Values are views of the entry's bytes.
 */
export function writesOf(entry: Pick<LogEntry, "value">): readonly WriteRequest[] {
  const { value } = LogEntryValue.decode(entry.value);
  return value?.$case === "requests" ? value.value.writes : [];
}
