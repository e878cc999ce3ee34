/** How large a snapshot the volume of a replica's state can take. */
import type { Clock } from "../lib/ports/clock.ts";
import type { Disk } from "../lib/ports/disk.ts";

const PERIOD_MS = 1_000;

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

  /**
   * Measures while a snapshot may come, until the signal aborts; with no storage open too, since a
   * replica whose old files wait to be set aside waits for room as well.
   */
  async watch(clock: Clock, mayCome: () => boolean, signal: AbortSignal): Promise<void> {
    for (;;) {
      try {
        await clock.sleep(PERIOD_MS, signal);
      } catch {
        return;
      }
      if (mayCome()) await this.measure();
    }
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
