import type { LogPosition, Offset } from "../protocol/entry.ts";
import { FileWindow } from "./file-window.ts";
import type { LogControl } from "./marks.ts";
import {
  decodeRecord,
  decodeValueBytes,
  mayBeTorn,
  RECORD_HEADER_BYTES,
  RECORD_MAGIC,
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
 * The good record at `position`, judged alone; null when there is none. Its value is valid until
 * the next call.
 */
export async function recordAt(
  window: FileWindow,
  firstOffset: Offset,
  position: number,
): Promise<WalRecord | null> {
  const place = { firstOffset, position };
  if (!window.holds(position, RECORD_HEADER_BYTES))
    await window.load(position, RECORD_HEADER_BYTES);
  const valueBytes = decodeValueBytes(window.view(position, RECORD_HEADER_BYTES), place);
  if (valueBytes === null || position + RECORD_HEADER_BYTES + valueBytes > window.size) return null;
  const bytes = RECORD_HEADER_BYTES + valueBytes;
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
 * Searches everything from `position` on for records that are good though what stands before them
 * is not.
 */
export async function scanTail(
  window: FileWindow,
  firstOffset: Offset,
  position: number,
  control: LogControl,
): Promise<Tail> {
  const dirtyEnd = await lastDirty(window, position);
  const clean = { dirtyBytes: 0, highest: null, mark: control.mark, mayBeTorn: false };
  if (dirtyEnd === position) return clean;
  const mayBeTorn = await firstBadMayBeTorn(window, firstOffset, position);
  let highest: Offset | null = null;
  let { mark } = control;
  let at = await nextMagic(window, position, dirtyEnd);
  while (at !== null) {
    const record = await recordAt(window, firstOffset, at);
    if (record !== null && isLive(record, control)) {
      highest = Math.max(highest ?? record.entry.offset, record.entry.offset);
      mark = Math.max(mark, record.mark);
    }
    at = await nextMagic(window, at + (record?.bytes ?? 1), dirtyEnd);
  }
  return { dirtyBytes: dirtyEnd - position, highest, mark, mayBeTorn };
}

async function firstBadMayBeTorn(
  window: FileWindow,
  firstOffset: Offset,
  position: number,
): Promise<boolean> {
  await window.load(position, RECORD_HEADER_BYTES);
  const header = window.view(position, RECORD_HEADER_BYTES);
  const valueBytes = decodeValueBytes(header, { firstOffset, position });
  // A damaged header hides how long the record was: only the header itself can be judged.
  const bytes = RECORD_HEADER_BYTES + (valueBytes ?? 0);
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
