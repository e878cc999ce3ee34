import type { Clock } from "../lib/ports/clock.ts";
import type { Disk } from "../lib/ports/disk.ts";
import type { Logger } from "../lib/ports/logger.ts";
import { LIMITS } from "../limits.ts";
import { INVALID_OFFSET, type Offset } from "../protocol/entry.ts";
import type { ShardState } from "../state/shard-state.ts";
import type { Wal } from "../wal/wal.ts";
import { isFull, type SpaceReserve } from "./space-reserve.ts";
import type { ReplicaOptions } from "./replica-options.ts";
import { type NoSpace, VolumeWatch } from "./volume-watch.ts";

/** How often the keeper looks. */
const PERIOD_MS = 250;
/** How often it asks for free space. */
const SPACE_PERIOD_MS = 1_000;

/** For how long nothing must have been committed before a sync is spent on what was. */
const COMMIT_QUIET_MS = 1_000;

/** What the keeper looks after. */
export interface LogKeeperOptions {
  readonly wal: Wal;
  /** The directories of log and state, whose volumes are watched; they may be on the same one. */
  readonly dir: string;
  readonly stateDir: string;
  readonly state: ShardState;
  readonly disk: Disk;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly options: ReplicaOptions;
  readonly signal: AbortSignal;
  /** Entries up to here need not be kept for transfers under way (R17). */
  readonly transferFloor: () => Offset;
  /** How large the state was at the oldest snapshot that is kept for them; null: none is. */
  readonly transferStateBytes: () => number | null;
  /** Ends those transfers, and lets go what is kept for them; the reason is for people. */
  readonly dropTransfers: (reason: string) => Promise<void>;
  readonly trimmed: (offset: Offset) => void;
  /** What was last said of it, for the storage before a swap. */
  readonly short: boolean;
  /** A volume became nearly full, or both have room again. */
  readonly space: (short: boolean) => void;
  /** Kept for promises; see {@link SpaceReserve}. */
  readonly reserve: SpaceReserve;
}

/**
 * The background duties of a replica's storage: checkpoints, trimming (R17), the end of reads that
 * take too long, and the watch on free space. One loop; its failure is the replica's.
 */
export class LogKeeper {
  readonly #o: LogKeeperOptions;
  readonly #logVolume: VolumeWatch;
  readonly #stateVolume: VolumeWatch;
  #spaceAtMs = 0;
  /** Why the last checkpoint could not be written; null: it could, or none was begun. */
  #checkpointFull: string | null = null;
  #checkpointAgainMs = 0;
  /** The commit offset at the last look, and since when it is that. */
  #commit: Offset = INVALID_OFFSET;
  #commitAtMs = 0;
  #short: boolean;
  #stateBytes: number;

  constructor(options: LogKeeperOptions) {
    this.#o = options;
    this.#short = options.short;
    const { disk, logger, dir, stateDir } = options;
    const limits = options.options;
    this.#logVolume = new VolumeWatch({
      disk,
      logger,
      dir,
      clientFreeBytesMin: limits.clientFreeBytesMin,
      freeBytesMin: limits.freeBytesMin,
    });
    this.#stateVolume = new VolumeWatch({
      disk,
      logger,
      dir: stateDir,
      clientFreeBytesMin: limits.clientStateFreeBytesMin,
      freeBytesMin: limits.stateFreeBytesMin,
    });
    this.#stateBytes = options.state.stats.bytes;
  }

  /** Of the state on disk, when it last looked. */
  get stateBytes(): number {
    return this.#stateBytes;
  }

  /** Why writes are refused; null while there is room. */
  get noSpace(): NoSpace | null {
    const full = this.#logVolume.noSpace ?? this.#stateVolume.noSpace;
    if (full !== null || this.#checkpointFull === null) return full;
    const { freeBytes } = this.#stateVolume;
    const allowed = `enough for a checkpoint (${this.#checkpointFull})`;
    return { path: this.#o.stateDir, freeBytes, allowed };
  }

  /** So many bytes will be written to the log, and with the next checkpoint to the state. */
  appended(bytes: number): void {
    this.#logVolume.taken(bytes);
    this.#stateVolume.taken(bytes);
  }

  async run(): Promise<void> {
    const { clock, signal, state } = this.#o;
    while (!signal.aborted) {
      try {
        await clock.sleep(PERIOD_MS, signal);
      } catch {
        return;
      }
      // Most rounds find nothing to do, and a pod holds thousands of keepers.
      state.closeOldViews();
      if (this.#isCommitQuiet()) await this.#saveCommitted();
      if (clock.monotonicMs() >= this.#spaceAtMs) await this.#watchSpace();
      const grown = this.#grownByTransfers();
      if (grown !== null) await this.#o.dropTransfers(grown);
      if (this.#isCheckpointDue()) await this.#checkpoint();
      const unneeded = this.#unneeded();
      if (unneeded >= this.#o.wal.first) await this.#trim(unneeded);
    }
  }

  /** While writes go on, each batch says what was committed before it, at no cost. */
  #isCommitQuiet(): boolean {
    const { wal, clock } = this.#o;
    const nowMs = clock.monotonicMs();
    if (wal.committed !== this.#commit) {
      this.#commit = wal.committed;
      this.#commitAtMs = nowMs;
    }
    return nowMs - this.#commitAtMs >= COMMIT_QUIET_MS && wal.hasUnsavedCommit;
  }

  async #saveCommitted(): Promise<void> {
    try {
      await this.#o.wal.saveCommitted();
    } catch (error) {
      // The next round tries again; the watch on space says what is wrong.
      if (!isFull(error)) throw error;
    }
  }

  #isCheckpointDue(): boolean {
    const { clock, state, options } = this.#o;
    const nowMs = clock.monotonicMs();
    // One that waits for space is tried again when there may be some, not when it would be due.
    return this.#checkpointFull === null
      ? state.checkpointDue(nowMs, options.checkpointIntervalMs)
      : nowMs >= this.#checkpointAgainMs && !this.#stateVolume.short;
  }

  async #checkpoint(): Promise<void> {
    const { clock, state, signal, logger } = this.#o;
    const waits = this.#checkpointFull !== null;
    try {
      await state.checkpoint(signal);
      if (waits) logger.info("checkpoint found space again", { path: this.#o.stateDir });
      this.#checkpointFull = null;
    } catch (error) {
      if (!isFull(error)) throw error;
      // Nothing is lost: the log keeps it all. But the memory table cannot be emptied, and full it
      // would keep everybody waiting: no more is taken in before there is room.
      const reason = (error as Error).message;
      if (reason !== this.#checkpointFull) logger.error("checkpoint waits for space", { reason });
      this.#checkpointFull = reason;
      this.#checkpointAgainMs = clock.monotonicMs() + SPACE_PERIOD_MS;
    }
    this.#tellShort();
  }

  /** The newest entry that is old enough to go, and in the durable state. */
  #unneeded(): Offset {
    const { wal, state, clock, options } = this.#o;
    const { walRetentionMs, walRetentionBytes } = options;
    const expired = wal.retentionOffset(clock.nowMs(), walRetentionMs, walRetentionBytes);
    return Math.min(expired, state.durable.offset);
  }

  /** Never beyond what is unneeded, the base, or a transfer in progress (R17). */
  async #trim(unneeded: Offset): Promise<void> {
    const { wal, options, transferFloor, dropTransfers, trimmed } = this.#o;
    const kept = transferFloor();
    // Before clients are refused for the log that a transfer holds, the transfer goes.
    const neededBytes = options.clientFreeBytesMin + options.segmentBytes;
    const { freeBytes } = this.#logVolume;
    const holds = wal.trimOffset(kept) < wal.trimOffset(unneeded);
    if (holds && freeBytes < neededBytes) {
      const have = `the volume of ${this.#o.dir} has ${freeBytes} bytes free of ${neededBytes}`;
      await dropTransfers(`dropped for the log that is kept for it: ${have}`);
    }
    const limit = Math.min(unneeded, transferFloor());
    if (limit < wal.first) return;
    await wal.trim(limit);
    trimmed(wal.base.offset);
  }

  /**
   * Why transfers have to end for the sake of the state's volume; null: they need not.
   *
   * While a snapshot is held no page that the state frees is used again: its file grows with every
   * checkpoint. Before clients are refused for that, the snapshot goes (R17). Not for a state that
   * would have grown anyway: nothing that is in the file already comes back.
   */
  #grownByTransfers(): string | null {
    const { options, state, stateDir, transferStateBytes } = this.#o;
    const heldBytes = transferStateBytes();
    if (heldBytes === null) return null;
    const neededBytes = options.clientStateFreeBytesMin + LIMITS.checkpointRoomBytes;
    const { freeBytes } = this.#stateVolume;
    const grownBytes = state.stats.bytes - heldBytes;
    if (freeBytes >= neededBytes || grownBytes < LIMITS.checkpointBytes) return null;
    const have = `the volume of ${stateDir} has ${freeBytes} bytes free of ${neededBytes}`;
    return `dropped for the pages that are kept for it: ${have}`;
  }

  async #watchSpace(): Promise<void> {
    const { clock, reserve, state } = this.#o;
    this.#spaceAtMs = clock.monotonicMs() + SPACE_PERIOD_MS;
    await this.#logVolume.look();
    await this.#stateVolume.look();
    this.#tellShort();
    if (!this.#logVolume.short) await reserve.keep();
    this.#stateBytes = state.stats.bytes;
  }

  #tellShort(): void {
    const full = this.#checkpointFull !== null;
    const short = full || this.#logVolume.short || this.#stateVolume.short;
    if (short === this.#short) return;
    this.#short = short;
    this.#o.space(short);
  }

  /** A write just failed for want of space: the next look is now. */
  lookAtSpace(): void {
    this.#spaceAtMs = 0;
  }
}
