/** How large a snapshot the volume of a replica's state can take. */
import type { Disk } from "../lib/ports/disk.ts";

/** See the file's header. An estimate: the receiver looks again before it writes. */
export class StateRoom {
  readonly #disk: Disk;
  readonly #dir: string;
  readonly #reserveBytes: number;
  #bytes = 0;

  /** `dir`: the replica's state. `reserveBytes`: what a snapshot must leave free. */
  constructor(disk: Disk, dir: string, reserveBytes: number) {
    this.#disk = disk;
    this.#dir = dir;
    this.#reserveBytes = reserveBytes;
  }

  /** As last measured, at least 1; 0: never. */
  get bytes(): number {
    return this.#bytes;
  }

  /** What is there already counts as room: data of an older identity goes when room is wanted. */
  async measure(): Promise<void> {
    const free = await this.#disk.freeBytes(this.#dir);
    const used = await this.#disk.usedBytes(this.#dir);
    const room = Math.max(1, free + used - this.#reserveBytes);
    // A disk without a bound has more than can be said.
    this.#bytes = Math.min(room, Number.MAX_SAFE_INTEGER);
  }
}
