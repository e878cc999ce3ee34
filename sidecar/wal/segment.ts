import { assert } from "../lib/assert.ts";
import type { LogEntry, LogPosition, Offset } from "../protocol/entry.ts";
import {
  recordHeaderBytes,
  SEGMENT_FORMAT,
  SEGMENT_HEADER_BYTES,
  type SegmentFormat,
  segmentName,
} from "./segment-codec.ts";

/** One record's position is kept for every so many bytes; a read goes on from there. */
const INDEX_STEP_BYTES = 16 * 1024;

/**
 * What is known of one segment file: its entries' range, its length, and a sparse index. No I/O.
 */
export class Segment {
  readonly path: string;
  /** Position before the first entry. */
  readonly base: LogPosition;
  #format: SegmentFormat;
  #last: LogPosition;
  #end = SEGMENT_HEADER_BYTES;
  #newestTimestampMs = Number.NEGATIVE_INFINITY;
  // Parallel: offset and file position of every indexed record, ascending.
  readonly #indexOffsets: number[] = [];
  readonly #indexPositions: number[] = [];

  constructor(dir: string, base: LogPosition, format = SEGMENT_FORMAT) {
    this.path = `${dir}/${segmentName(base.offset + 1)}`;
    this.base = base;
    this.#format = format;
    this.#last = base;
  }

  get firstOffset(): Offset {
    return this.base.offset + 1;
  }

  get format(): SegmentFormat {
    return this.#format;
  }

  get isEmpty(): boolean {
    return this.#last.offset === this.base.offset;
  }

  /** False: it is of an older format, and what is appended goes into another segment. */
  get isWritable(): boolean {
    return this.#format === SEGMENT_FORMAT;
  }

  /** Position of the last entry; `base` when there is none. */
  get last(): LogPosition {
    return this.#last;
  }

  /** Length of header and records, in bytes: where the next record goes. */
  get end(): number {
    return this.#end;
  }

  /** Highest timestamp of its entries, in milliseconds; -Infinity when there is none. */
  get newestTimestampMs(): number {
    return this.#newestTimestampMs;
  }

  /** Notes that `entry` stands at `end` in the file now. */
  add(entry: LogEntry): void {
    assert(entry.offset === this.#last.offset + 1, "a segment's offsets must be gapless");
    const indexed = this.#indexPositions.at(-1);
    if (indexed === undefined || this.#end - indexed >= INDEX_STEP_BYTES) {
      this.#indexOffsets.push(entry.offset);
      this.#indexPositions.push(this.#end);
    }
    this.#end += recordHeaderBytes(this.#format) + entry.value.byteLength;
    this.#last = { term: entry.term, offset: entry.offset, crc: entry.crc };
    this.#newestTimestampMs = Math.max(this.#newestTimestampMs, entry.timestampMs);
  }

  /** Notes that the header, which no entry follows, was written anew. */
  renew(): void {
    assert(this.isEmpty, "a segment with entries keeps its format");
    this.#format = SEGMENT_FORMAT;
  }

  /**
   * Forgets everything after `last`, whose record ends at `end`. The newest timestamp stays an
   * upper bound.
   */
  cutBack(last: LogPosition, end: number): void {
    assert(
      last.offset >= this.base.offset && end <= this.#end,
      "a cut must not lengthen a segment",
    );
    while ((this.#indexOffsets.at(-1) ?? -1) > last.offset) {
      this.#indexOffsets.pop();
      this.#indexPositions.pop();
    }
    this.#last = last;
    this.#end = end;
  }

  /** File position of an indexed record at or before `offset`, and its offset. */
  locate(offset: Offset): { readonly offset: Offset; readonly position: number } {
    assert(
      offset >= this.firstOffset && offset <= this.#last.offset,
      "the segment must hold the offset",
    );
    let low = 0;
    let high = this.#indexOffsets.length - 1;
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if ((this.#indexOffsets[middle] ?? 0) <= offset) low = middle;
      else high = middle - 1;
    }
    return {
      offset: this.#indexOffsets[low] ?? this.firstOffset,
      position: this.#indexPositions[low] ?? SEGMENT_HEADER_BYTES,
    };
  }
}
