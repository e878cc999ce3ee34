/**
 * Opens the log and the state of a replica that could not be opened with it: old files wait to be
 * set aside, or the order of its keys was not known. A restart finds an identity that it formats
 * anew, and nobody has told it of the shard yet; in the wrong order a state would be made that is
 * not its peers' (I6).
 */
import { everyStep } from "../lib/every-step.ts";
import { DiskError } from "../lib/ports/disk.ts";
import { ProtocolError } from "../protocol/errors.ts";
import { KeySortingType, type NewTermOptions } from "../protocol/gen/resilver.ts";
import type { ReplicaIdentity } from "./replica-identity.ts";
import { openStorage, type ReplicaStorage } from "./replica-storage.ts";
import type { NodeEnvironment } from "./replica-options.ts";
import { isFull } from "./space-reserve.ts";

/** What is opened, and who takes it. */
export interface StorageOpeningOptions {
  readonly env: NodeEnvironment;
  readonly id: ReplicaIdentity;
  /** The storage at work; null while there is none. */
  readonly storage: () => ReplicaStorage | null;
  readonly start: (storage: ReplicaStorage) => void;
  /** Ends with the replica: nothing is opened then, nor started. */
  readonly signal: AbortSignal;
}

/** See the file's header. */
export class StorageOpening {
  readonly #o: StorageOpeningOptions;
  /** The one attempt under way, whoever began it: two would open the same files twice. */
  #opening: Promise<void> | null = null;
  /** What an order says is being taken; never rejects. */
  #learning: Promise<void> | null = null;

  constructor(options: StorageOpeningOptions) {
    this.#o = options;
  }

  /**
   * Takes what an order says of the shard, before the order itself. Throws INVALID_ARGUMENT when
   * the keys' order is missing, or another than that of what is stored; the signal's reason when
   * whoever gave the order has gone. One at a time: each would save the same.
   */
  async learn(options: NewTermOptions | undefined, signal: AbortSignal): Promise<void> {
    while (this.#learning !== null) await unlessAborted(this.#learning, signal);
    const learning = this.#learn(options).catch((error: unknown) => {
      // What the disk holds is unknown now: trying again would find the pages clean (R14).
      if (error instanceof DiskError && !isFull(error)) this.#o.id.fatal(error);
      throw error;
    });
    this.#learning = learning
      .catch(() => undefined)
      .then(() => {
        this.#learning = null;
      });
    await unlessAborted(learning, signal);
  }

  async #learn(options: NewTermOptions | undefined): Promise<void> {
    const { meta } = this.#o.id;
    const named = options?.keySorting ?? KeySortingType.UNKNOWN_SORTING;
    const known = meta.current.keySorting;
    if (known === KeySortingType.UNKNOWN_SORTING) {
      if (named === known && this.#o.storage() === null)
        throw wrongOrder(named, "NATURAL, HIERARCHICAL");
      if (named !== known) await meta.update({ keySorting: named });
    } else if (named !== known && named !== KeySortingType.UNKNOWN_SORTING) {
      throw wrongOrder(named, nameOf(known));
    }
    if (this.#o.storage() !== null || this.#o.id.directories.setAsidePending) return;
    // For want of space it may fail: the next order tries again.
    await this.#attempt();
  }

  /** The first Enrol: before anything of the new identity is stored, old files go aside. */
  async setAsideAndOpen(): Promise<void> {
    const { meta } = this.#o.id;
    for (;;) {
      try {
        return await this.#attempt();
      } catch (error) {
        // As with a promise: a restart would find no more space than there is now.
        if (!isFull(error) || meta.whenFull === null) throw error;
        await meta.whenFull(error as Error);
      }
    }
  }

  /** Nothing is opened, written or started any more when it resolves; the signal has aborted. */
  async close(): Promise<void> {
    await Promise.allSettled([this.#learning, this.#opening]);
  }

  #attempt(): Promise<void> {
    this.#opening ??= this.#open().finally(() => {
      this.#opening = null;
    });
    return this.#opening;
  }

  async #open(): Promise<void> {
    const { env, id, storage, start, signal } = this.#o;
    signal.throwIfAborted();
    await id.directories.setAsideOldFiles();
    if (storage() !== null) return;
    const opened = await openStorage(env, id.directories, id.meta.current);
    if (!signal.aborted) return start(opened);
    await everyStep([() => opened.state.close(), () => opened.wal.close()]);
    signal.throwIfAborted();
  }
}

function unlessAborted(work: Promise<void>, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const aborted = (): void => reject(signal.reason as Error);
    signal.addEventListener("abort", aborted, { once: true });
    const ended = (): void => signal.removeEventListener("abort", aborted);
    void work.then(resolve, reject).finally(ended);
  });
}

function wrongOrder(named: number, allowed: string): ProtocolError {
  const value = nameOf(named);
  return new ProtocolError(
    "INVALID_ARGUMENT",
    `options.key_sorting is ${value}, allowed: ${allowed}`,
    { field: "options.key_sorting", value, allowed },
  );
}

function nameOf(keySorting: number): string {
  const known = Object.entries(KeySortingType).find(([, value]) => value === keySorting);
  return known?.[0] ?? String(keySorting);
}
