import { assert } from "../lib/assert.ts";
import type { Clock } from "../lib/ports/clock.ts";
import { type Disk, DiskError } from "../lib/ports/disk.ts";
import { chainCrc, type LogEntry, type LogPosition, type Offset } from "../protocol/entry.ts";
import { type BatchPlace, encodeBatch, nextBatch } from "./batch.ts";
import { WalBeyondEnd, WalTrimmed } from "./errors.ts";
import { type OpenedLog, openLog, restartLog } from "./open-log.ts";
import type { MarksFile } from "./marks.ts";
import type { RecoveredLog } from "./recovery.ts";
import { retentionOffset } from "./retention.ts";
import { locateEnd, readEntries } from "./segment-reader.ts";
import { SegmentWriter } from "./segment-writer.ts";
import type { Segment } from "./segment.ts";
import { newWaiter, type SyncWaiter } from "./sync-waiter.ts";
import { SerialQueue } from "./serial-queue.ts";

/** How to open a log. */
export interface WalOptions {
  readonly disk: Disk;
  /** Directory of this log alone; made when absent. The caller holds its lock. */
  readonly dir: string;
  /** A segment ends before it exceeds this; one entry may. */
  readonly segmentBytes: number;
  /** Default true. */
  readonly preallocate?: boolean;
  /** Called after each write and sync of a batch, for metrics. */
  readonly onSync?: (durationMs: number, bytes: number) => void;
  readonly clock: Clock;
  /**
   * The installed snapshot's position (R5). A log that does not reach or contradicts it is
   * discarded (R12).
   */
  readonly base?: LogPosition;
}

/**
 * The write-ahead log of one replica: entries from `base` to `last` without a gap, each chained to
 * the one before it by its CRC. What `sync` resolved for is there after any crash; damage to it is
 * a fault, never a shorter log (R14, I19).
 *
 * Errors. A failed sync, an I/O error or a broken invariant is final: that call and every later one
 * throw it. NO_SPACE is not: what was appended stays pending, and the next `sync` tries again.
 */
export class Wal {
  /**
   * What opening found. With a fault, only `read` (of what is before it), `reset` and `close` are
   * allowed.
   */
  readonly recovered: RecoveredLog;
  readonly #options: WalOptions & { readonly preallocate: boolean };
  readonly #marks: MarksFile;
  readonly #queue = new SerialQueue();
  /** In log order; the last one is being written to when #writer is not null. */
  #segments: Segment[];
  #writer: SegmentWriter | null;
  /** Position before the first entry while there is no segment. */
  #emptyBase: LogPosition;
  #synced: LogPosition;
  #last: LogPosition;
  /** Highest offset known committed, and what of that a marks slot or a record says. */
  #commit: Offset;
  #savedCommit: Offset;
  /** Appended and not yet durable: the entries after #synced. */
  #pending: LogEntry[] = [];
  #waiters: SyncWaiter[] = [];
  #flushing: Promise<void> | null = null;
  /** Truncations and resets, counted at their start: reads that overlap one are repeated. */
  #epoch = 0;
  #cutting = 0;
  #latestChange: Promise<void> = Promise.resolve();
  #faulty: boolean;
  #stopped: Error | null = null;

  private constructor(options: WalOptions & { readonly preallocate: boolean }, opened: OpenedLog) {
    this.#options = options;
    this.recovered = opened.recovered;
    this.#marks = opened.marks;
    this.#segments = [...opened.segments];
    this.#writer = opened.writer;
    this.#emptyBase = opened.recovered.base;
    this.#synced = opened.recovered.last;
    this.#last = opened.recovered.last;
    this.#commit = opened.recovered.commit;
    this.#savedCommit = opened.recovered.commit;
    this.#faulty = opened.recovered.fault !== null;
  }

  /**
   * Opens the log in `dir`: cuts a torn tail, finishes an interrupted truncation or reset, and
   * syncs all that is there before it reports it (H14). A damaged log opens too, unchanged, with
   * `recovered.fault`.
   */
  static async open(options: WalOptions): Promise<Wal> {
    assert(
      options.segmentBytes >= 4096,
      `segmentBytes is ${options.segmentBytes}, must be at least 4096`,
    );
    const all = { ...options, preallocate: options.preallocate ?? true };
    return new Wal(all, await openLog(all, options.base));
  }

  /** Offset of the oldest entry held; last + 1 when there is none. */
  get first(): Offset {
    return this.base.offset + 1;
  }

  /** Position of the newest entry appended, durable or not; `base` when there is none. */
  get last(): LogPosition {
    return this.#last;
  }

  /** Position of the newest entry known durable. */
  get synced(): LogPosition {
    return this.#synced;
  }

  /** Position before the first entry. */
  get base(): LogPosition {
    return this.#segments[0]?.base ?? this.#emptyBase;
  }

  /** Bytes of headers and records on disk, without what is only preallocated. */
  get bytes(): number {
    return this.#segments.reduce((sum, segment) => sum + segment.end, 0);
  }

  /** Number of segment files. */
  get segments(): number {
    return this.#segments.length;
  }

  /**
   * Takes entries that continue the log; durable after the next `sync`. Values are kept by
   * reference and not copied: they must not change until the `sync` that covers them has resolved.
   * The caller bounds how much is pending. Throws InvariantError on a gap or a broken chain.
   */
  append(entries: readonly LogEntry[]): void {
    this.#checkUsable();
    assert(this.#cutting === 0, "no append during a truncation or reset of the log");
    let last = this.#last;
    for (const entry of entries) {
      const { term, offset, timestampMs, value, crc } = entry;
      assert(offset === last.offset + 1, `append of offset ${offset} after ${last.offset}`);
      assert(term >= last.term, `append of term ${term} after ${last.term}`);
      const expected = chainCrc(last.crc, term, offset, timestampMs, value);
      assert(crc === expected, `append of offset ${offset} breaks the chain of checksums`);
      last = { term, offset, crc };
      this.#pending.push(entry);
      this.#last = last;
    }
  }

  /**
   * Makes everything appended before the call durable; resolves with the position of the last
   * durable entry. Callers that come while a sync is in flight share the next one.
   */
  sync(): Promise<LogPosition> {
    if (this.#stopped !== null) return Promise.reject(this.#stopped);
    const target = this.#last.offset;
    if (target <= this.#synced.offset && this.#flushing === null)
      return Promise.resolve(this.#synced);
    const latest = this.#waiters.at(-1);
    if (latest?.target === target) return latest.promise;
    const waiter = newWaiter(target);
    this.#waiters.push(waiter);
    this.#flushing ??= this.#flush();
    return waiter.promise;
  }

  /**
   * Says that an acknowledgement of `offset` leaves this process. Every durable entry counts as
   * acknowledged (the mark is on disk before `sync` resolves), so this only checks the caller (I5).
   */
  markAcked(offset: Offset): void {
    assert(offset <= this.#synced.offset, `ack of ${offset}, durable is ${this.#synced.offset}`);
  }

  /**
   * Takes note that everything up to `offset` is committed, so that a restart does not cut it (I9).
   * It is written with the next batch, or by {@link saveCommitted}.
   */
  noteCommitted(offset: Offset): void {
    this.#commit = Math.max(this.#commit, offset);
  }

  /** Highest offset known committed. */
  get committed(): Offset {
    return this.#commit;
  }

  /** What {@link noteCommitted} was told is not durable, and no batch is about to make it so. */
  get hasUnsavedCommit(): boolean {
    return this.#commit > this.#savedCommit && this.#pending.length === 0;
  }

  /** Makes what {@link noteCommitted} was told durable, unless a batch is about to. */
  async saveCommitted(): Promise<void> {
    this.#checkUsable();
    if (!this.hasUnsavedCommit) return;
    await this.#guarded(async () => {
      const commit = this.#commit;
      await this.#marks.writeMark(this.#synced.offset, commit, { sync: true });
      this.#savedCommit = Math.max(this.#savedCommit, commit);
    });
  }

  /**
   * Drops every entry after `lastOffset`, durable when resolved. What was appended is synced first;
   * nothing may be appended meanwhile.
   */
  async truncate(lastOffset: Offset): Promise<void> {
    this.#checkUsable();
    assert(
      lastOffset >= this.base.offset,
      `truncation to ${lastOffset}, base is ${this.base.offset}`,
    );
    await this.#exclusively(async () => {
      if (lastOffset < this.#last.offset) await this.#cut(lastOffset);
    });
  }

  /**
   * Drops what was appended and is not durable: a full volume leaves no other way to end the wait
   * for it. Needs no space. A `sync` that waits for it resolves with what is durable; nothing may
   * be appended meanwhile.
   */
  async discardPending(): Promise<void> {
    this.#checkUsable();
    if (this.#pending.length === 0) return;
    const discard = async (): Promise<void> => {
      if (this.#pending.length === 0) return;
      this.#pending = [];
      for (const { resolve } of this.#waiters.splice(0)) resolve(this.#synced);
      // Whole records of a batch that was written in part must not be found by a restart.
      await this.#cut(this.#synced.offset);
    };
    await this.#alone(() => this.#guarded(discard, true));
  }

  /** Empties the log and makes `base` its start, durable when resolved. Ends a fault. */
  async reset(base: LogPosition): Promise<void> {
    if (this.#stopped !== null) throw this.#stopped;
    await this.#exclusively(async () => {
      await this.#closeWriter();
      await restartLog(this.#options, this.#marks, base);
      this.#segments = [];
      this.#emptyBase = base;
      this.#synced = base;
      this.#last = base;
      this.#commit = base.offset;
      this.#savedCommit = base.offset;
      this.#faulty = false;
    });
  }

  /**
   * Entries from `from` on, in order: as many as fit `bytesMax` bytes of values, at least one;
   * possibly fewer, at a segment's end. Durable ones come from the disk with their CRCs checked,
   * others from memory. Throws WalTrimmed, WalBeyondEnd, WalCorrupt, DiskError.
   */
  async read(from: Offset, bytesMax: number): Promise<readonly LogEntry[]> {
    for (;;) {
      // Never while the log is being cut: what is read then proves nothing.
      while (this.#cutting > 0) await this.#latestChange;
      if (this.#stopped !== null) throw this.#stopped;
      if (from < this.first) throw new WalTrimmed(from, this.first);
      if (from > this.#last.offset) throw new WalBeyondEnd(from, this.#last.offset);
      if (from > this.#synced.offset) return this.#pendingFrom(from, bytesMax);
      const epoch = this.#epoch;
      const segment = this.#segments.find(({ last }) => last.offset >= from);
      assert(segment !== undefined, `no segment holds the durable offset ${from}`);
      try {
        const entries = await readEntries(this.#options.disk, segment, from, bytesMax);
        if (epoch === this.#epoch) return entries;
      } catch (error) {
        // Nor does what a cut or trim overtook.
        if (epoch === this.#epoch && from >= this.first) throw error;
      }
    }
  }

  /** The last entry that `trim(upTo)` would remove; before `first` when it would remove none. */
  trimOffset(upTo: Offset): Offset {
    let offset = this.base.offset;
    for (const { last } of this.#segments.slice(0, -1)) {
      if (last.offset > upTo) break;
      offset = last.offset;
    }
    return offset;
  }

  /**
   * Removes the oldest segments while their last entry is at or below `upTo`; the newest one stays.
   */
  async trim(upTo: Offset): Promise<void> {
    this.#checkUsable();
    const { disk, dir } = this.#options;
    await this.#guarded(async () => {
      for (let oldest = this.#segments[0]; oldest !== undefined; oldest = this.#segments[0]) {
        if (this.#segments.length === 1 || oldest.last.offset > upTo) return;
        this.#segments.shift();
        await disk.remove(oldest.path);
        // One by one: a crash must not leave an older segment and lose a newer one.
        await disk.syncDir(dir);
      }
    });
  }

  /**
   * Highest offset that retention by age and size would let go; `base.offset` when none. For
   * `trim`.
   */
  retentionOffset(nowMs: number, retentionMs: number, retentionBytes: number): Offset {
    const retention = { nowMs, retentionMs, retentionBytes };
    return retentionOffset(this.#segments, this.base.offset, retention);
  }

  /** Syncs what was appended and closes. Later calls throw. Throws when that sync fails. */
  async close(): Promise<void> {
    let whole = false;
    try {
      await this.sync();
      whole = true;
    } catch (error) {
      // Whoever was waiting for the failed operation heard of it already.
      if (this.#stopped === null) throw error;
    } finally {
      this.#stopped ??= new Error("the log is closed");
      await this.#queue.run(() => this.#release(whole));
    }
  }

  async #release(whole: boolean): Promise<void> {
    const writer = this.#writer;
    this.#writer = null;
    // Without what is only preallocated the next start has less to read.
    if (whole) await writer?.seal();
    else await writer?.close();
    await this.#marks.close();
  }

  async #flush(): Promise<void> {
    try {
      while (this.#waiters.length > 0) {
        if (this.#pending.length > 0) await this.#guarded(() => this.#writeBatch());
        this.#settle();
      }
    } catch (error) {
      const waiters = this.#waiters;
      this.#waiters = [];
      for (const waiter of waiters) waiter.reject(error as Error);
    } finally {
      this.#flushing = null;
    }
  }

  #settle(): void {
    const done = this.#waiters.filter(({ target }) => target <= this.#synced.offset);
    this.#waiters = this.#waiters.filter(({ target }) => target > this.#synced.offset);
    for (const waiter of done) waiter.resolve(this.#synced);
  }

  async #writeBatch(): Promise<void> {
    const { segmentBytes, clock, onSync } = this.#options;
    let writer = this.#writer;
    if (writer === null || !writer.segment.isWritable) writer = await this.#roll();
    let batch = nextBatch(this.#pending, writer.segment, segmentBytes);
    if (batch.count === 0) {
      writer = await this.#roll();
      batch = nextBatch(this.#pending, writer.segment, segmentBytes);
    }
    const entries = this.#pending.slice(0, batch.count);
    const startMs = clock.monotonicMs();
    const place = this.#placeIn(writer.segment);
    await writer.append(encodeBatch(entries, place));
    this.#savedCommit = Math.max(this.#savedCommit, place.commit);
    onSync?.(clock.monotonicMs() - startMs, batch.bytes);
    for (const entry of entries) writer.segment.add(entry);
    this.#pending.splice(0, batch.count);
    this.#synced = writer.segment.last;
    await this.#marks.writeMark(this.#synced.offset, this.#commit);
  }

  #placeIn(segment: Segment): BatchPlace {
    const { generation } = this.#marks.control;
    const commit = this.#commit;
    return { segment, previous: this.#synced, generation, mark: this.#synced.offset, commit };
  }

  /** Seals the segment that is full and makes the next one. */
  async #roll(): Promise<SegmentWriter> {
    assert(
      this.#synced.offset === (this.#segments.at(-1)?.last.offset ?? this.#emptyBase.offset),
      "roll",
    );
    const { generation } = this.#marks.control;
    const writer = await SegmentWriter.create(this.#options, this.#synced, generation);
    const full = this.#writer;
    this.#writer = writer;
    this.#segments.push(writer.segment);
    await full?.seal();
    return writer;
  }

  async #cut(lastOffset: Offset): Promise<void> {
    const { disk, dir } = this.#options;
    const base = this.base;
    const kept = this.#segments.filter((segment) => segment.base.offset < lastOffset);
    const dropped = this.#segments.slice(kept.length).reverse();
    const newest = kept.at(-1);
    const end = newest === undefined ? null : await locateEnd(disk, newest, lastOffset);
    const { control } = this.#marks;
    const commit = Math.min(this.#commit, lastOffset);
    await this.#marks.writeControl({
      generation: control.generation + 1,
      resetGeneration: control.resetGeneration,
      cut: lastOffset,
      base,
      mark: lastOffset,
      commit,
    });
    await this.#closeWriter();
    for (const segment of dropped) await disk.remove(segment.path);
    await disk.syncDir(dir);
    if (newest !== undefined && end !== null) {
      newest.cutBack(end.position, end.end);
      const { generation } = this.#marks.control;
      this.#writer = await SegmentWriter.reopen(this.#options, newest, { cut: true, generation });
    }
    this.#segments = kept;
    this.#emptyBase = base;
    this.#synced = end?.position ?? base;
    this.#last = this.#synced;
  }

  /**
   * Runs a change of what is in the log: after what was appended is durable, with no append then.
   */
  #exclusively(change: () => Promise<void>): Promise<void> {
    return this.#alone(() => this.#afterSync(change));
  }

  #alone(change: () => Promise<void>): Promise<void> {
    this.#cutting += 1;
    this.#epoch += 1;
    const done = change().finally(() => {
      this.#cutting -= 1;
    });
    this.#latestChange = done.catch(() => undefined);
    return done;
  }

  async #afterSync(change: () => Promise<void>): Promise<void> {
    await this.sync();
    await this.#guarded(change, true);
  }

  /**
   * Runs `task` after all others; its failure is final, unless the disk is merely full and the task
   * was no `change` of what is in the log, which may be half done.
   */
  #guarded(task: () => Promise<void>, change = false): Promise<void> {
    return this.#queue.run(async () => {
      if (this.#stopped !== null) throw this.#stopped;
      try {
        await task();
      } catch (error) {
        const full = error instanceof DiskError && error.code === "NO_SPACE" && !error.fatal;
        if (!full || change) this.#stopped ??= error as Error;
        throw error;
      }
    });
  }

  #pendingFrom(from: Offset, bytesMax: number): readonly LogEntry[] {
    const entries: LogEntry[] = [];
    let bytes = 0;
    for (let index = from - this.#synced.offset - 1; index < this.#pending.length; index += 1) {
      const entry = this.#pending[index];
      if (entry === undefined) break;
      bytes += entry.value.byteLength;
      if (entries.length > 0 && bytes > bytesMax) break;
      entries.push(entry);
    }
    return entries;
  }

  async #closeWriter(): Promise<void> {
    const writer = this.#writer;
    this.#writer = null;
    await writer?.close();
  }

  #checkUsable(): void {
    if (this.#stopped !== null) throw this.#stopped;
    assert(!this.#faulty, "a damaged log takes nothing but a reset");
  }
}
