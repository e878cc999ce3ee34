import { pageAlignedBuffer } from "../lib/page-aligned-buffer.ts";
import type { Disk, DiskFile } from "../lib/ports/disk.ts";
import { LIMITS } from "../limits.ts";
import type { SnapshotWriter } from "./engine.ts";

/**
 * Writes a PAGES stream as an engine file, past the page cache and in large pieces: of what a
 * transfer leaves in the cache every sync of the log would wait for a share (ARCHITECTURE.md, D12).
 */
export class PageWriter implements SnapshotWriter {
  readonly #disk: Disk;
  readonly #dir: string;
  readonly #file: DiskFile;
  readonly #free: Uint8Array[] = [];
  readonly #writing = new Set<Promise<void>>();
  #buffers = 0;
  /** What is being filled, and how far; its bytes belong at the end of what is written. */
  #current: Uint8Array | null = null;
  #filled = 0;
  #writtenBytes = 0;
  #error: Error | null = null;

  private constructor(disk: Disk, dir: string, file: DiskFile, writtenBytes: number) {
    this.#disk = disk;
    this.#dir = dir;
    this.#file = file;
    this.#writtenBytes = writtenBytes;
  }

  /** Opens an empty file; throws what the disk throws. */
  static async create(disk: Disk, dir: string, fileName: string): Promise<PageWriter> {
    const file = await disk.open(`${dir}/${fileName}`, { create: true, uncached: true });
    await file.truncate(0);
    return new PageWriter(disk, dir, file, 0);
  }

  /** Goes on after the first `keptBytes` of the file; null when it does not hold as many. */
  static async resume(
    disk: Disk,
    dir: string,
    fileName: string,
    keptBytes: number,
  ): Promise<PageWriter | null> {
    if (!(await disk.exists(`${dir}/${fileName}`))) return null;
    const file = await disk.open(`${dir}/${fileName}`, { create: false, uncached: true });
    if ((await file.size()) >= keptBytes) {
      await file.truncate(keptBytes);
      return new PageWriter(disk, dir, file, keptBytes);
    }
    await file.close();
    return null;
  }

  /** Resolves once the bytes are copied; they are written while the next ones come in. */
  async append(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length; ) {
      this.#current ??= await this.#buffer();
      const count = Math.min(bytes.length - at, this.#current.length - this.#filled);
      this.#current.set(bytes.subarray(at, at + count), this.#filled);
      this.#filled += count;
      at += count;
      if (this.#filled === this.#current.length) this.#startWrite();
    }
  }

  async sync(): Promise<void> {
    this.#startWrite();
    await Promise.all(this.#writing);
    this.#throwIfFailed();
    await this.#file.sync();
  }

  async finish(): Promise<void> {
    await this.sync();
    await this.#file.close();
    await this.#disk.syncDir(this.#dir);
  }

  async abort(): Promise<void> {
    await Promise.all(this.#writing);
    await this.#file.close();
  }

  #startWrite(): void {
    const buffer = this.#current;
    if (buffer === null) return;
    const bytes = buffer.subarray(0, this.#filled);
    const position = this.#writtenBytes;
    this.#writtenBytes += this.#filled;
    this.#current = null;
    this.#filled = 0;
    const writing = this.#write(bytes, position).finally(() => {
      this.#writing.delete(writing);
      this.#free.push(buffer);
    });
    this.#writing.add(writing);
  }

  /** Never rejects: the failure is for the next call to tell, which nobody may be in now. */
  async #write(bytes: Uint8Array, position: number): Promise<void> {
    try {
      await this.#file.write([bytes], position);
    } catch (error) {
      this.#error ??= error as Error;
    }
  }

  async #buffer(): Promise<Uint8Array> {
    for (;;) {
      this.#throwIfFailed();
      const spare = this.#free.pop();
      if (spare !== undefined) return spare;
      if (this.#buffers < LIMITS.pageWritesAtOnce) break;
      await Promise.race(this.#writing);
    }
    this.#buffers++;
    return pageAlignedBuffer(LIMITS.pageWriteBytes);
  }

  #throwIfFailed(): void {
    if (this.#error !== null) throw this.#error;
  }
}
