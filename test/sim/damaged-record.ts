import type { Disk } from "../../sidecar/lib/ports/disk.ts";
import type { LogPosition } from "../../sidecar/protocol/entry.ts";
import { FileWindow } from "../../sidecar/wal/file-window.ts";
import { parseSegmentName, SEGMENT_HEADER_BYTES } from "../../sidecar/wal/segment-codec.ts";
import { recordAt } from "../../sidecar/wal/segment-scan.ts";

/** The entry whose record holds the byte `at` of a segment; null when none does. */
export async function recordHolding(
  disk: Disk,
  dir: string,
  name: string,
  at: number,
): Promise<LogPosition | null> {
  const firstOffset = parseSegmentName(name);
  if (firstOffset === null) return null;
  const file = await disk.open(`${dir}/${name}`, { create: false });
  const window = new FileWindow(file, await file.size());
  let position = SEGMENT_HEADER_BYTES;
  for (;;) {
    const record = await recordAt(window, firstOffset, position);
    if (record === null || position > at) return null;
    const { term, offset, crc } = record.entry;
    if (at < position + record.bytes) return { term, offset, crc };
    position += record.bytes;
  }
}
