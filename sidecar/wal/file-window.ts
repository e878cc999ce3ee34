import type { DiskFile } from "../lib/ports/disk.ts";

const WINDOW_BYTES = 512 * 1024;

/** A window of bounded size that slides over a file, for reading it once from its start. */
export class FileWindow {
  readonly size: number;
  readonly #file: DiskFile;
  #buffer = new Uint8Array(0);
  #start = 0;
  #end = 0;

  constructor(file: DiskFile, size: number) {
    this.#file = file;
    this.size = size;
  }

  /** True when `view` of this range needs no `load`. */
  holds(position: number, length: number): boolean {
    const end = Math.min(position + length, this.size);
    return position >= this.#start && end <= this.#end;
  }

  /** Reads the range (at least) into the window; views given out before are void. */
  async load(position: number, length: number): Promise<void> {
    const wanted = Math.min(Math.max(length, WINDOW_BYTES), Math.max(0, this.size - position));
    if (this.#buffer.byteLength < wanted) this.#buffer = new Uint8Array(wanted);
    this.#start = position;
    this.#end = position;
    this.#end += await this.#file.read(this.#buffer.subarray(0, wanted), position);
  }

  /** The loaded bytes of the range; fewer when the file ends inside it. */
  view(position: number, length: number): Uint8Array {
    const from = position - this.#start;
    const to = Math.min(position + length, this.#end) - this.#start;
    return from < 0 || to <= from ? new Uint8Array(0) : this.#buffer.subarray(from, to);
  }
}
