import { assert } from "../lib/assert.ts";
import { everyStep } from "../lib/every-step.ts";
import type { Clock } from "../lib/ports/clock.ts";
import { type Disk, isFatal } from "../lib/ports/disk.ts";
import { LIMITS } from "../limits.ts";
import { LOG_START, type LogEntry, type LogPosition, type Offset } from "../protocol/entry.ts";
import type {
  GetRequest,
  GetResponse,
  ListRequest,
  RangeScanRequest,
  WriteResponse,
} from "../protocol/gen/oxia-client.ts";
import { finishCheckpoint, type PendingCheckpoint, writeCheckpoint } from "./checkpoint.ts";
import { decodeMeta } from "./checkpoint-meta.ts";
import type { Engine, EngineFactory, EnginePin } from "./engine.ts";
import { entrySteps, type EntrySteps } from "./entry-steps.ts";
import {
  type EncodedKey,
  keyBytes,
  type KeyRange,
  type KeySorting,
  META_KEY,
  RECORDS_FROM,
  RECORDS_TO,
} from "./key-order.ts";
import type { MemoryBudget } from "./memory-budget.ts";
import { MemoryTable, type TableEntry } from "./memory-table.ts";
import { closedRead, OpenViews } from "./open-views.ts";
import { readList, readOne, readScan, type RecordSource } from "./read-request.ts";
import { type RecordVersion, recordVersion, StateCorrupt, verifyRecord } from "./record.ts";
import { RedoJournal } from "./redo-journal.ts";
import { SlicePace } from "./slice-pace.ts";
import { checksumOf } from "./state-checksum.ts";
import { VersionCache } from "./version-cache.ts";
import { VersionCounter } from "./version-counter.ts";
import { takesSteps, type WriteTarget } from "./write-request.ts";

/** See {@link ShardState.open}. */
export interface ShardStateOptions {
  /** The engine's directory; the redo journal is in it too. */
  readonly dir: string;
  readonly engine: EngineFactory;
  readonly disk: Disk;
  readonly clock: Clock;
  /** One for the whole process. */
  readonly budget: MemoryBudget;
  /** Fixed when the shard is new; must be the same ever after. */
  readonly keySorting: KeySorting;
  /** Lowest loss epoch to use (R6); 0 when absent. */
  readonly lossEpoch?: number;
}

/** A frozen checkpoint for a snapshot. */
export interface StatePin {
  readonly position: LogPosition;
  readonly records: number;
  readonly engine: EnginePin;
  release(): Promise<void>;
}

/** Figures for status and metrics. Bytes on disk; table bytes in memory, an estimate. */
export interface StateStats {
  readonly bytes: number;
  readonly records: number;
  readonly tableBytes: number;
  readonly readOps: number;
  readonly writeOps: number;
}

/**
 * The state machine of one shard. `apply`, `get` and the reads are synchronous and consistent with
 * each other; checkpoints, pins and close take their turn in one queue. Whatever happens to the
 * process or the power, the next `open` finds exactly the state of the last finished checkpoint and
 * says where the log goes on.
 */
export class ShardState {
  readonly #options: ShardStateOptions;
  readonly #engine: Engine;
  readonly #journal: RedoJournal;
  readonly #cache = new VersionCache();
  readonly #counter: VersionCounter;
  readonly #pace: SlicePace;
  readonly #views: OpenViews;
  readonly #target: WriteTarget;
  readonly #source: RecordSource;
  #active = new MemoryTable();
  #pending: PendingCheckpoint | null = null;
  /** The pending checkpoint is on its way; otherwise an attempt failed and another is due. */
  #writing = false;
  /** Ended an attempt for good: a failed sync seems to succeed when it is tried again (R14). */
  #broken: Error | null = null;
  /** What reads see. */
  #applied: LogPosition;
  /** The entry being applied; ahead of #applied between its steps. */
  #writeOffset: Offset;
  #keepReplaced = false;
  /** Resolves when the entry that is applied in turns is; null: none is. */
  #unfinished: Promise<void> | null = null;
  #durable: LogPosition;
  #records: number;
  #checkpointAtMs: number;
  #readOps = 0;
  #writeOps = 0;
  #turn: Promise<void> = Promise.resolve();
  #closed = false;

  /**
   * Opens the state in a directory, finishing a checkpoint that a crash interrupted.
   * Throws StateCorrupt when what is stored cannot be trusted, DiskError when it cannot be read.
   */
  static async open(options: ShardStateOptions): Promise<ShardState> {
    const engine = await options.engine.open(options.dir);
    const journal = new RedoJournal(options.disk, options.dir);
    try {
      await finishCheckpoint({ engine, journal, clock: options.clock });
      return new ShardState(options, engine, journal);
    } catch (error) {
      await journal.close();
      await engine.close();
      throw error;
    }
  }

  private constructor(options: ShardStateOptions, engine: Engine, journal: RedoJournal) {
    this.#options = options;
    this.#engine = engine;
    this.#journal = journal;
    this.#pace = new SlicePace(options.clock, options.budget);
    const stored = engine.get(keyBytes(META_KEY));
    const meta = stored === undefined ? null : decodeMeta(stored);
    if (meta !== null && meta.keySorting !== options.keySorting) {
      throw new StateCorrupt(
        `keys are stored in ${meta.keySorting} order; the shard's record says ${options.keySorting}`,
      );
    }
    const epoch = Math.max(meta?.lossEpoch ?? 0, options.lossEpoch ?? 0);
    this.#counter = new VersionCounter(meta?.versionCounter ?? 0, epoch);
    this.#durable = meta?.position ?? LOG_START;
    this.#applied = this.#durable;
    this.#writeOffset = this.#applied.offset;
    this.#records = meta?.records ?? 0;
    this.#checkpointAtMs = options.clock.monotonicMs();
    this.#target = this.#writeTarget();
    const tables = (): readonly MemoryTable[] => this.#tables();
    this.#views = new OpenViews(options.clock, (offset) => ({ offset, tables: tables(), engine }));
    this.#source = {
      keySorting: options.keySorting,
      record: (key) => this.#record(key),
      view: (range, reverse) => this.#views.openForClient(range, reverse, this.#applied.offset),
    };
    options.budget.countShard(1);
  }

  /** The last entry applied. */
  get applied(): LogPosition {
    return this.#applied;
  }

  /** The last entry of the last durable checkpoint: the log before it is not needed here (R17). */
  get durable(): LogPosition {
    return this.#durable;
  }

  /** R6: the highest loss epoch seen. */
  get lossEpoch(): number {
    return this.#counter.lossEpoch;
  }

  get stats(): StateStats {
    return {
      bytes: this.#engine.bytes(),
      records: this.#records,
      tableBytes: this.#active.bytes + (this.#pending?.table.bytes ?? 0),
      readOps: this.#readOps,
      writeOps: this.#writeOps,
    };
  }

  /**
   * Applies the next committed entry. Values are copied: the entry's buffer may be reused
   * afterwards. Returns the response for the writer, null for a control entry. Same entries, same
   * responses, on every replica.
   */
  apply(entry: LogEntry): WriteResponse | null {
    const steps = this.#begin(entry);
    let step = steps.next();
    while (step.done !== true) step = steps.next();
    return step.value;
  }

  /**
   * As `apply`; what takes long goes on in further turns of the event loop, and then a promise is
   * returned. Reads see nothing of the entry before all of it is applied; the next entry waits.
   */
  applyInTurns(entry: LogEntry): WriteResponse | null | Promise<WriteResponse | null> {
    const steps = this.#begin(entry);
    const first = steps.next();
    if (first.done === true) return first.value;
    const rest = this.#applyRest(steps);
    const over = (): void => undefined;
    this.#unfinished = rest.then(over, over);
    return rest;
  }

  async #applyRest(steps: EntrySteps): Promise<WriteResponse | null> {
    try {
      for (;;) {
        await this.#options.clock.yield();
        const step = steps.next();
        if (step.done === true) return step.value;
      }
    } finally {
      this.#unfinished = null;
    }
  }

  *#begin(entry: LogEntry): EntrySteps {
    assert(!this.#closed, "apply after close");
    const after = this.#applied.offset;
    assert(
      this.#writeOffset === after && entry.offset === after + 1,
      `entry ${entry.offset} applied after ${after}`,
    );
    this.#writeOffset = entry.offset;
    const response = yield* entrySteps(entry, {
      target: this.#target,
      writes: (request) => {
        const { puts, deletes, deleteRanges } = request;
        this.#writeOps += puts.length + deletes.length + deleteRanges.length;
        // Reads between two steps need what the first ones replace.
        this.#keepReplaced = takesSteps(request);
      },
      barrier: (lossEpoch) => this.#counter.raiseEpoch(lossEpoch),
    });
    this.#applied = { term: entry.term, offset: entry.offset, crc: entry.crc };
    this.#keepReplaced = false;
    return response;
  }

  /** Answers a get of any comparison. Like all reads it throws RESOURCE_UNAVAILABLE when closed. */
  get(request: GetRequest): GetResponse {
    // One of several gets, each in a turn of its own: a snapshot may have been installed between.
    if (this.#closed) throw closedRead();
    this.#readOps += 1;
    return readOne(this.#source, request);
  }

  /**
   * Pages of keys of one consistent view, taken when iteration starts. Return the iterator to
   * release it early.
   */
  list(request: ListRequest): Iterable<readonly string[]> {
    this.#readOps += 1;
    return readList(this.#source, request);
  }

  /**
   * Pages of records of one consistent view, taken when iteration starts. Return the iterator to
   * release it early.
   */
  scan(request: RangeScanRequest): Iterable<readonly GetResponse[]> {
    this.#readOps += 1;
    return readScan(this.#source, request);
  }

  /**
   * True when a checkpoint should start: enough is dirty, or the last one began that long ago, or
   * the process needs memory.
   */
  checkpointDue(nowMs: number, intervalMs: number): boolean {
    if (this.#writing || this.#applied.offset === this.#durable.offset) return false;
    if (this.#active.bytes >= LIMITS.checkpointBytes || this.#options.budget.pressed) return true;
    return nowMs - this.#checkpointAtMs >= intervalMs;
  }

  /**
   * Makes everything applied so far durable in the engine; resolves with the durable position.
   * After a failure nothing is lost and it may be called again, unless the error is a fatal
   * DiskError (R14). With `calm` it rests between slices for the sake of other work, until that
   * aborts or somebody else waits for a turn.
   */
  checkpoint(calm?: AbortSignal): Promise<LogPosition> {
    return this.#inTurn(async () => {
      this.#checkpointAtMs = this.#options.clock.monotonicMs();
      this.closeOldViews();
      // First what an earlier, failed attempt left.
      if (this.#pending !== null) await this.#finishPending();
      // Half an entry must not be frozen.
      while (this.#unfinished !== null) await this.#unfinished;
      if (this.#applied.offset !== this.#durable.offset) {
        this.#freeze();
        await this.#finishPending();
      }
      return this.#durable;
    }, calm);
  }

  #freeze(): void {
    const meta = {
      position: this.#applied,
      versionCounter: this.#counter.next,
      lossEpoch: this.#counter.lossEpoch,
      records: this.#records,
      keySorting: this.#options.keySorting,
    };
    this.#pending = { table: this.#active, meta, journaled: false, order: null };
    this.#active = new MemoryTable();
  }

  async #finishPending(): Promise<void> {
    const pending = this.#pending;
    assert(pending !== null, "no checkpoint is pending");
    if (this.#broken !== null) throw this.#broken;
    const { clock } = this.#options;
    this.#writing = true;
    try {
      const target = { engine: this.#engine, journal: this.#journal, clock, pace: this.#pace };
      await writeCheckpoint(pending, target);
      // The table still shadows the engine meanwhile.
      const { cacheEntriesPerShard } = this.#options.budget;
      await this.#cache.setAll(pending.table, cacheEntriesPerShard, clock);
    } catch (error) {
      if (isFatal(error)) this.#broken = error;
      throw error;
    } finally {
      this.#writing = false;
    }
    this.#pending = null;
    this.#durable = pending.meta.position;
    this.#options.budget.add(-pending.table.bytes);
  }

  /**
   * Freezes the last finished checkpoint for a snapshot, one made now when there is none or more
   * than `appliedBytesMax` was applied since. Release it.
   */
  async pin(appliedBytesMax = Number.POSITIVE_INFINITY): Promise<StatePin> {
    const none = this.#durable.offset === LOG_START.offset;
    if (none || this.#active.bytes > appliedBytesMax) await this.checkpoint();
    return this.#inTurn(async () => {
      // A failed attempt may have left slices in the engine: finish it, or pin a mixture.
      if (this.#pending !== null) await this.#finishPending();
      const stored = this.#engine.get(keyBytes(META_KEY));
      const meta = stored === undefined ? null : decodeMeta(stored);
      const engine = await this.#engine.pin();
      return {
        position: meta?.position ?? LOG_START,
        records: meta?.records ?? 0,
        engine,
        release: () => engine.release(),
      };
    });
  }

  /**
   * Checksum of everything that must be equal on replicas that applied the same entries: keys,
   * records, counters. Reads and verifies every record of one view, a thousand per turn.
   * Independent of what is flushed. May take as long as its caller waits.
   */
  async checksum(
    signal: AbortSignal,
  ): Promise<{ appliedOffset: number; checksum: string; records: number }> {
    while (this.#unfinished !== null) await this.#unfinished;
    const appliedOffset = this.#applied.offset;
    const counters = [this.#counter.next, this.#counter.lossEpoch];
    const view = this.#views.open({ from: RECORDS_FROM, to: RECORDS_TO }, appliedOffset);
    const sum = await checksumOf(view, counters, this.#options.clock, signal);
    return { appliedOffset, ...sum };
  }

  /**
   * Waits for the checkpoint in progress, then closes. Makes no checkpoint. Pins are released,
   * their readers fail.
   */
  close(): Promise<void> {
    return this.#inTurn(async () => {
      if (this.#closed) return;
      this.#closed = true;
      this.#views.close();
      const { budget } = this.#options;
      budget.add(-this.#active.bytes - (this.#pending?.table.bytes ?? 0));
      budget.countShard(-1);
      await everyStep([() => this.#journal.close(), () => this.#engine.close()]);
    });
  }

  async #inTurn<T>(work: () => Promise<T>, calm?: AbortSignal): Promise<T> {
    const release = this.#pace.hurry(calm);
    const before = this.#turn;
    let done = (): void => undefined;
    this.#turn = new Promise((resolve) => {
      done = resolve;
    });
    await before;
    try {
      return await work();
    } finally {
      release();
      done();
    }
  }

  #tables(): readonly MemoryTable[] {
    return this.#pending === null ? [this.#active] : [this.#active, this.#pending.table];
  }

  #entry(key: EncodedKey): TableEntry | undefined {
    return this.#active.get(key) ?? this.#pending?.table.get(key);
  }

  /** As reads see it: without what is only applied in part. */
  #visible(key: EncodedKey): TableEntry | undefined {
    const { offset } = this.#applied;
    if (this.#writeOffset === offset) return this.#entry(key);
    return this.#active.getAt(key, offset) ?? this.#pending?.table.getAt(key, offset);
  }

  #record(key: EncodedKey): Uint8Array | null {
    const entry = this.#visible(key);
    if (entry !== undefined) return entry.record;
    if (this.#cache.get(key) === null) return null;
    return this.#stored(key);
  }

  #stored(key: EncodedKey): Uint8Array | null {
    const stored = keyBytes(key);
    const record = this.#engine.get(stored);
    if (record === undefined) return null;
    verifyRecord(stored, record);
    return record;
  }

  #version(key: EncodedKey): RecordVersion | null {
    const entry = this.#entry(key);
    if (entry !== undefined) return entry.version;
    const cached = this.#cache.get(key);
    if (cached !== undefined) return cached;
    const record = this.#stored(key);
    return record === null ? null : recordVersion(record);
  }

  #set(key: EncodedKey, record: Buffer | null, version: RecordVersion | null): void {
    const write = { offset: this.#writeOffset, record, version };
    const keep = this.#keepReplaced || this.#views.some;
    this.#options.budget.add(this.#active.set(key, this.#active.get(key), keep, write));
  }

  #writeTarget(): WriteTarget {
    return {
      keySorting: this.#options.keySorting,
      version: (key) => this.#version(key),
      put: (key, record, version, found) => {
        if (found === null) this.#records += 1;
        this.#set(key, record, version);
      },
      remove: (key) => {
        this.#records -= 1;
        this.#set(key, null, null);
      },
      keys: (range, max) => this.#keysOf(range, max),
      takeVersionId: (wanted) => this.#counter.take(wanted),
    };
  }

  #keysOf(range: KeyRange, max: number): readonly EncodedKey[] {
    const view = this.#views.open(range, this.#writeOffset);
    const keys: EncodedKey[] = [];
    for (let item = view.next(); item !== undefined; item = view.next()) {
      keys.push(item.key);
      if (keys.length >= max) break;
    }
    view.close();
    return keys;
  }

  /** Views keep old pages and old entries alive: to be called now and then, also when idle. */
  closeOldViews(): void {
    this.#views.closeOld();
  }
}
