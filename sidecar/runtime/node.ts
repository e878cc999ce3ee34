import { type Disk, type DiskLock, isFatal } from "../lib/ports/disk.ts";
import type { Clock } from "../lib/ports/clock.ts";
import type { Logger } from "../lib/ports/logger.ts";
import type { NodeMetrics } from "../lib/ports/metrics.ts";
import type { Random } from "../lib/ports/random.ts";
import { LIMITS } from "../limits.ts";
import { INVALID_TERM, type Term } from "../protocol/entry.ts";
import { ProtocolError } from "../protocol/errors.ts";
import {
  type NodeStatus,
  type OpenShardRequest,
  type ReplicaStatus,
  WipeReason,
} from "../protocol/gen/resilver.ts";
import { SnapshotPins } from "../snapshot/pins.ts";
import type { EngineFactory } from "../state/engine.ts";
import { MemoryBudget } from "../state/memory-budget.ts";
import type { NodeRuntime, PeerTransport, ReplicaHandle } from "./ports.ts";
import { ReplicaDriver } from "./replica-driver.ts";
import { ReplicaMetaStore } from "./replica-meta.ts";
import { snapshotReserveBytes } from "./replica-options.ts";
import type { NodeEnvironment, ReplicaOptions } from "./replica-options.ts";
import { openStorage, StorageCorrupt } from "./replica-storage.ts";
import type { ReplicaStorage } from "./replica-storage.ts";
import { isFull } from "./space-reserve.ts";
import { openDirectories } from "./shard-directories.ts";
import type { OpenDirectoriesOptions, ShardDirectories } from "./shard-directories.ts";
import { listShards, lockDataDirectories, removeShard, shardPaths } from "./shard-paths.ts";
import type { KnownShard } from "./shard-paths.ts";
import { StateRoom } from "./state-room.ts";
import { StatusWatchers } from "./status-watchers.ts";
import { UnopenedReplica } from "./unopened-replica.ts";

/** How long the pinned snapshot of a broken transfer is kept, in milliseconds. */
const PIN_GRACE_MS = 10_000;
const SNAPSHOTS_WAITING_MAX = 64;
/** Between two attempts to open a replica that its volume has no room for. */
const OPEN_AGAIN_MS = 1_000;

/** A replica in its place, open or waiting for room to be. */
type HeldReplica = ReplicaDriver | UnopenedReplica;

/** What a node is made of. */
export interface NodeOptions {
  readonly node: string;
  /** The store this node belongs to; a shard of any other is refused (R1). */
  readonly storeId: string;
  readonly walDir: string;
  readonly stateDir: string;
  readonly disk: Disk;
  readonly clock: Clock;
  readonly random: Random;
  readonly engine: EngineFactory;
  readonly transport: PeerTransport;
  readonly metrics: NodeMetrics;
  readonly logger: Logger;
  readonly memoryTableBytes: number;
  /** Of one snapshot transfer; 0: unlimited. */
  readonly snapshotBytesPerSecond: number;
  readonly replica: ReplicaOptions;
}

/**
 * Takes the data directories and opens every shard they hold, so that a restarted process reports
 * at once what it has. Those of another store are left alone: whoever asks for that shard is told.
 * Throws DirectoryInUseError, DiskError.
 */
export async function openNode(options: NodeOptions): Promise<NodeRuntime> {
  const { disk, walDir, stateDir } = options;
  const lock = await lockDataDirectories(disk, walDir, stateDir);
  const node = new Node(options, lock);
  try {
    for (const known of await listShards(disk, walDir, stateDir)) await node.openKnown(known);
    return node;
  } catch (error) {
    await node.close();
    throw error;
  }
}

/** A shard on its way out. */
interface Deletion {
  readonly namespace: string;
  readonly shard: number;
  /** Null: it waits for room, and nobody has heard of it. */
  readonly replica: HeldReplica | null;
  /** The replica's last promise, which an order to delete must not be older than; -1: none. */
  readonly term: Term;
  closed: boolean;
  /** Null: the last one failed, and another is due. */
  attempt: Promise<void> | null;
}

class Node implements NodeRuntime {
  readonly node: string;
  readonly bootId: number;
  readonly fatal: Promise<Error>;
  readonly #options: NodeOptions;
  readonly #env: Omit<NodeEnvironment, "metrics">;
  readonly #lock: DiskLock;
  readonly #replicas = new Map<string, HeldReplica>();
  readonly #opening = new Map<string, Promise<ReplicaDriver>>();
  /**
   * Shards whose files are being removed, or could not be: nothing is opened, nor called gone,
   * before that is done.
   */
  readonly #deletions = new Map<string, Deletion>();
  /** Shards that wait for room on their volumes to be opened. */
  readonly #waiting = new Map<string, { readonly stop: AbortController; done: Promise<void> }>();
  /** See {@link NodeRuntime.leftAlone}; a process's directories do not change under it. */
  readonly #leftAlone: string[] = [];
  readonly #watchers: StatusWatchers;
  #reportFatal: (error: Error) => void = () => {};
  #closed = false;

  constructor(options: NodeOptions, lock: DiskLock) {
    this.#options = options;
    this.#lock = lock;
    this.node = options.node;
    this.bootId = Math.floor(options.random.unit() * 2 ** 40) + 1;
    this.fatal = new Promise((resolve) => {
      this.#reportFatal = resolve;
    });
    const { clock, random, replica } = options;
    this.#watchers = new StatusWatchers(clock);
    this.#env = {
      ...options,
      options: replica,
      budget: new MemoryBudget(options.memoryTableBytes),
      pins: new SnapshotPins({
        clock,
        random,
        graceMs: PIN_GRACE_MS,
        sendersMax: LIMITS.snapshotSendersMax,
        waitingMax: SNAPSHOTS_WAITING_MAX,
      }),
    };
  }

  /**
   * Opens a shard that the disks hold. For want of space that is tried again and again: the process
   * and its other shards go on without it. A process that ended at another store's directories
   * could not tell the coordinator of them (R1, R11).
   */
  async openKnown({ namespace, shard }: KnownShard): Promise<void> {
    // Whoever wrote what lies there: the owner is judged by the cookies, as for every other order.
    const known = { storeId: this.#options.storeId, namespace, shard };
    try {
      await this.#openOnce({ ...known, options: undefined });
    } catch (error) {
      const reason = (error as Error).message;
      const fields = { namespace, shard, reason };
      if (error instanceof ProtocolError && error.reason === "WRONG_STORE") {
        this.#options.logger.error("directories of another replica are left alone", fields);
        this.#leftAlone.push(reason);
        return;
      }
      if (!isFull(error)) throw error;
      this.#options.logger.error("replica cannot be opened, waiting for space", fields);
      const key = keyOf(namespace, shard);
      const unopened = await UnopenedReplica.find({ ...this.#options, known, reason });
      if (unopened !== null) this.#replicas.set(key, unopened);
      const stop = new AbortController();
      const done = this.#openAgain(known, stop.signal)
        .catch((failed: Error) => this.#reportFatal(failed))
        .finally(() => this.#waiting.delete(key));
      this.#waiting.set(key, { stop, done });
    }
  }

  async #openAgain(known: KnownShard, signal: AbortSignal): Promise<void> {
    for (;;) {
      await this.#options.clock.sleep(OPEN_AGAIN_MS, signal).catch(() => undefined);
      // A deletion waits for this to end, so that this must not wait for it.
      if (signal.aborted || this.#deletions.has(keyOf(known.namespace, known.shard))) return;
      try {
        await this.#openOnce({ ...known, options: undefined });
        return;
      } catch (error) {
        if (signal.aborted) return;
        if (!isFull(error)) throw error;
      }
    }
  }

  async #stopWaiting(key: string): Promise<void> {
    const waiting = this.#waiting.get(key);
    waiting?.stop.abort(new Error("the replica is not to be opened any more"));
    await waiting?.done;
  }

  async openShard(request: OpenShardRequest): Promise<ReplicaStatus> {
    this.#checkStore(request.storeId);
    const held = this.#replicas.get(keyOf(request.namespace, request.shard));
    if (held instanceof UnopenedReplica) return held.status();
    return (await this.#openOnce(request)).status();
  }

  replica(namespace: string, shard: number): ReplicaHandle {
    const found = this.#replicas.get(keyOf(namespace, shard));
    if (found !== undefined) return found;
    const known = [...this.#replicas.values()];
    if (known.length > 0 && known.every((replica) => replica.namespace !== namespace)) {
      const allowed = [...new Set(known.map((replica) => replica.namespace))].join(", ");
      throw new ProtocolError(
        "NAMESPACE_NOT_FOUND",
        `namespace "${namespace}" is not known here; known: ${allowed}`,
        { field: "namespace", value: namespace, allowed },
      );
    }
    const here = known.filter((replica) => replica.namespace === namespace);
    const allowed =
      here
        .map((replica) => replica.shard)
        .sort((a, b) => a - b)
        .join(", ") || "none";
    throw new ProtocolError(
      "SHARD_NOT_FOUND",
      `shard ${shard} of "${namespace}" is not on this node; here: ${allowed}`,
      { field: "shard", value: String(shard), shard: String(shard), allowed },
    );
  }

  replicas(): readonly ReplicaHandle[] {
    return [...this.#replicas.values()];
  }

  async deleteShard(
    namespace: string,
    shard: number,
    term: number,
    storeId: string,
    generation = 0,
  ): Promise<void> {
    const key = keyOf(namespace, shard);
    this.#checkStore(storeId);
    // One that is only being opened must be gone afterwards too.
    const opening = this.#opening.get(key);
    if (opening !== undefined) await opening.catch(() => undefined);
    const replica = this.#replicas.get(key) ?? null;
    // Opened later, what waits for room would be back.
    const unheard = this.#waiting.has(key) ? INVALID_TERM : undefined;
    const own = replica?.status().term ?? this.#deletions.get(key)?.term ?? unheard;
    if (own === undefined) return;
    if (term < own) {
      throw new ProtocolError("INVALID_TERM", `term ${term}: this replica is in term ${own}`, {
        field: "term",
        value: String(term),
        allowed: `>= ${own}`,
        term: String(own),
      });
    }
    refuseOlderRecord(generation, replica?.status().generation ?? 0);
    if (replica !== null || !this.#deletions.has(key)) {
      this.#replicas.delete(key);
      const deletion = { namespace, shard, replica, term: own, closed: false, attempt: null };
      this.#deletions.set(key, deletion);
    }
    await this.#finishDeletion(key);
    this.#watchers.changed(this.status().replicas);
  }

  /** Joins the attempt to remove a shard that is under way, or makes one. */
  async #finishDeletion(key: string): Promise<void> {
    const deletion = this.#deletions.get(key);
    if (deletion === undefined) return;
    deletion.attempt ??= this.#orFatal(this.#remove(deletion)).then(
      () => void this.#deletions.delete(key),
      (error: unknown) => {
        deletion.attempt = null;
        throw error;
      },
    );
    await deletion.attempt;
  }

  async #remove(deletion: Deletion): Promise<void> {
    const { namespace, shard } = deletion;
    const key = keyOf(namespace, shard);
    await this.#stopWaiting(key);
    const { walDir, stateDir, disk, logger, metrics, storeId } = this.#options;
    if (!deletion.closed) {
      deletion.closed = true;
      try {
        await deletion.replica?.close({ deleted: true });
        // It may have found room just now.
        const opened = this.#replicas.get(key);
        this.#replicas.delete(key);
        await opened?.close({ deleted: true });
      } catch (error) {
        if (isFatal(error)) throw error;
        // A full disk, say, which the removal makes room on: what was to be saved goes anyway.
        const { message: reason } = error as Error;
        logger.warn("replica to be deleted did not close in order", { namespace, shard, reason });
      }
    }
    await removeShard(disk, shardPaths({ walDir, stateDir, namespace, shard }));
    metrics.replica({ storeId, namespace, shard }).end();
  }

  status(): NodeStatus {
    return {
      node: this.node,
      bootId: this.bootId,
      full: true,
      replicas: [...this.#replicas.values()].map((replica) => replica.status()),
    };
  }

  leftAlone(): readonly string[] {
    return this.#leftAlone;
  }

  watch(changed: (statuses: readonly ReplicaStatus[]) => void): () => void {
    return this.#watchers.add(changed);
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await Promise.all([...this.#waiting.keys()].map((key) => this.#stopWaiting(key)));
    const attempts = [...this.#deletions.values()].map(({ attempt }) => attempt);
    await Promise.allSettled([...this.#opening.values(), ...attempts]);
    const open = [...this.#replicas.values()];
    const closing = open.map((replica) => replica.close({ deleted: false }));
    const failed = (await Promise.allSettled(closing)).find((one) => one.status === "rejected");
    this.#watchers.close();
    await this.#env.pins.close();
    await this.#lock.release();
    if (failed !== undefined) throw failed.reason;
  }

  #checkStore(storeId: string): void {
    if (storeId === this.#options.storeId) return;
    throw new ProtocolError(
      "WRONG_STORE",
      `store_id ${storeId}: this node belongs to ${this.#options.storeId}`,
      { field: "store_id", value: storeId, allowed: this.#options.storeId },
    );
  }

  async #openOnce(request: OpenShardRequest): Promise<ReplicaDriver> {
    this.#checkStore(request.storeId);
    const key = keyOf(request.namespace, request.shard);
    // Looked at anew after each wait: another deletion may have begun.
    while (this.#deletions.has(key)) await this.#finishDeletion(key);
    if (this.#closed) throw new ProtocolError("RESOURCE_UNAVAILABLE", "this node is closing");
    const held = this.#replicas.get(key);
    if (held instanceof ReplicaDriver) return held;
    const open = this.#opening.get(key);
    if (open !== undefined) return open;
    const opening = this.#orFatal(this.#openReplica(request)).finally(() => {
      this.#opening.delete(key);
    });
    this.#opening.set(key, opening);
    const replica = await opening;
    this.#replicas.set(key, replica);
    this.#watchers.changed([replica.status()]);
    return replica;
  }

  /**
   * A failed sync ends the process, whoever asked for it: trying again would find the pages clean
   * (R14).
   */
  async #orFatal<T>(work: Promise<T>): Promise<T> {
    try {
      return await work;
    } catch (error) {
      if (isFatal(error)) this.#reportFatal(error);
      throw error;
    }
  }

  async #openReplica(request: OpenShardRequest): Promise<ReplicaDriver> {
    const { walDir, stateDir, disk, random, logger } = this.#options;
    const { namespace, shard, storeId } = request;
    const where = { disk, random, walDir, stateDir, storeId, namespace, shard };
    try {
      return await this.#openDirectories(where, request);
    } catch (error) {
      if (!(error instanceof StorageCorrupt)) throw error;
      // The replica gives up its identity and recovers like a wiped one; the files stay until then
      // (R14).
      logger.error("replica is faulty and takes a new identity", {
        namespace,
        shard,
        reason: error.message,
      });
      return this.#openDirectories({ ...where, replace: "CORRUPT" }, request);
    }
  }

  async #openDirectories(
    where: OpenDirectoriesOptions,
    request: OpenShardRequest,
  ): Promise<ReplicaDriver> {
    const directories = await openDirectories(where);
    const { disk, logger } = this.#options;
    const metrics = this.#options.metrics.replica(request);
    // Here, where it is made: the replica says so only until it votes again.
    if (isMismatch(directories)) metrics.identityMismatches.inc();
    const env: NodeEnvironment = { ...this.#env, metrics };
    const meta = await ReplicaMetaStore.open(disk, directories.walDir, directories.uid);
    const keySorting = request.options?.keySorting ?? 0;
    if (keySorting !== 0 && meta.current.keySorting === 0) await meta.update({ keySorting });
    // Found damaged while it ran: what is stored cannot be trusted any more (R14).
    if (meta.current.fault !== "") throw new StorageCorrupt(meta.current.fault);
    let storage: ReplicaStorage | null = null;
    // A new identity is opened when it is known in which order its keys are (StorageOpening).
    const isOrdered = meta.current.keySorting !== 0 || meta.current.member;
    if (!directories.setAsidePending && isOrdered)
      storage = await openStorage(env, directories, meta.current);
    const reserveBytes = snapshotReserveBytes(env.options);
    const room = new StateRoom(disk, directories.stateDir, reserveBytes);
    // Before it is first heard of: that a snapshot does not fit is known before one is sent.
    await room.measure();
    const { namespace, shard, storeId } = request;
    logger.info("replica opened", {
      namespace,
      shard,
      uid: directories.uid,
      identity: directories.formatted,
      head: storage?.wal.last.offset ?? -1,
    });
    const driver: ReplicaDriver = new ReplicaDriver(env, {
      storeId,
      namespace,
      shard,
      directories,
      meta,
      storage,
      room,
      changed: () => this.#watchers.changed([driver.status()]),
      fatal: (error) => this.#reportFatal(error),
    });
    return driver;
  }
}

function isMismatch({ formatted, wipeReason }: ShardDirectories): boolean {
  return formatted === "new" && wipeReason === WipeReason.IDENTITY_MISMATCH;
}

function keyOf(namespace: string, shard: number): string {
  return `${namespace}/${shard}`;
}

/** Throws for an order that comes from an older record than the replica has heard of (R18). */
function refuseOlderRecord(generation: number, heard: number): void {
  if (generation === 0 || generation >= heard) return;
  throw new ProtocolError(
    "STALE_GENERATION",
    `generation ${generation}: an order of generation ${heard} was seen; the shard stays`,
    { field: "generation", value: String(generation), allowed: `>= ${heard}` },
  );
}
