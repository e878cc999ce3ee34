import { DiskError, type Disk } from "../lib/ports/disk.ts";

/** Name of the file in a shard's WAL directory. */
export const RESERVE_FILE = "space.reserve";
/** Its size: many times what a promise, or the barrier of a new term, needs. */
export const SPACE_RESERVE_BYTES = 256 * 1024;

/**
 * A file that holds space for what must be possible on a full volume: promises, without which
 * nobody can be elected, and the log's control entries (R17). It is given up when one of them finds
 * no space, and taken again when there is room. Nothing depends on its contents or durability.
 */
export class SpaceReserve {
  readonly #disk: Disk;
  readonly #dir: string;
  /** False: unknown, or given up. */
  #kept = false;

  constructor(disk: Disk, dir: string) {
    this.#disk = disk;
    this.#dir = dir;
  }

  /** Takes the space unless it is held already; without room for it, nothing is kept. */
  async keep(): Promise<void> {
    if (this.#kept) return;
    const path = `${this.#dir}/${RESERVE_FILE}`;
    try {
      const file = await this.#disk.open(path, { create: true });
      try {
        // Written, not only extended: a hole holds no space.
        const missing = SPACE_RESERVE_BYTES - (await file.size());
        if (missing > 0) await file.write([new Uint8Array(SPACE_RESERVE_BYTES)], 0);
      } finally {
        await file.close();
      }
      this.#kept = true;
    } catch (error) {
      if (!isFull(error)) throw error;
      await this.#disk.remove(path);
    }
  }

  /** Gives the space up; true when there may be some now. */
  async release(): Promise<boolean> {
    const path = `${this.#dir}/${RESERVE_FILE}`;
    const held = await this.#disk.exists(path);
    this.#kept = false;
    if (held) {
      await this.#disk.remove(path);
      await this.#disk.syncDir(this.#dir);
    }
    return held;
  }
}

/** True when the disk was merely full: nothing is lost, the same may be tried again. */
export function isFull(error: unknown): boolean {
  return error instanceof DiskError && error.code === "NO_SPACE" && !error.fatal;
}
