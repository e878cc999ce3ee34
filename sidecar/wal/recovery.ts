import type { Disk } from "../lib/ports/disk.ts";
import type { LogPosition, Offset, Term } from "../protocol/entry.ts";
import { FileWindow } from "./file-window.ts";
import { WalFormatUnknown } from "./errors.ts";
import { type LogControl, newControl, readControl } from "./marks.ts";
import {
  decodeSegmentHeader,
  parseSegmentName,
  SEGMENT_FORMAT,
  SEGMENT_FORMATS,
  SEGMENT_HEADER_BYTES,
  type SegmentHeader,
} from "./segment-codec.ts";
import { Segment } from "./segment.ts";
import { continues, isLive, recordAt, scanTail, type Tail } from "./segment-scan.ts";

/**
 * Damage that must not be repaired here: the replica is faulty and becomes a learner (R14, I19).
 */
export interface LogFault {
  /** First entry that is not there as it must be. */
  readonly offset: Offset;
  readonly path: string;
  readonly message: string;
}

/** What opening a log found. */
export interface RecoveredLog {
  /** Position before the first entry. */
  readonly base: LogPosition;
  /**
   * Position of the last entry; `base` when there is none. With a fault: the last one before it.
   */
  readonly last: LogPosition;
  /** Chained CRCs of the entries base.offset + 1 to last.offset. */
  readonly crcs: Uint32Array;
  /** First offset of each term among those entries, ascending. */
  readonly termStarts: readonly { readonly term: Term; readonly offset: Offset }[];
  /** Highest offset that was known to be committed (I9); not above `last`, nor below `base`. */
  readonly commit: Offset;
  /** Bytes of torn writes that were cut off; none of them was ever acknowledged. */
  readonly tornBytes: number;
  readonly fault: LogFault | null;
}

/** A log as its files say, before anything is repaired. */
export interface LogAnalysis {
  readonly recovered: RecoveredLog;
  readonly control: LogControl;
  /** False: there is no good control slot. Without a fault, the directory never held a log. */
  readonly controlKnown: boolean;
  readonly segments: readonly Segment[];
  /** Files of a dropped part of the log, or of a segment whose creation was cut short. */
  readonly discardable: readonly string[];
  /**
   * Highest offset that the mark or any good record names: nothing above it was ever in this log.
   */
  readonly highestSeen: Offset;
  /** The last segment has bytes after its last record, which must be cut off. */
  readonly tailDirty: boolean;
}

interface SegmentFile {
  readonly path: string;
  readonly firstOffset: Offset;
  /** Null: damaged. */
  readonly header: SegmentHeader | null;
}

/**
 * Reads the log in `dir` and decides what is good, torn or damaged. Changes nothing on the disk.
 * Throws {@link WalFormatUnknown}, DiskError.
 */
export async function analyseLog(
  disk: Disk,
  dir: string,
  start: LogPosition,
): Promise<LogAnalysis> {
  const files = await listSegments(disk, dir);
  const control = await readControl(disk, dir);
  if (control !== null) return await new Analysis(disk, dir, control).run(files);
  const analysis = new Analysis(disk, dir, newControl(start, 1));
  // The marks file is durable before the first segment is made, so segments without it are a loss.
  const [first] = files;
  if (first !== undefined) {
    analysis.addFault(start.offset + 1, first.path, "the marks file has no good control slot");
  }
  return { ...analysis.result(), controlKnown: false };
}

async function listSegments(disk: Disk, dir: string): Promise<readonly SegmentFile[]> {
  const files: SegmentFile[] = [];
  for (const name of await disk.list(dir)) {
    const firstOffset = parseSegmentName(name);
    if (firstOffset === null) continue;
    const path = `${dir}/${name}`;
    const file = await disk.open(path, { create: false });
    try {
      const bytes = new Uint8Array(SEGMENT_HEADER_BYTES);
      const count = await file.read(bytes, 0);
      const header = decodeSegmentHeader(bytes.subarray(0, count));
      if (typeof header === "number") {
        throw new WalFormatUnknown(path, header, SEGMENT_FORMATS.toReversed().join(", "));
      }
      files.push({ path, firstOffset, header });
    } finally {
      await file.close();
    }
  }
  return files;
}

class Analysis {
  readonly #disk: Disk;
  readonly #dir: string;
  readonly #control: LogControl;
  readonly #segments: Segment[] = [];
  readonly #discardable: string[] = [];
  readonly #termStarts: { term: Term; offset: Offset }[] = [];
  #crcs = new Uint32Array(1024);
  #count = 0;
  #last: LogPosition;
  #mark: Offset;
  #commit: Offset;
  #highest: Offset;
  #tornBytes = 0;
  #tailDirty = false;
  #fault: LogFault | null = null;

  constructor(disk: Disk, dir: string, control: LogControl) {
    this.#disk = disk;
    this.#dir = dir;
    this.#control = control;
    this.#last = control.base;
    this.#mark = control.mark;
    this.#commit = control.commit;
    this.#highest = control.mark;
  }

  async run(files: readonly SegmentFile[]): Promise<LogAnalysis> {
    const live = files.filter((file) => !this.#isDropped(file));
    for (const [index, file] of live.entries()) {
      if (this.#fault === null) await this.#readSegment(file, index === live.length - 1);
      else await this.#skimSegment(file);
    }
    for (const file of files) if (!live.includes(file)) this.#discardable.push(file.path);
    if (this.#last.offset < this.#mark) {
      this.addFault(
        this.#last.offset + 1,
        this.#segments.at(-1)?.path ?? this.#dir,
        `the log ends at ${this.#last.offset}, but was durable up to ${this.#mark}`,
      );
    }
    return this.result();
  }

  result(): LogAnalysis {
    const base = this.#segments[0]?.base ?? this.#control.base;
    const recovered: RecoveredLog = {
      base,
      last: this.#last,
      crcs: this.#crcs.slice(0, this.#count),
      termStarts: this.#termStarts,
      commit: Math.max(base.offset, Math.min(this.#commit, this.#last.offset)),
      tornBytes: this.#fault === null ? this.#tornBytes : 0,
      fault: this.#fault,
    };
    return {
      recovered,
      control: this.#control,
      controlKnown: true,
      segments: this.#segments,
      discardable: this.#discardable,
      highestSeen: Math.max(this.#highest, this.#mark, this.#last.offset),
      tailDirty: this.#tailDirty,
    };
  }

  addFault(offset: Offset, path: string, message: string): void {
    this.#fault ??= { offset, path, message };
  }

  #isDropped({ header, firstOffset }: SegmentFile): boolean {
    if (header === null) return false;
    if (header.generation < this.#control.resetGeneration) return true;
    return header.generation < this.#control.generation && firstOffset > this.#control.cut;
  }

  async #readSegment(file: SegmentFile, isLast: boolean): Promise<void> {
    const { header } = file;
    if (header === null) {
      await this.#readHeadless(file, isLast);
    } else if (this.#checkBase(file, header)) {
      await this.#readRecords(file, header, isLast);
    }
  }

  /** After a fault: only what the records say was ever in this log. */
  async #skimSegment(file: SegmentFile): Promise<void> {
    this.#noteTail(await this.#scanAll(file));
  }

  #scanAll({ path, firstOffset, header }: SegmentFile): Promise<Tail> {
    const format = header?.format ?? SEGMENT_FORMAT;
    return this.#withWindow(path, (window) => {
      const position = Math.min(SEGMENT_HEADER_BYTES, window.size);
      return scanTail(window, { firstOffset, position, format }, this.#control);
    });
  }

  /**
   * A header is durable before the first record is written: without records it may be a torn
   * creation.
   */
  async #readHeadless(file: SegmentFile, isLast: boolean): Promise<void> {
    const tail = await this.#scanAll(file);
    this.#noteTail(tail);
    if (tail.highest !== null || !isLast) {
      this.addFault(file.firstOffset, file.path, "the segment's header is damaged");
    } else {
      this.#tornBytes += tail.dirtyBytes;
      this.#discardable.push(file.path);
    }
  }

  #checkBase(file: SegmentFile, header: SegmentHeader): boolean {
    const { base } = header;
    const fault = (message: string): false => {
      this.addFault(this.#last.offset + 1, file.path, message);
      return false;
    };
    if (base.offset + 1 !== file.firstOffset) return fault(`its header says base ${base.offset}`);
    if (header.generation > this.#control.generation) return fault("the control slots are older");
    const first = this.#segments.length === 0;
    if (first && base.offset > this.#control.base.offset) {
      this.#last = base;
      return true;
    }
    if (base.offset !== this.#last.offset || base.crc !== this.#last.crc) {
      return fault(
        `it follows offset ${base.offset}, but the log before it ends at ${this.#last.offset}`,
      );
    }
    return true;
  }

  async #readRecords(file: SegmentFile, header: SegmentHeader, isLast: boolean): Promise<void> {
    const { format } = header;
    const { firstOffset } = file;
    const segment = new Segment(this.#dir, header.base, format);
    this.#segments.push(segment);
    const tail = await this.#withWindow(file.path, async (window) => {
      for (;;) {
        const record = await recordAt(window, { firstOffset, position: segment.end, format });
        if (record === null || !this.#isNext(record.generation, record)) break;
        this.#commit = Math.max(this.#commit, record.commit);
        this.#addEntry(record.entry.term, record.entry.offset, record.entry.crc);
        segment.add(record.entry);
      }
      return await scanTail(window, { firstOffset, position: segment.end, format }, this.#control);
    });
    this.#noteTail(tail);
    if (tail.highest !== null && !(isLast && tail.mayBeTorn)) {
      this.addFault(
        this.#last.offset + 1,
        file.path,
        `the record at byte ${segment.end} is damaged, and good ones follow up to ${tail.highest}`,
      );
    } else {
      if (isLast) this.#tornBytes += tail.dirtyBytes;
      this.#tailDirty = tail.dirtyBytes > 0;
    }
  }

  #isNext(generation: number, record: Parameters<typeof continues>[0]): boolean {
    if (!isLive(record, this.#control) || !continues(record, this.#last)) return false;
    if (generation <= this.#control.generation) return true;
    this.addFault(record.entry.offset, this.#dir, "the control slots are older than the log");
    return false;
  }

  #addEntry(term: Term, offset: Offset, crc: number): void {
    if (this.#count === this.#crcs.length) {
      const grown = new Uint32Array(this.#count * 2);
      grown.set(this.#crcs);
      this.#crcs = grown;
    }
    this.#crcs[this.#count] = crc;
    this.#count += 1;
    if (this.#termStarts.at(-1)?.term !== term) this.#termStarts.push({ term, offset });
    this.#last = { term, offset, crc };
  }

  #noteTail(tail: Tail): void {
    this.#mark = Math.max(this.#mark, tail.mark);
    this.#highest = Math.max(this.#highest, tail.highest ?? tail.mark);
  }

  async #withWindow<T>(path: string, use: (window: FileWindow) => Promise<T>): Promise<T> {
    const file = await this.#disk.open(path, { create: false });
    try {
      return await use(new FileWindow(file, await file.size()));
    } finally {
      await file.close();
    }
  }
}
