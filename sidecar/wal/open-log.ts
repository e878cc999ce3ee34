import { assert } from "../lib/assert.ts";
import type { Disk } from "../lib/ports/disk.ts";
import { LOG_START, type LogPosition } from "../protocol/entry.ts";
import { MarksFile, newControl } from "./marks.ts";
import { analyseLog, type LogAnalysis, type RecoveredLog } from "./recovery.ts";
import type { Segment } from "./segment.ts";
import { parseSegmentName } from "./segment-codec.ts";
import { SegmentWriter, type SegmentWriterOptions } from "./segment-writer.ts";

/** A log that is ready to be used, or one with a fault. */
export interface OpenedLog {
  readonly recovered: RecoveredLog;
  readonly marks: MarksFile;
  readonly segments: readonly Segment[];
  readonly writer: SegmentWriter | null;
}

/**
 * Reads the log, repairs what a crash may leave, and makes all of it durable. A faulty log is not
 * touched.
 */
export async function openLog(
  options: SegmentWriterOptions,
  base: LogPosition | undefined,
): Promise<OpenedLog> {
  const { disk, dir } = options;
  await disk.makeDir(dir);
  await disk.syncDir(parentOf(dir));
  const start = base ?? LOG_START;
  const analysis = await analyseLog(disk, dir, start);
  const { recovered, controlKnown } = analysis;
  const marks = await MarksFile.open(disk, dir, analysis.control);
  if (base !== undefined && controlKnown && isSuperseded(analysis, base)) {
    await restartLog(options, marks, base);
    const empty = { crcs: new Uint32Array(0), termStarts: [], tornBytes: 0, fault: null };
    const commit = base.offset;
    return { recovered: { base, last: base, commit, ...empty }, marks, segments: [], writer: null };
  }
  if (recovered.fault !== null)
    return { recovered, marks, segments: analysis.segments, writer: null };
  if (controlKnown) return await repair(options, marks, analysis);
  await restartLog(options, marks, start);
  return { recovered, marks, segments: [], writer: null };
}

/**
 * Empties the log and makes `base` its start. The control slots decide: once they are written,
 * whatever is left of the old log counts as gone. They are durable before a new segment can be
 * made.
 */
export async function restartLog(
  { disk, dir }: SegmentWriterOptions,
  marks: MarksFile,
  base: LogPosition,
): Promise<void> {
  // With the control slots lost, nothing tells old segments from new ones: they go first.
  if (!marks.known) await removeSegments(disk, dir);
  await marks.writeControl(newControl(base, marks.control.generation + 1));
  await removeSegments(disk, dir);
}

async function removeSegments(disk: Disk, dir: string): Promise<void> {
  for (const name of await disk.list(dir)) {
    if (parseSegmentName(name) !== null) await disk.remove(`${dir}/${name}`);
  }
  await disk.syncDir(dir);
}

/**
 * True when the installed snapshot replaces the log (R12): the log ends before it, or has other
 * history at its position. A log that was trimmed past it says nothing about it and stays. A
 * damaged one is replaced only when nothing it ever held is above the snapshot.
 */
function isSuperseded({ recovered, highestSeen }: LogAnalysis, base: LogPosition): boolean {
  if (recovered.fault !== null) return highestSeen <= base.offset;
  if (recovered.last.offset < base.offset) return true;
  if (recovered.base.offset > base.offset) return false;
  if (recovered.base.offset === base.offset) return recovered.base.crc !== base.crc;
  return recovered.crcs[base.offset - recovered.base.offset - 1] !== base.crc;
}

async function repair(
  options: SegmentWriterOptions,
  marks: MarksFile,
  analysis: LogAnalysis,
): Promise<OpenedLog> {
  const { disk, dir } = options;
  const { recovered, segments, control } = analysis;
  // What was read may only be in the page cache of a killed process: before anything is removed
  // because of it, it must be durable.
  await marks.writeControl(control);
  for (const path of analysis.discardable) await disk.remove(path);
  for (const segment of segments.slice(0, -1)) await syncFile(options, segment.path);
  const newest = segments.at(-1);
  const { tailDirty: cut } = analysis;
  const { generation } = control;
  const writer =
    newest === undefined ? null : await SegmentWriter.reopen(options, newest, { cut, generation });
  await disk.syncDir(dir);
  assert(control.mark <= recovered.last.offset, "a log without a fault reaches its mark");
  await marks.writeMark(recovered.last.offset, recovered.commit);
  return { recovered, marks, segments, writer };
}

/** H14: pages that a killed process left in the cache may not be on the disk yet. */
async function syncFile({ disk }: SegmentWriterOptions, path: string): Promise<void> {
  const file = await disk.open(path, { create: false });
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}

function parentOf(path: string): string {
  return path.slice(0, path.lastIndexOf("/")) || "/";
}
