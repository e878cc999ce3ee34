import type { Input } from "../core/input.ts";
import type { Replica } from "../core/replica.ts";
import { everyStep } from "../lib/every-step.ts";
import { INVALID_OFFSET } from "../protocol/entry.ts";
import type { LogEntry, Offset } from "../protocol/entry.ts";
import { ProtocolError } from "../protocol/errors.ts";
import type { WriteResponse } from "../protocol/gen/oxia-client.ts";
import { Applier } from "./applier.ts";
import { LogKeeper } from "./log-keeper.ts";
import type { NodeEnvironment } from "./replica-options.ts";
import { isFull, SPACE_RESERVE_BYTES, type SpaceReserve } from "./space-reserve.ts";
import type { ReplicaStorage } from "./replica-storage.ts";

/** Log bytes that are buffered and not durable before a leader's stream waits. */
const UNSYNCED_BYTES_MAX = 32 * 1024 * 1024;
/** Between two attempts to write to a full volume. */
export const NO_SPACE_RETRY_MS = 500;
/** Beyond this the last checkpoint would not fit into the time of a clean shutdown. */
const LAST_CHECKPOINT_BYTES_MAX = 16 * 1024 * 1024;

/** What the work on a replica's storage needs of its driver. */
export interface StorageWorkOptions {
  readonly env: NodeEnvironment;
  readonly core: Replica;
  /** The directories of log and state, whose volumes are watched. */
  readonly logDir: string;
  readonly stateDir: string;
  /** Ends with the replica. */
  readonly signal: AbortSignal;
  readonly feed: (input: Input) => void;
  /** Each applied entry's result, in offset order. */
  readonly outcome: (offset: Offset, response: WriteResponse | null) => void;
  readonly transferFloor: () => Offset;
  readonly transferStateBytes: () => number | null;
  readonly dropTransfers: (reason: string) => Promise<void>;
  readonly reserve: SpaceReserve;
  readonly fail: (error: unknown) => void;
}

/**
 * Everything that is done with an open log and state: appending, group commit, applying,
 * checkpoints and trimming. The storage may be swapped (a snapshot was installed) while no input is
 * taken.
 */
export class StorageWork {
  readonly #o: StorageWorkOptions;
  #storage: ReplicaStorage | null = null;
  #applier: Applier | null = null;
  #keeper: LogKeeper | null = null;
  #keeping: Promise<void> = Promise.resolve();
  #stop = new AbortController();
  #syncWanted = false;
  #syncing: Promise<void> | null = null;
  #cutting = false;
  #unsyncedBytes = 0;
  /** When the sync that is on its way began; null: none is. */
  #syncAtMs: number | null = null;
  /** What the core was last told of the volumes; outlives a keeper. */
  #short = false;

  constructor(options: StorageWorkOptions) {
    this.#o = options;
  }

  /** Null while files of an older identity wait to be set aside. */
  get storage(): ReplicaStorage | null {
    return this.#storage;
  }

  get applier(): Applier | null {
    return this.#applier;
  }

  /** What a client's write is refused with; null while there is room (R17). */
  get spaceRefusal(): ProtocolError | null {
    const noSpace = this.#keeper?.noSpace ?? null;
    if (noSpace === null) return null;
    const { path, freeBytes, allowed } = noSpace;
    const text = `the volume of ${path} has ${freeBytes} bytes free, writes need ${allowed}`;
    // Nor is anything executed that came after it on its stream.
    const outcome = { outcome: "none" };
    const metadata = { field: "free bytes", value: String(freeBytes), allowed, ...outcome };
    return new ProtocolError("NO_SPACE", text, metadata);
  }

  /** Of the state on disk; 0: none is open. */
  get stateBytes(): number {
    return this.#keeper?.stateBytes ?? 0;
  }

  /** For how long the log has been being written; 0: it is not. */
  get syncingMs(): number {
    return this.#syncAtMs === null ? 0 : this.#o.env.clock.monotonicMs() - this.#syncAtMs;
  }

  /** Begins to work on this storage. */
  start(storage: ReplicaStorage): void {
    this.#storage = storage;
    this.#stop = new AbortController();
    const { signal } = this.#stop;
    const { env, feed, outcome, fail } = this.#o;
    const { transferFloor, transferStateBytes, dropTransfers } = this.#o;
    const { clock, budget, disk, logger, options } = env;
    const { state, reader, wal } = storage;
    const applied = (offset: Offset): void => feed({ kind: "applied", offset });
    this.#applier = new Applier(
      { state, reader, budget, clock, signal, applied, outcome },
      this.#applier,
    );
    this.#keeper = new LogKeeper({
      wal,
      dir: this.#o.logDir,
      stateDir: this.#o.stateDir,
      state,
      disk,
      clock,
      logger,
      options,
      signal,
      transferFloor,
      transferStateBytes,
      dropTransfers,
      trimmed: (offset) => feed({ kind: "trimmed", offset }),
      short: this.#short,
      space: (short) => {
        this.#short = short;
        feed({ kind: "space", short });
      },
      reserve: this.#o.reserve,
    });
    this.#keeping = this.#keeper.run().catch(fail);
  }

  /** Ends all background work on log and state, so that they can be swapped or closed. */
  async pause(): Promise<void> {
    this.#stop.abort(new Error("storage pauses"));
    await this.#applier?.idle();
    await this.#syncing;
    await this.#keeping;
  }

  /** Buffers an entry; a `sync` must follow. */
  append(storage: ReplicaStorage, entry: LogEntry): void {
    storage.wal.append([entry]);
    storage.cache.add(entry);
    this.#unsyncedBytes += entry.value.length;
    this.#keeper?.appended(entry.value.length);
  }

  /**
   * Drops everything after `lastOffset`. No sync begins meanwhile: it would report the end that is
   * being cut off under the epoch that follows the cut, and so credit what is appended next (H1).
   */
  async truncate(storage: ReplicaStorage, lastOffset: Offset): Promise<void> {
    storage.cache.truncate(lastOffset);
    this.#cutting = true;
    try {
      // What is cut off need not be written first, on a full volume it could not be.
      if (lastOffset <= storage.wal.synced.offset) {
        await storage.wal.discardPending();
        this.#unsyncedBytes = 0;
      }
      await storage.wal.truncate(lastOffset);
    } finally {
      this.#cutting = false;
    }
  }

  apply(offset: Offset): void {
    this.#storage?.wal.noteCommitted(offset);
    this.#applier?.advance(offset, this.#o.fail);
  }

  /** Rejects with the signal's reason when it aborts first; nothing waits any longer then. */
  untilApplied(offset: Offset, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      signal.throwIfAborted();
      const wake = (): void => {
        signal.removeEventListener("abort", aborted);
        resolve();
      };
      const aborted = (): void => {
        // Swapped storage has another applier, which took the waiters over.
        this.#applier?.forget(wake);
        reject(signal.reason as Error);
      };
      signal.addEventListener("abort", aborted, { once: true });
      this.#applier?.whenApplied(offset, wake);
    });
  }

  /** A sync is wanted; it begins with `flush`, so that a batch of inputs shares one. */
  wantSync(): void {
    this.#syncWanted = true;
  }

  /** Starts the sync that is wanted, unless one is on its way: then the next one follows it. */
  flush(): void {
    if (!this.#syncWanted || this.#syncing !== null || this.#cutting) return;
    this.#syncing = this.#sync().finally(() => {
      this.#syncing = null;
      this.flush();
    });
  }

  /** A promise while too much is not yet durable. */
  admit(): Promise<void> | undefined {
    if (this.#unsyncedBytes < UNSYNCED_BYTES_MAX) return undefined;
    return this.#syncing ?? undefined;
  }

  /**
   * Closes log and state, each whatever the other comes to. What is not going to be `deleted` is
   * synced first, and a small checkpoint saves the next start a replay.
   */
  async close({ deleted }: { readonly deleted: boolean }): Promise<void> {
    const storage = this.#storage;
    if (storage === null) return;
    await this.pause();
    await everyStep([
      () => (deleted ? undefined : this.#lastCheckpoint(storage)),
      () => storage.state.close(),
      () => storage.wal.close(),
    ]);
  }

  async #lastCheckpoint({ wal, state }: ReplicaStorage): Promise<void> {
    await wal.sync();
    if (state.stats.tableBytes >= LAST_CHECKPOINT_BYTES_MAX) return;
    try {
      await state.checkpoint();
    } catch (error) {
      // Nothing is lost: the log keeps it all.
      if (!isFull(error)) throw error;
      this.#o.env.logger.warn("no room for a last checkpoint, the next start replays the log", {
        reason: (error as Error).message,
      });
    }
  }

  async #sync(): Promise<void> {
    const { core, feed, fail } = this.#o;
    this.#syncWanted = false;
    const { logEpoch } = core.state;
    if (this.#storage === null) {
      // Nothing can have been appended yet.
      feed({ kind: "synced", offset: INVALID_OFFSET, logEpoch });
      return;
    }
    const bytes = this.#unsyncedBytes;
    const { clock } = this.#o.env;
    try {
      this.#syncAtMs = clock.monotonicMs();
      const { offset } = await this.#storage.wal.sync();
      this.#syncAtMs = null;
      this.#unsyncedBytes = Math.max(0, this.#unsyncedBytes - bytes);
      feed({ kind: "synced", offset, logEpoch });
    } catch (error) {
      this.#syncAtMs = null;
      await this.#syncFailed(error).catch(fail);
    }
  }

  async #syncFailed(error: unknown): Promise<void> {
    if (!isFull(error)) throw error;
    await this.#waitForSpace(error as Error);
  }

  /**
   * A full disk: what was appended stays pending and is tried again; nothing is acknowledged
   * meanwhile.
   */
  async #waitForSpace(error: Error): Promise<void> {
    const { env, signal, reserve, feed } = this.#o;
    env.logger.error("log cannot be written, waiting for space", { reason: error.message });
    this.#keeper?.lookAtSpace();
    feed({ kind: "logFull" });
    // Clients and leaders are put off by now: what is left to write is a barrier or little more.
    if (this.#unsyncedBytes <= SPACE_RESERVE_BYTES / 4) await reserve.release();
    await env.clock.sleep(NO_SPACE_RETRY_MS, signal).catch(() => undefined);
    this.#syncWanted = !signal.aborted;
  }
}
