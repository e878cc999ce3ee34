import { LIMITS } from "../limits.ts";
import { type LogPosition, samePosition } from "../protocol/entry.ts";
import { ProtocolError } from "../protocol/errors.ts";
import { SnapshotFormat, type SnapshotManifest } from "../protocol/gen/resilver.ts";

/** A snapshot id is part of a directory name. */
const ID = /^[a-z0-9][a-z0-9-]{0,63}$/;
const DETAIL_CHARS_MAX = 256;
const CHUNK_BYTES_MAX = LIMITS.messageBytesMax / 2;
const INT32_MAX = 2 ** 31 - 1;

/** A manifest whose every field is within its bounds. */
export interface Manifest {
  readonly snapshotId: string;
  readonly format: SnapshotFormat;
  /** Engine, version and page size that PAGES belong to. */
  readonly formatDetail: string;
  /** The last entry whose effect is in the snapshot; the receiver's log goes on after it (R5). */
  readonly base: LogPosition;
  readonly records: number;
  /** Bytes of content: exact when `chunkCount` is given, else an estimate. */
  readonly bytes: number;
  /** 0: not known before; then only the last message's whole hash tells the end. */
  readonly chunkCount: number;
  /** Every chunk but the last one has exactly this many bytes. */
  readonly chunkBytes: number;
}

/**
 * Chunks of a snapshot of exactly `bytes`. An empty snapshot has one empty chunk, to carry its
 * hash.
 */
export function chunkCountOf(bytes: number, chunkBytes: number): number {
  return Math.max(1, Math.ceil(bytes / chunkBytes));
}

/** Checks what a sender claims. Throws INVALID_ARGUMENT naming field, value and what is allowed. */
export function checkManifest(manifest: SnapshotManifest, term: number): Manifest {
  const { snapshotId, format, formatDetail, base, records, bytes } = manifest;
  const { chunkCount, chunkBytes } = manifest;
  check(ID.test(snapshotId), "snapshot_id", snapshotId, ID.source);
  const formatKnown = format === SnapshotFormat.RECORDS || format === SnapshotFormat.PAGES;
  check(formatKnown, "format", format, "RECORDS (0) or PAGES (1)");
  const detailFits = formatDetail.length <= DETAIL_CHARS_MAX;
  check(
    detailFits,
    "format_detail",
    `${formatDetail.length} chars`,
    `0 to ${DETAIL_CHARS_MAX} chars`,
  );
  if (base === undefined) throw refusal("base", "missing", "the position of a log entry");
  integer("base.term", base.term, 0, term);
  integer("base.offset", base.offset, 0, Number.MAX_SAFE_INTEGER);
  integer("base.crc", base.crc, 0, 2 ** 32 - 1);
  integer("records", records, 0, Number.MAX_SAFE_INTEGER);
  integer("bytes", bytes, 0, Number.MAX_SAFE_INTEGER);
  integer("chunk_bytes", chunkBytes, 1, CHUNK_BYTES_MAX);
  integer("chunk_count", chunkCount, 0, INT32_MAX);
  if (chunkCount !== 0) {
    const expected = chunkCountOf(bytes, chunkBytes);
    const allowed = `0, or ${expected} for ${bytes} bytes in chunks of ${chunkBytes}`;
    check(chunkCount === expected, "chunk_count", chunkCount, allowed);
  }
  return { ...manifest, base };
}

/** True when both describe the same bytes, so that a transfer of one goes on as the other. */
export function sameManifest(a: Manifest, b: Manifest): boolean {
  return (
    a.snapshotId === b.snapshotId &&
    a.format === b.format &&
    a.formatDetail === b.formatDetail &&
    samePosition(a.base, b.base) &&
    a.records === b.records &&
    a.bytes === b.bytes &&
    a.chunkCount === b.chunkCount &&
    a.chunkBytes === b.chunkBytes
  );
}

/** INVALID_ARGUMENT for one field of the snapshot stream. */
export function refusal(field: string, value: string | number, allowed: string): ProtocolError {
  const message = `snapshot: ${field} is ${value}, allowed: ${allowed}`;
  return new ProtocolError("INVALID_ARGUMENT", message, { field, value: String(value), allowed });
}

function check(good: boolean, field: string, value: string | number, allowed: string): void {
  if (!good) throw refusal(field, value, allowed);
}

function integer(field: string, value: number, min: number, max: number): void {
  const good = Number.isSafeInteger(value) && value >= min && value <= max;
  check(good, field, value, `${min} to ${max}`);
}
