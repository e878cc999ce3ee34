import type { Clock } from "../lib/ports/clock.ts";
import type { Disk } from "../lib/ports/disk.ts";
import type { Logger } from "../lib/ports/logger.ts";
import type { Offset } from "../protocol/entry.ts";
import type { ShardState } from "../state/shard-state.ts";
import type { Wal } from "../wal/wal.ts";
import { isFull, type SpaceReserve } from "./space-reserve.ts";
import type { ReplicaOptions } from "./replica-options.ts";
import type { StateRoom } from "./state-room.ts";

/** How often the keeper looks. */
const PERIOD_MS = 250;
/** How often it asks for free space. */
const SPACE_PERIOD_MS = 1_000;

/** What the keeper looks after. */
export interface LogKeeperOptions {
  readonly wal: Wal;
  /** The log's directory, whose volume is watched. */
  readonly dir: string;
  readonly state: ShardState;
  readonly disk: Disk;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly options: ReplicaOptions;
  readonly signal: AbortSignal;
  /** Entries up to here need not be kept for transfers under way (R17). */
  readonly transferFloor: () => Offset;
  readonly trimmed: (offset: Offset) => void;
  /** The volume became nearly full, or has room again. */
  readonly space: (short: boolean) => void;
  /** Measured while a snapshot may come: the replica does not vote. */
  readonly room: StateRoom;
  readonly votes: () => boolean;
  /** Kept for promises; see {@link SpaceReserve}. */
  readonly reserve: SpaceReserve;
}

/**
 * The background duties of a replica's storage: checkpoints, trimming (R17) and the watch on free
 * space. One loop; its failure is the replica's.
 */
export class LogKeeper {
  readonly #o: LogKeeperOptions;
  #spaceAtMs = 0;
  /** Free bytes when it last looked, and what was appended since: much fits between two looks. */
  #freeBytes = Number.POSITIVE_INFINITY;
  #appendedBytes = 0;
  #refusing = false;
  #short = false;
  #stateBytes: number;

  constructor(options: LogKeeperOptions) {
    this.#o = options;
    this.#stateBytes = options.state.stats.bytes;
  }

  /** Of the state on disk, when it last looked. */
  get stateBytes(): number {
    return this.#stateBytes;
  }

  /** Why writes are refused; null while there is room. */
  get noSpace(): { readonly path: string; readonly freeBytes: number } | null {
    const freeBytes = Math.max(0, this.#freeBytes - this.#appendedBytes);
    return freeBytes < this.#o.options.clientFreeBytesMin ? { path: this.#o.dir, freeBytes } : null;
  }

  /** So many bytes will be written to the log. */
  appended(bytes: number): void {
    this.#appendedBytes += bytes;
  }

  async run(): Promise<void> {
    const { clock, signal } = this.#o;
    while (!signal.aborted) {
      try {
        await clock.sleep(PERIOD_MS, signal);
      } catch {
        return;
      }
      await this.#saveCommitted();
      await this.#watchSpace();
      await this.#checkpoint();
      await this.#trim();
    }
  }

  async #saveCommitted(): Promise<void> {
    try {
      await this.#o.wal.saveCommitted();
    } catch (error) {
      // The next round tries again; the watch on space says what is wrong.
      if (!isFull(error)) throw error;
    }
  }

  async #checkpoint(): Promise<void> {
    const { clock, state, options, signal } = this.#o;
    if (!state.checkpointDue(clock.monotonicMs(), options.checkpointIntervalMs)) return;
    try {
      await state.checkpoint(signal);
    } catch (error) {
      if (!isFull(error)) throw error;
      // Nothing is lost: the log keeps it all, and the next round tries again.
      this.#o.logger.error("checkpoint waits for space", { reason: (error as Error).message });
    }
  }

  /** Never beyond the durable state, the base, or a transfer in progress (R17). */
  async #trim(): Promise<void> {
    const { wal, state, clock, options, transferFloor, trimmed } = this.#o;
    const { walRetentionMs, walRetentionBytes } = options;
    const expired = wal.retentionOffset(clock.nowMs(), walRetentionMs, walRetentionBytes);
    const limit = Math.min(expired, state.durable.offset, transferFloor());
    if (limit < wal.first) return;
    await wal.trim(limit);
    trimmed(wal.base.offset);
  }

  async #watchSpace(): Promise<void> {
    const { clock, disk, options, dir, logger, space, reserve } = this.#o;
    const nowMs = clock.monotonicMs();
    if (nowMs < this.#spaceAtMs) return;
    this.#spaceAtMs = nowMs + SPACE_PERIOD_MS;
    const freeBytes = await disk.freeBytes(dir);
    this.#freeBytes = freeBytes;
    this.#appendedBytes = 0;
    const refusing = freeBytes < options.clientFreeBytesMin;
    if (refusing !== this.#refusing) {
      this.#refusing = refusing;
      const fields = { path: dir, freeBytes, needed: options.clientFreeBytesMin };
      if (refusing) logger.error("volume nearly full, writes are refused", fields);
      else logger.info("volume has room again, writes are accepted", fields);
    }
    const short = freeBytes < options.freeBytesMin;
    if (short !== this.#short) {
      this.#short = short;
      const fields = { path: dir, freeBytes, needed: options.freeBytesMin };
      if (short) logger.error("volume full, entries wait for room", fields);
      else logger.info("volume has room for entries again", fields);
      space(short);
    }
    if (!short) await reserve.keep();
    this.#stateBytes = this.#o.state.stats.bytes;
    if (!this.#o.votes()) await this.#o.room.measure();
  }

  /** A write just failed for want of space: the next look is now. */
  lookAtSpace(): void {
    this.#spaceAtMs = 0;
  }
}
