import { assert } from "../lib/assert.ts";
import { crcOf } from "../lib/crc.ts";
import { chainCrc, type LogEntry, type LogPosition, type Offset } from "../protocol/entry.ts";

/*
 * A segment file is a 64-byte header, records without gaps, then zeros (preallocation).
 *
 * Header (big endian): magic 8 B, version u32, CRC-32C of bytes 16..63 u32, generation u32, base
 * crc u32, base term f64, base offset f64, zeros.
 *
 * Record: magic u32, header CRC u32 (bytes 8..63, seeded by the place it is written at, so that a
 * record copied elsewhere is none), value length u32, generation u32, crc of the previous entry
 * u32, crc of this entry u32, mark f64, term f64, offset f64, timestamp f64, commit f64, value.
 * With the previous crc inside, a record can be judged alone: recovery must tell a torn tail from
 * damage that valid records follow (R14).
 *
 * Format 1 is read too: its records have no commit, and their values begin 8 bytes earlier.
 * Whatever a later format changes, a segment's first 16 bytes stay as they are.
 */
/** Length of a segment's header: where its first record starts. */
export const SEGMENT_HEADER_BYTES = 64;
/** Length of a record without its value, as it is written. */
export const RECORD_HEADER_BYTES = 64;
/** What a disk writes as one: a torn write ends at a multiple of this. */
export const SECTOR_BYTES = 512;
/** First bytes of every record, for searching. */
export const RECORD_MAGIC: Uint8Array = Uint8Array.of(0x8f, 0x57, 0x52, 0xe1);
const RECORD_MAGIC_NUMBER = 0x8f5752e1;

const SEGMENT_MAGIC = new TextEncoder().encode("RSLVRWAL");
/** What a segment can be written in; each has one format from its start to its end. */
export type SegmentFormat = 1 | 2;
/** The format that is written. */
export const SEGMENT_FORMAT: SegmentFormat = 2;
/** The formats that are read. */
export const SEGMENT_FORMATS: readonly SegmentFormat[] = [2, 1];

/** What a segment's header says. `base` is the position before its first entry. */
export interface SegmentHeader {
  readonly format: SegmentFormat;
  readonly generation: number;
  readonly base: LogPosition;
}

/** A record as read: its entry, and what the log knew when it wrote it. `entry.value` is a view. */
export interface WalRecord {
  readonly entry: LogEntry;
  readonly previousCrc: number;
  readonly generation: number;
  /** Highest offset known durable when the record was written. */
  readonly mark: Offset;
  /** Highest offset known committed when the record was written (I9); -1 in format 1. */
  readonly commit: Offset;
  readonly bytes: number;
}

/** File name of the segment whose first entry is `firstOffset`. */
export function segmentName(firstOffset: Offset): string {
  return `${String(firstOffset).padStart(20, "0")}.wal`;
}

/** First offset from a file name; null when it is not a segment's. */
export function parseSegmentName(name: string): Offset | null {
  if (!/^\d{20}\.wal$/u.test(name)) return null;
  const offset = Number(name.slice(0, 20));
  return Number.isSafeInteger(offset) ? offset : null;
}

/** Length of a record without its value, in a segment of this format. */
export function recordHeaderBytes(format: SegmentFormat): number {
  return format === 1 ? 56 : RECORD_HEADER_BYTES;
}

/** The 64 bytes a segment file starts with, in the format that is written. */
export function encodeSegmentHeader(header: Omit<SegmentHeader, "format">): Uint8Array {
  const bytes = new Uint8Array(SEGMENT_HEADER_BYTES);
  const view = new DataView(bytes.buffer);
  bytes.set(SEGMENT_MAGIC);
  view.setUint32(8, SEGMENT_FORMAT);
  view.setUint32(16, header.generation);
  view.setUint32(20, header.base.crc);
  view.setFloat64(24, header.base.term);
  view.setFloat64(32, header.base.offset);
  view.setUint32(12, crcOf(bytes.subarray(16), SEGMENT_FORMAT));
  return bytes;
}

/**
 * The header at the start of `bytes`, its format for a valid one of a format that is not read, null
 * when it is damaged.
 */
export function decodeSegmentHeader(bytes: Uint8Array): SegmentHeader | number | null {
  if (bytes.byteLength < SEGMENT_HEADER_BYTES) return null;
  if (!SEGMENT_MAGIC.every((byte, index) => bytes[index] === byte)) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, SEGMENT_HEADER_BYTES);
  const version = view.getUint32(8);
  if (crcOf(bytes.subarray(16, SEGMENT_HEADER_BYTES), version) !== view.getUint32(12)) return null;
  const format = SEGMENT_FORMATS.find((known) => known === version);
  if (format === undefined) return version;
  const base = { term: view.getFloat64(24), offset: view.getFloat64(32), crc: view.getUint32(20) };
  return { format, generation: view.getUint32(16), base };
}

/** Bytes a record of this value takes, as it is written. */
export function recordBytes(value: Uint8Array): number {
  return RECORD_HEADER_BYTES + value.byteLength;
}

/** Where a record is written: part of what its header's CRC covers. */
export interface RecordPlace {
  /** First offset of the segment, from the file's name. */
  readonly firstOffset: Offset;
  /** Position in the file. */
  readonly position: number;
  /** The segment's; {@link SEGMENT_FORMAT} when absent. */
  readonly format?: SegmentFormat;
}

/** Writes the 64 bytes before the value of `record` into `into` at `at`. */
export function encodeRecordHeader(
  into: Uint8Array,
  at: number,
  place: RecordPlace,
  record: Omit<WalRecord, "bytes">,
): void {
  const { entry } = record;
  assert(at + RECORD_HEADER_BYTES <= into.byteLength, "record header must fit in its buffer");
  const view = new DataView(into.buffer, into.byteOffset + at, RECORD_HEADER_BYTES);
  view.setUint32(0, RECORD_MAGIC_NUMBER);
  view.setUint32(8, entry.value.byteLength);
  view.setUint32(12, record.generation);
  view.setUint32(16, record.previousCrc);
  view.setUint32(20, entry.crc);
  view.setFloat64(24, record.mark);
  view.setFloat64(32, entry.term);
  view.setFloat64(40, entry.offset);
  view.setFloat64(48, entry.timestampMs);
  view.setFloat64(56, record.commit);
  view.setUint32(4, crcOf(into.subarray(at + 8, at + RECORD_HEADER_BYTES), seedOf(place)));
}

/**
 * Length of the value that follows a good record header at the start of `bytes`; null when it is
 * not one.
 */
export function decodeValueBytes(bytes: Uint8Array, place: RecordPlace): number | null {
  const headerBytes = recordHeaderBytes(place.format ?? SEGMENT_FORMAT);
  if (bytes.byteLength < headerBytes) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, headerBytes);
  if (view.getUint32(0) !== RECORD_MAGIC_NUMBER) return null;
  const crc = crcOf(bytes.subarray(8, headerBytes), seedOf(place));
  return crc === view.getUint32(4) ? view.getUint32(8) : null;
}

/**
 * The record at the start of `bytes`, judged alone: header CRC, then the entry's chained CRC from
 * the previous crc it names. Null when it is damaged or cut off. That it continues the log is for
 * the caller.
 */
export function decodeRecord(bytes: Uint8Array, place: RecordPlace): WalRecord | null {
  const headerBytes = recordHeaderBytes(place.format ?? SEGMENT_FORMAT);
  const valueBytes = decodeValueBytes(bytes, place);
  if (valueBytes === null || bytes.byteLength < headerBytes + valueBytes) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, headerBytes);
  const entry: LogEntry = {
    term: view.getFloat64(32),
    offset: view.getFloat64(40),
    timestampMs: view.getFloat64(48),
    value: bytes.subarray(headerBytes, headerBytes + valueBytes),
    crc: view.getUint32(20),
  };
  const previousCrc = view.getUint32(16);
  const { term, offset, timestampMs, value } = entry;
  if (chainCrc(previousCrc, term, offset, timestampMs, value) !== entry.crc) return null;
  return {
    entry,
    previousCrc,
    generation: view.getUint32(12),
    mark: view.getFloat64(24),
    commit: place.format === 1 ? -1 : view.getFloat64(56),
    bytes: headerBytes + valueBytes,
  };
}

/**
 * True when damage within [start, end) of a file can come from sectors that were never written: one
 * of them is still as preallocated, all zero (in the part that is ours). `bytes` holds exactly that
 * range; fewer bytes mean that the file ends inside.
 */
export function mayBeTorn(bytes: Uint8Array, start: number, end: number): boolean {
  if (bytes.byteLength < end - start) return true;
  for (let from = start; from < end; ) {
    const to = Math.min(end, (Math.floor(from / SECTOR_BYTES) + 1) * SECTOR_BYTES);
    if (trimmedBytes(bytes.subarray(from - start, to - start)) === 0) return true;
    from = to;
  }
  return false;
}

/** Bytes up to and with the last one that is not zero. */
export function trimmedBytes(bytes: Uint8Array): number {
  let end = bytes.byteLength;
  while (end > 0 && bytes[end - 1] === 0) end -= 1;
  return end;
}

function seedOf(place: RecordPlace): number {
  return (place.firstOffset * 31 + place.position) >>> 0;
}
