import type { Disk } from "../../sidecar/lib/ports/disk.ts";
import type { LogPosition } from "../../sidecar/protocol/entry.ts";
import { FileWindow } from "../../sidecar/wal/file-window.ts";
import { parseSegmentName, SEGMENT_HEADER_BYTES } from "../../sidecar/wal/segment-codec.ts";
import { recordAt } from "../../sidecar/wal/segment-scan.ts";

/** One record of a segment: the bytes from `start` to before `end` say the entry at `position`. */
export interface RecordSpan {
  readonly start: number;
  readonly end: number;
  readonly position: LogPosition;
}

/** The good records from the start of the segment `name` in `dir` on, in order. */
export async function recordsOf(
  disk: Disk,
  dir: string,
  name: string,
): Promise<readonly RecordSpan[]> {
  const firstOffset = parseSegmentName(name);
  if (firstOffset === null) return [];
  const file = await disk.open(`${dir}/${name}`, { create: false });
  const window = new FileWindow(file, await file.size());
  const spans: RecordSpan[] = [];
  let start = SEGMENT_HEADER_BYTES;
  for (;;) {
    const record = await recordAt(window, { firstOffset, position: start });
    if (record === null) return spans;
    const { term, offset, crc } = record.entry;
    spans.push({ start, end: start + record.bytes, position: { term, offset, crc } });
    start += record.bytes;
  }
}
