/** Rewrites the files of a closed log as other builds wrote them. */
import { crcOf } from "../../sidecar/lib/crc.ts";
import type { Disk } from "../../sidecar/lib/ports/disk.ts";
import {
  decodeRecord,
  decodeSegmentHeader,
  parseSegmentName,
  SEGMENT_HEADER_BYTES,
} from "../../sidecar/wal/segment-codec.ts";

const RECORD_1_HEADER_BYTES = 56;
const SLOT_BYTES = 80;
const SECTOR_BYTES = 512;
const MARKS_1_MAGIC = 0x524d4b31;

/** Everything in format 1: records without a commit, and marks without one. */
export async function rewriteAsFormat1(disk: Disk, dir: string): Promise<void> {
  for (const name of await disk.list(dir)) {
    const firstOffset = parseSegmentName(name);
    if (firstOffset === null) continue;
    await rewrite(disk, `${dir}/${name}`, (bytes) => segmentAsFormat1(bytes, firstOffset));
  }
  await rewrite(disk, `${dir}/marks`, marksAsFormat1);
}

/** The header of one segment, or each slot of the marks, in a format nobody knows yet. */
export async function rewriteAsLater(disk: Disk, path: string): Promise<void> {
  await rewrite(disk, path, (bytes) => {
    if (path.endsWith("/marks")) {
      for (let at = 0; at < bytes.byteLength; at += SECTOR_BYTES) bytes[at + 3] = 0x33;
      return bytes;
    }
    setVersion(bytes, 3);
    return bytes;
  });
}

function setVersion(bytes: Uint8Array, version: number): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  view.setUint32(8, version);
  view.setUint32(12, crcOf(bytes.subarray(16, SEGMENT_HEADER_BYTES), version));
}

function segmentAsFormat1(bytes: Uint8Array, firstOffset: number): Uint8Array {
  if (decodeSegmentHeader(bytes) === null) throw new Error("the segment has no good header");
  const header = bytes.slice(0, SEGMENT_HEADER_BYTES);
  setVersion(header, 1);
  const parts: Uint8Array[] = [header];
  let from = SEGMENT_HEADER_BYTES;
  let position = from;
  for (;;) {
    const record = decodeRecord(bytes.subarray(from), { firstOffset, position: from });
    if (record === null) break;
    const head = bytes.slice(from, from + RECORD_1_HEADER_BYTES);
    const seed = (firstOffset * 31 + position) >>> 0;
    new DataView(head.buffer).setUint32(4, crcOf(head.subarray(8), seed));
    parts.push(head, record.entry.value);
    from += record.bytes;
    position += RECORD_1_HEADER_BYTES + record.entry.value.byteLength;
  }
  // What was preallocated stays.
  return Buffer.concat([...parts, new Uint8Array(bytes.byteLength - position)]);
}

function marksAsFormat1(bytes: Uint8Array): Uint8Array {
  for (let at = 0; at < bytes.byteLength; at += SECTOR_BYTES) {
    const slot = bytes.subarray(at, at + SLOT_BYTES);
    const view = new DataView(slot.buffer, slot.byteOffset, slot.byteLength);
    if (view.getUint32(0) === 0) continue;
    view.setUint32(0, MARKS_1_MAGIC);
    view.setFloat64(64, 0);
    view.setUint32(4, crcOf(slot.subarray(8), MARKS_1_MAGIC));
  }
  return bytes;
}

async function rewrite(
  disk: Disk,
  path: string,
  change: (bytes: Uint8Array) => Uint8Array,
): Promise<void> {
  const bytes = await disk.readFile(path);
  if (bytes === null) throw new Error(`${path} is missing`);
  const changed = change(Uint8Array.from(bytes));
  const file = await disk.open(path, { create: false });
  await file.truncate(0);
  await file.write([changed], 0);
  await file.sync();
  await file.close();
}
