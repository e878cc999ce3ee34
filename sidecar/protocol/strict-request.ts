/**
 * A strict look at the bytes of a client's request, before they are decoded. The generated decoder
 * stops without a word at tag 0 or an end of a group, lets a nested message run past its own end,
 * and makes one and the same character of all bytes that are no UTF-8, so that several keys become
 * one. What a write's bytes are made into depends on where they stand, too; they become a log entry
 * as they are (D1), so they must mean one thing only.
 */
import { isUtf8 } from "node:buffer";
import { LIMITS } from "../limits.ts";
import { ProtocolError } from "./errors.ts";

/** A message type: its name where it is used, and by field number what needs a look within it. */
interface MessageShape {
  readonly name: string;
  readonly nested: readonly (MessageShape | undefined)[];
  /** Names of the fields that are text. */
  readonly texts: readonly (string | undefined)[];
  /** The bound of the messages within it, and what they are called together. */
  readonly nestedMax: number;
  readonly counted: string;
  /** The field of packed varints; 0 when there is none. */
  readonly packed: number;
}

/** What is wrong with some bytes, and where. */
interface Fault {
  readonly field: string;
  readonly at: number;
  readonly found: string;
  readonly allowed: string;
}

const WHOLE_FIELDS = "whole fields of wire types 0, 1, 2 and 5 to the end of the message";

const VARINT = 0;
const FIXED64 = 1;
const LENGTH_DELIMITED = 2;
const FIXED32 = 5;
/** The lowest tag: field 1, varint. Below are those that end the generated decoder. */
const TAG_MIN = 8;
const VARINT32_BYTES_MAX = 5;
const VARINT64_BYTES_MAX = 10;
const UINT32_MAX = 0xffff_ffff;
const SHORT_TEXT_BYTES = 128;
/** Of text in an error. */
const SHOWN_BYTES = 32;

const INDEX = shape("secondary_indexes", { 1: "index_name", 2: "secondary_key" });
const PUT_TEXTS = { 1: "key", 5: "client_identity", 6: "partition_key" };
const PUT = { ...shape("puts", PUT_TEXTS, { 8: INDEX }), packed: 7 };
const DELETE = shape("deletes", { 1: "key", 3: "partition_key" });
const DELETE_RANGE = shape("delete_ranges", { 1: "start_inclusive", 2: "end_exclusive" });
const GET = shape("gets", { 1: "key", 4: "secondary_index_name" });
const RANGE_TEXTS = { 2: "start_inclusive", 3: "end_exclusive", 4: "secondary_index_name" };

/** The requests whose bytes are looked at. */
const REQUESTS = {
  write: shape("request", {}, { 2: PUT, 3: DELETE, 4: DELETE_RANGE }),
  read: { ...shape("request", {}, { 2: GET }), nestedMax: LIMITS.readGetsMax, counted: "gets" },
  range: shape("request", RANGE_TEXTS),
};

function shape(
  name: string,
  texts: Readonly<Record<number, string>>,
  nested: Readonly<Record<number, MessageShape>> = {},
): MessageShape {
  const bound = { nestedMax: LIMITS.writeOperationsMax, counted: "operations" };
  return { name, texts: byField(texts), nested: byField(nested), packed: 0, ...bound };
}

function byField<T>(fields: Readonly<Record<number, T>>): readonly (T | undefined)[] {
  const length = Math.max(-1, ...Object.keys(fields).map(Number)) + 1;
  return Array.from({ length }, (_, number) => fields[number]);
}

/**
 * Null when `bytes` are whole fields to the last byte, of wire types that fields of proto3 have,
 * with text that is UTF-8, and so are the messages within, and those are not too many; else the
 * refusal, which names the message and the place. `range` is List and RangeScan.
 */
export function refuseMalformed(
  bytes: Uint8Array,
  request: keyof typeof REQUESTS,
): ProtocolError | null {
  const fault = scan(bytes, 0, bytes.length, REQUESTS[request]);
  if (fault === null) return null;
  const { field, found, allowed } = fault;
  return new ProtocolError(
    "INVALID_ARGUMENT",
    `${field} has ${found} at byte ${fault.at} of the request; allowed: ${allowed}`,
    { field, value: found, allowed },
  );
}

function scan(bytes: Uint8Array, from: number, end: number, shape: MessageShape): Fault | null {
  let position = from;
  // Counted before anything is decoded: that takes a second for what fits into a message.
  let operations = 0;
  while (position < end) {
    const start = position;
    const tag = varint32(bytes, start, end);
    if (tag < TAG_MIN) return fault(shape, start, tag < 0 ? "no whole tag" : `tag ${tag}`);
    position = varintEnd;
    switch (tag & 7) {
      case VARINT:
        position = endOfVarint64(bytes, position, end);
        break;
      case FIXED64:
        position += 8;
        break;
      case FIXED32:
        position += 4;
        break;
      case LENGTH_DELIMITED: {
        const length = varint32(bytes, position, end);
        const content = varintEnd;
        position = length < 0 ? end + 1 : content + length;
        if (position > end) break;
        const inner = shape.nested[tag >>> 3];
        if (inner === undefined) {
          const wrong = contentFault(bytes.subarray(content, position), shape, tag >>> 3, start);
          if (wrong !== null) return wrong;
          break;
        }
        operations += 1;
        if (operations > shape.nestedMax) return tooMany(shape, start);
        const within = scan(bytes, content, position, inner);
        if (within !== null) return within;
        break;
      }
      default:
        return fault(shape, start, `tag ${tag} of wire type ${tag & 7}`);
    }
    if (position > end) return fault(shape, start, `field ${tag >>> 3} without an end`);
  }
  return null;
}

function fault({ name }: MessageShape, at: number, found: string): Fault {
  return { field: name, at, found, allowed: WHOLE_FIELDS };
}

function tooMany({ name, nestedMax: max, counted }: MessageShape, at: number): Fault {
  return { field: name, at, found: `more than ${max} ${counted}`, allowed: `at most ${max}` };
}

/** What is wrong with the content of a field that is text or packed numbers. */
function contentFault(
  bytes: Uint8Array,
  shape: MessageShape,
  field: number,
  at: number,
): Fault | null {
  const text = shape.texts[field];
  if (text !== undefined && !isText(bytes)) return notText(`${shape.name}.${text}`, bytes, at);
  // The decoder reads on behind the field when the last number does not end within.
  const open = field === shape.packed && (bytes.at(-1) ?? 0) >= 128;
  return open ? fault(shape, at, "packed numbers without an end") : null;
}

/** Most text is short and ASCII, which is quicker seen here than by a call of Node's. */
function isText(bytes: Uint8Array): boolean {
  if (bytes.length <= SHORT_TEXT_BYTES) {
    let position = 0;
    while (position < bytes.length && (bytes[position] ?? 0) < 128) position++;
    if (position === bytes.length) return true;
  }
  return isUtf8(bytes);
}

function notText(field: string, text: Uint8Array, at: number): Fault {
  const shown = Buffer.from(text.subarray(0, SHOWN_BYTES)).toString("hex");
  const more = text.length > SHOWN_BYTES ? "..." : "";
  return { field, at, found: `text that is not UTF-8 (hex ${shown}${more})`, allowed: "UTF-8" };
}

/** Where the varint that {@link varint32} read last ends. */
let varintEnd = 0;

/** The varint at `from`; -1 when it does not end before `end`, or takes more than 32 bits. */
function varint32(bytes: Uint8Array, from: number, end: number): number {
  const last = Math.min(end, from + VARINT32_BYTES_MAX);
  let value = 0;
  for (let position = from, unit = 1; position < last; position++, unit *= 128) {
    const byte = bytes[position] ?? 0;
    value += (byte & 127) * unit;
    if (byte >= 128) continue;
    varintEnd = position + 1;
    return value <= UINT32_MAX ? value : -1;
  }
  return -1;
}

/** Behind the varint at `from`; beyond `end` when it does not end before, or is too long. */
function endOfVarint64(bytes: Uint8Array, from: number, end: number): number {
  const last = Math.min(end, from + VARINT64_BYTES_MAX);
  let position = from;
  while (position < last && (bytes[position] ?? 0) >= 128) position++;
  return position < last ? position + 1 : end + 1;
}
