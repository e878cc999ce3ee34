/**
 * A strict look at the bytes of a WriteRequest, before they are decoded. The generated decoder
 * stops without a word at tag 0 or an end of a group, and lets a nested message run past its own
 * end; what it makes of such bytes depends on where they stand. Bytes become a log entry as they
 * are (D1), so they must mean one thing only.
 */
import { LIMITS } from "../limits.ts";
import { ProtocolError } from "./errors.ts";

/** A message type: its name where it is used, and the messages within it by field number. */
interface MessageShape {
  readonly name: string;
  readonly nested: readonly (MessageShape | undefined)[];
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

const INDEX: MessageShape = { name: "secondary_indexes", nested: [] };
const PUT: MessageShape = { name: "puts", nested: withField(8, INDEX) };
const DELETE: MessageShape = { name: "deletes", nested: [] };
const DELETE_RANGE: MessageShape = { name: "delete_ranges", nested: [] };
const WRITE_REQUEST: MessageShape = {
  name: "request",
  nested: [...withField(2, PUT), DELETE, DELETE_RANGE],
};

function withField(field: number, shape: MessageShape): readonly (MessageShape | undefined)[] {
  return Array.from({ length: field + 1 }, (_, number) => (number === field ? shape : undefined));
}

/**
 * Null when `bytes` are whole fields to the last byte, of wire types that fields of proto3 have,
 * and so are the messages within, and those are not too many; else the refusal, which names the
 * message and the place.
 */
export function refuseMalformed(bytes: Uint8Array): ProtocolError | null {
  const fault = scan(bytes, 0, bytes.length, WRITE_REQUEST);
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
        const inner = shape.nested[tag >>> 3];
        if (inner === undefined || position > end) break;
        operations += 1;
        if (operations > LIMITS.writeOperationsMax) return tooMany(shape, start);
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

function tooMany({ name }: MessageShape, at: number): Fault {
  const max = LIMITS.writeOperationsMax;
  return { field: name, at, found: `more than ${max} operations`, allowed: `at most ${max}` };
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
