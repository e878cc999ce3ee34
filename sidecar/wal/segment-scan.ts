import type { LogPosition, Offset } from "../protocol/entry.ts";
import { FileWindow } from "./file-window.ts";
import type { LogControl } from "./marks.ts";
import {
  decodeRecord,
  decodeValueBytes,
  mayBeTorn,
  RECORD_MAGIC,
  type RecordPlace,
  recordHeaderBytes,
  SEGMENT_FORMAT,
  SEGMENT_FORMATS,
  trimmedBytes,
  type WalRecord,
} from "./segment-codec.ts";

const SEARCH_BYTES = 256 * 1024;
const ZEROS = new Uint8Array(SEARCH_BYTES);

/** What stands after the last record that continues the log. */
export interface Tail {
  /** Bytes up to the last one that is not zero; 0 is a clean end. */
  readonly dirtyBytes: number;
  /** Highest offset of a good record of this log in there; null when there is none. */
  readonly highest: Offset | null;
  /** Highest mark in those records. */
  readonly mark: Offset;
  /** The first bad record can be a write that the power loss cut short. */
  readonly mayBeTorn: boolean;
}

/** False for a record that a truncation or reset dropped. */
export function isLive(record: WalRecord, control: LogControl): boolean {
  if (record.generation >= control.generation) return true;
  return record.generation >= control.resetGeneration && record.entry.offset <= control.cut;
}

/**
 * The good record at `place`, judged alone; null when there is none. Its value is valid until
 * the next call.
 */
export async function recordAt(window: FileWindow, place: RecordPlace): Promise<WalRecord | null> {
  const { position } = place;
  const headerBytes = recordHeaderBytes(place.format ?? SEGMENT_FORMAT);
  if (!window.holds(position, headerBytes)) await window.load(position, headerBytes);
  const valueBytes = decodeValueBytes(window.view(position, headerBytes), place);
  if (valueBytes === null || position + headerBytes + valueBytes > window.size) return null;
  const bytes = headerBytes + valueBytes;
  if (!window.holds(position, bytes)) await window.load(position, bytes);
  return decodeRecord(window.view(position, bytes), place);
}

/** True when `record` is the entry after `last`. */
export function continues(record: WalRecord, last: LogPosition): boolean {
  const { entry } = record;
  return (
    entry.offset === last.offset + 1 && record.previousCrc === last.crc && entry.term >= last.term
  );
}

/**
 * Searches everything from `place` on for records that are good though what stands before them is
 * not; of every format, since the segment's header may be damaged.
 */
export async function scanTail(
  window: FileWindow,
  place: RecordPlace,
  control: LogControl,
): Promise<Tail> {
  const { position } = place;
  const dirtyEnd = await lastDirty(window, position);
  const clean = { dirtyBytes: 0, highest: null, mark: control.mark, mayBeTorn: false };
  if (dirtyEnd === position) return clean;
  const mayBeTorn = await firstBadMayBeTorn(window, place);
  let highest: Offset | null = null;
  let { mark } = control;
  let at = await nextMagic(window, position, dirtyEnd);
  while (at !== null) {
    const record = await recordInAnyFormat(window, { ...place, position: at });
    if (record !== null && isLive(record, control)) {
      highest = Math.max(highest ?? record.entry.offset, record.entry.offset);
      mark = Math.max(mark, record.mark);
    }
    at = await nextMagic(window, at + (record?.bytes ?? 1), dirtyEnd);
  }
  return { dirtyBytes: dirtyEnd - position, highest, mark, mayBeTorn };
}

async function recordInAnyFormat(
  window: FileWindow,
  place: RecordPlace,
): Promise<WalRecord | null> {
  for (const format of SEGMENT_FORMATS) {
    const record = await recordAt(window, { ...place, format });
    if (record !== null) return record;
  }
  return null;
}

async function firstBadMayBeTorn(window: FileWindow, place: RecordPlace): Promise<boolean> {
  const { position } = place;
  const headerBytes = recordHeaderBytes(place.format ?? SEGMENT_FORMAT);
  await window.load(position, headerBytes);
  const valueBytes = decodeValueBytes(window.view(position, headerBytes), place);
  // A damaged header hides how long the record was: only the header itself can be judged.
  const bytes = headerBytes + (valueBytes ?? 0);
  if (position + bytes > window.size) return true;
  if (!window.holds(position, bytes)) await window.load(position, bytes);
  return mayBeTorn(window.view(position, bytes), position, position + bytes);
}

/** Position of the next record magic in [from, end); null when there is none. */
async function nextMagic(window: FileWindow, from: number, end: number): Promise<number | null> {
  const overlap = RECORD_MAGIC.byteLength - 1;
  for (let start = from; start < end; start += SEARCH_BYTES) {
    const length = SEARCH_BYTES + overlap;
    if (!window.holds(start, length)) await window.load(start, length);
    const found = bufferOf(window.view(start, length)).indexOf(RECORD_MAGIC);
    if (found >= 0) return start + found;
  }
  return null;
}

/** End of the last byte from `position` on that is not zero; `position` when there is none. */
async function lastDirty(window: FileWindow, position: number): Promise<number> {
  let end = position;
  for (let start = position; start < window.size; start += SEARCH_BYTES) {
    if (!window.holds(start, SEARCH_BYTES)) await window.load(start, SEARCH_BYTES);
    const view = window.view(start, SEARCH_BYTES);
    // Most of it is preallocated space: comparing is many times faster than looking at each byte.
    if (bufferOf(view).equals(ZEROS.subarray(0, view.byteLength))) continue;
    end = start + trimmedBytes(view);
  }
  return end;
}

function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
