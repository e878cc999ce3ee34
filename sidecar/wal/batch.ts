import type { LogEntry, LogPosition, Offset } from "../protocol/entry.ts";
import { encodeRecordHeader, RECORD_HEADER_BYTES, recordBytes } from "./segment-codec.ts";
import type { Segment } from "./segment.ts";

/**
 * Values up to this size are copied beside their header: one part of a write costs more than the
 * copy.
 */
const COPY_BYTES_MAX = 8 * 1024;
/** A batch ends at this size, so that its buffer stays small and those who wait hear back. */
const BATCH_BYTES_MAX = 4 * 1024 * 1024;

/** Entries to be written with one write and one sync. */
export interface Batch {
  readonly count: number;
  readonly bytes: number;
}

/** How many of `pending` go into the next batch for `segment`; 0 when the segment is full. */
export function nextBatch(
  pending: readonly LogEntry[],
  segment: Segment,
  segmentBytes: number,
): Batch {
  let count = 0;
  let bytes = 0;
  for (const entry of pending) {
    const more = bytes + recordBytes(entry.value);
    const empty = count === 0 && segment.last.offset === segment.base.offset;
    if (!empty && segment.end + more > segmentBytes) break;
    if (count > 0 && more > BATCH_BYTES_MAX) break;
    count += 1;
    bytes = more;
  }
  return { count, bytes };
}

/** What a batch's records are written with. */
export interface BatchPlace {
  readonly segment: Segment;
  /** Position of the entry before the first one. */
  readonly previous: LogPosition;
  readonly generation: number;
  readonly mark: Offset;
  readonly commit: Offset;
}

/** The parts of one write at `segment.end`. Large values are parts themselves, not copied. */
export function encodeBatch(
  entries: readonly LogEntry[],
  place: BatchPlace,
): readonly Uint8Array[] {
  const { segment, generation, mark, commit } = place;
  const buffer = Buffer.allocUnsafe(bufferBytes(entries));
  const parts: Uint8Array[] = [];
  let position = segment.end;
  let previousCrc = place.previous.crc;
  let partStart = 0;
  let at = 0;
  for (const entry of entries) {
    const record = { entry, previousCrc, generation, mark, commit };
    encodeRecordHeader(buffer, at, { firstOffset: segment.firstOffset, position }, record);
    at += RECORD_HEADER_BYTES;
    if (entry.value.byteLength <= COPY_BYTES_MAX) {
      buffer.set(entry.value, at);
      at += entry.value.byteLength;
    } else {
      parts.push(buffer.subarray(partStart, at), entry.value);
      partStart = at;
    }
    position += recordBytes(entry.value);
    previousCrc = entry.crc;
  }
  if (at > partStart) parts.push(buffer.subarray(partStart, at));
  return parts;
}

function bufferBytes(entries: readonly LogEntry[]): number {
  let bytes = 0;
  for (const { value } of entries) {
    bytes += RECORD_HEADER_BYTES + (value.byteLength <= COPY_BYTES_MAX ? value.byteLength : 0);
  }
  return bytes;
}
