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

const SEARCH_BYTES = 1024 * 1024;

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

/** The good record at `position`, judged alone; null when there is none. Its value is valid until the next call. */
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

/** Searches everything from `position` on for records that are good though what stands before them is not. */
export async function scanTail(
  window: FileWindow,
  firstOffset: Offset,
  position: number,
  control: LogControl,
): Promise<Tail> {
  const torn = await firstBadMayBeTorn(window, firstOffset, position);
  let highest: Offset | null = null;
  let mark = control.mark;
  let at = await nextMagic(window, position);
  while (at !== null) {
    const record = await recordAt(window, firstOffset, at);
    if (record !== null && isLive(record, control)) {
      highest = Math.max(highest ?? record.entry.offset, record.entry.offset);
      mark = Math.max(mark, record.mark);
    }
    at = await nextMagic(window, at + (record?.bytes ?? 1));
  }
  return { dirtyBytes: await dirtyBytes(window, position), highest, mark, mayBeTorn: torn };
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

/** Position of the next record magic from `from` on; null when there is none. */
async function nextMagic(window: FileWindow, from: number): Promise<number | null> {
  const overlap = RECORD_MAGIC.byteLength - 1;
  for (let start = from; start < window.size; start += SEARCH_BYTES) {
    const length = SEARCH_BYTES + overlap;
    if (!window.holds(start, length)) await window.load(start, length);
    const view = window.view(start, length);
    const found = Buffer.from(view.buffer, view.byteOffset, view.byteLength).indexOf(RECORD_MAGIC);
    if (found >= 0) return start + found;
  }
  return null;
}

async function dirtyBytes(window: FileWindow, position: number): Promise<number> {
  let dirty = 0;
  for (let start = position; start < window.size; start += SEARCH_BYTES) {
    if (!window.holds(start, SEARCH_BYTES)) await window.load(start, SEARCH_BYTES);
    const bytes = trimmedBytes(window.view(start, SEARCH_BYTES));
    if (bytes > 0) dirty = start - position + bytes;
  }
  return dirty;
}
