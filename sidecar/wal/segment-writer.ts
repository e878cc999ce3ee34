import { type Disk, type DiskFile } from "../lib/ports/disk.ts";
import type { LogPosition } from "../protocol/entry.ts";
import { encodeSegmentHeader } from "./segment-codec.ts";
import { Segment } from "./segment.ts";

/** Where segments are made and how long they get. */
export interface SegmentWriterOptions {
  readonly disk: Disk;
  readonly dir: string;
  readonly segmentBytes: number;
  /**
   * Gives a new file its full length at once, so that syncs do not have to write its size. Its
   * blocks are allocated as they are written (ARCHITECTURE.md, D13).
   */
  readonly preallocate: boolean;
}

/** The segment that is being written to, and its open file. */
export class SegmentWriter {
  readonly segment: Segment;
  readonly #file: DiskFile;

  private constructor(segment: Segment, file: DiskFile) {
    this.segment = segment;
    this.#file = file;
  }

  /**
   * Makes the segment after `base`; its header and name are durable when this resolves. A file that
   * an earlier attempt left there is emptied first.
   */
  static async create(
    options: SegmentWriterOptions,
    base: LogPosition,
    generation: number,
  ): Promise<SegmentWriter> {
    const segment = new Segment(options.dir, base);
    const file = await options.disk.open(segment.path, { create: true });
    try {
      await file.truncate(0);
      await file.write([encodeSegmentHeader({ generation, base })], 0);
      if (options.preallocate) await file.truncate(options.segmentBytes);
      await file.sync();
      await options.disk.syncDir(options.dir);
    } catch (error) {
      await file.close();
      throw error;
    }
    return new SegmentWriter(segment, file);
  }

  /**
   * Opens an existing segment to go on at its end; `cut` first removes what stands after it. All of
   * it is durable when this resolves: what a killed process left in the cache may not be yet (H14).
   * An empty one of an older format gets the header of the present one, under `generation`: that is
   * one sector, so it is there in whole or not at all.
   */
  static async reopen(
    options: SegmentWriterOptions,
    segment: Segment,
    { cut, generation }: { readonly cut: boolean; readonly generation: number },
  ): Promise<SegmentWriter> {
    const file = await options.disk.open(segment.path, { create: false });
    try {
      if (cut) await file.truncate(segment.end);
      if (segment.isEmpty && !segment.isWritable) {
        await file.write([encodeSegmentHeader({ generation, base: segment.base })], 0);
        segment.renew();
      }
      if (options.preallocate && segment.isWritable && (await file.size()) < options.segmentBytes) {
        await file.truncate(options.segmentBytes);
      }
      await file.sync();
    } catch (error) {
      await file.close();
      throw error;
    }
    return new SegmentWriter(segment, file);
  }

  /**
   * Writes at the segment's end and makes it durable. The segment's own state is the caller's to
   * move.
   */
  async append(parts: readonly Uint8Array[]): Promise<void> {
    await this.#file.write(parts, this.segment.end);
    await this.#file.sync();
  }

  /**
   * Gives back what was preallocated and not used, and closes. Everything written must be durable
   * already.
   */
  async seal(): Promise<void> {
    await this.#file.truncate(this.segment.end);
    await this.#file.close();
  }

  async close(): Promise<void> {
    await this.#file.close();
  }
}
