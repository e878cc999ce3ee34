import { crcOf } from "../lib/crc.ts";

/** Election epoch of a shard; raised by the coordinator only. -1: none yet. */
export type Term = number & { readonly __term?: never };
/** Position in a shard's log, from 0. -1: before the first entry. */
export type Offset = number & { readonly __offset?: never };

/** No offset: before the first entry. */
export const INVALID_OFFSET: Offset = -1;
/** No term: nothing was promised yet. */
export const INVALID_TERM: Term = -1;

/** Names one log entry. Ordered by term, then offset. */
export interface EntryId {
  readonly term: Term;
  readonly offset: Offset;
}

/**
 * An entry id with the chained CRC-32C of everything up to it: equal positions mean equal logs
 * (I3).
 */
export interface LogPosition extends EntryId {
  readonly crc: number;
}

/** Where an empty log starts. */
export const LOG_START: LogPosition = Object.freeze({
  term: INVALID_TERM,
  offset: INVALID_OFFSET,
  crc: 0,
});

/** One entry of the replicated log. `value` is never re-encoded. */
export interface LogEntry extends EntryId {
  /** Wall clock of the leader that appended it, in milliseconds. */
  readonly timestampMs: number;
  /** The bytes of a LogEntryValue message. */
  readonly value: Uint8Array;
  /** Chained CRC-32C: of the previous entry's crc, this entry's header and its value. */
  readonly crc: number;
}

/** Negative when `a` is older, 0 when equal, positive when `a` is newer. */
export function compareEntryIds(a: EntryId, b: EntryId): number {
  return a.term === b.term ? a.offset - b.offset : a.term - b.term;
}

/** True when both name the same entry after the same history (I3). */
export function samePosition(a: LogPosition, b: LogPosition): boolean {
  return a.term === b.term && a.offset === b.offset && a.crc === b.crc;
}

const header = new Uint8Array(24);
const headerView = new DataView(header.buffer);

/**
 * The chained CRC-32C of an entry that follows one whose chained CRC is `previousCrc` (WAL and wire
 * use the same).
 */
export function chainCrc(
  previousCrc: number,
  term: Term,
  offset: Offset,
  timestampMs: number,
  value: Uint8Array,
): number {
  headerView.setFloat64(0, term);
  headerView.setFloat64(8, offset);
  headerView.setFloat64(16, timestampMs);
  return crcOf(value, crcOf(header, previousCrc));
}
