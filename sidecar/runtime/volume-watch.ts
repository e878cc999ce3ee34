import type { Disk } from "../lib/ports/disk.ts";
import type { Logger } from "../lib/ports/logger.ts";

/** Which volume to watch, and what it must have free. */
export interface VolumeWatchOptions {
  readonly disk: Disk;
  readonly logger: Logger;
  /** A directory on it. */
  readonly dir: string;
  /** Below this much, clients' writes are refused. */
  readonly clientFreeBytesMin: number;
  /** Below this much, entries of a leader wait; not more than `clientFreeBytesMin`. */
  readonly freeBytesMin: number;
}

/** Why writes are refused: a volume, what it has free, and what is allowed. */
export interface NoSpace {
  readonly path: string;
  readonly freeBytes: number;
  readonly allowed: string;
}

/** The free space of one volume, as the log and the state on it need it (R17). */
export class VolumeWatch {
  readonly #o: VolumeWatchOptions;
  /** Free bytes when it last looked, and what was taken in since: much fits between two looks. */
  #freeBytes = Number.POSITIVE_INFINITY;
  #takenBytes = 0;
  #refusing = false;
  #short = false;

  constructor(options: VolumeWatchOptions) {
    this.#o = options;
  }

  get freeBytes(): number {
    return Math.max(0, this.#freeBytes - this.#takenBytes);
  }

  /** Entries wait for room. */
  get short(): boolean {
    return this.#short;
  }

  /** Why writes are refused; null while there is room. */
  get noSpace(): NoSpace | null {
    const { dir, clientFreeBytesMin } = this.#o;
    const { freeBytes } = this;
    if (freeBytes >= clientFreeBytesMin) return null;
    return { path: dir, freeBytes, allowed: `>= ${clientFreeBytesMin}` };
  }

  /** So many bytes will be written, here too in the end. */
  taken(bytes: number): void {
    this.#takenBytes += bytes;
  }

  /** Asks the volume. */
  async look(): Promise<void> {
    const { disk, dir, logger, clientFreeBytesMin, freeBytesMin } = this.#o;
    const freeBytes = await disk.freeBytes(dir);
    this.#freeBytes = freeBytes;
    this.#takenBytes = 0;
    const refusing = freeBytes < clientFreeBytesMin;
    if (refusing !== this.#refusing) {
      this.#refusing = refusing;
      const fields = { path: dir, freeBytes, needed: clientFreeBytesMin };
      if (refusing) logger.error("volume nearly full, writes are refused", fields);
      else logger.info("volume has room again, writes are accepted", fields);
    }
    const short = freeBytes < freeBytesMin;
    if (short === this.#short) return;
    this.#short = short;
    const fields = { path: dir, freeBytes, needed: freeBytesMin };
    if (short) logger.error("volume full, entries wait for room", fields);
    else logger.info("volume has room for entries again", fields);
  }
}
