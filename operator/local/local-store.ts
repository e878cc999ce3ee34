import { randomBytes } from "node:crypto";
import { resolve } from "node:path";
import { collectDefaultMetrics, Registry } from "prom-client";
import type { CoordinatorEvent } from "../core/events.ts";
import type { ForceQuorumOrder } from "../core/force-quorum.ts";
import { DEFAULT_RECOVERY_POLICY, type RecoveryPolicy } from "../core/gates.ts";
import { defaultReplicationFactor } from "../core/placement.ts";
import type { ShardKey } from "../core/record.ts";
import type { ShardView } from "../core/status.ts";
import type { RecordStore, SidecarClient } from "../controller/ports.ts";
import { CoordinationClient } from "../sidecar-client/coordination-client.ts";
import { Coordinator } from "../controller/coordinator.ts";
import { CoordinatorMetrics } from "../controller/coordinator-metrics.ts";
import { lockDirectory, makeDirectory, readJson, storePaths, writeJson } from "./directory.ts";
import { findFreePorts, firstBusyPort } from "./free-ports.ts";
import { MetricsServer } from "./metrics-server.ts";
import { LocalPlatform } from "./platform.ts";
import { FileRecordStore } from "./record-store.ts";
import {
  coordinatorMetricsPort,
  parseSettings,
  portsOf,
  type ReplicaEndpoint,
  replicaEndpoints,
  type StoreSettings,
} from "./settings.ts";
import { isWhole, storeStatus, type StoreStatus } from "./store-status.ts";
import { systemClock } from "./system-clock.ts";
import { TransferRates } from "../controller/transfer-rate.ts";

/**
 * The store could not be started, or did not become what was waited for. The message is for people.
 */
export class LocalStoreError extends Error {
  override readonly name = "LocalStoreError";
}

/** How a local store is started. */
export interface LocalStoreOptions {
  readonly dir: string;
  /** Absent: what the directory's store has, else 3. */
  readonly replicas?: number;
  /** Shards of each namespace. Absent: what the directory's store has, else 1. */
  readonly shards?: number;
  /** Absent: what the directory's store has, else `default` alone. */
  readonly namespaces?: readonly string[];
  /** First port. Absent: what the directory's store has, else `defaultPort`. */
  readonly port?: number;
  /** "free": any block of free ports. */
  readonly defaultPort: number | "free";
  readonly policy?: Partial<RecoveryPolicy>;
  /** Settings of every sidecar beside those that follow from the rest. */
  readonly sidecar?: Readonly<Record<string, string | number>>;
  /** Told of everything the coordinator does. */
  readonly events?: (event: CoordinatorEvent) => void;
  /**
   * Where replicas are reached from elsewhere, when that is not where they listen (behind a proxy).
   */
  readonly endpoints?: (listening: readonly ReplicaEndpoint[]) => readonly ReplicaEndpoint[];
  /** Stands between the coordinator and sidecars: to fail or delay single calls in tests. */
  readonly wrapSidecars?: (sidecars: SidecarClient) => SidecarClient;
  /** Likewise between the coordinator and its records. */
  readonly wrapRecords?: (records: RecordStore) => RecordStore;
  /** Interpreter, flags and script of the sidecar; absent: this build's own. */
  readonly sidecarProgram?: readonly [string, ...string[]];
}

/**
 * One store on this machine: pods as child processes, the coordinator in this process, the record
 * in a file. It holds its directory until closed; a second one there is refused.
 */
export class LocalStore {
  readonly settings: StoreSettings;
  readonly platform: LocalPlatform;
  readonly dir: string;
  private readonly options: LocalStoreOptions;
  private readonly lock: { release(): void };
  private readonly endpoints: readonly ReplicaEndpoint[];
  private readonly metrics: CoordinatorMetrics;
  private readonly metricsServer: MetricsServer;
  private readonly rates = new TransferRates();
  private readonly listeners = new Set<() => void>();
  private readonly eventListeners = new Set<(event: CoordinatorEvent) => void>();
  private readonly sidecars = new CoordinationClient({ clock: systemClock });
  private readonly records: FileRecordStore;
  private readonly recordsUsed: RecordStore;
  private readonly sidecarsUsed: SidecarClient;
  private coordinator: Coordinator | null = null;
  private closed = false;
  private broken: (error: Error) => void = () => undefined;
  /** Resolves, never rejects, with what went wrong when the coordinator must not go on. */
  readonly fatal: Promise<Error>;

  private constructor(
    options: LocalStoreOptions,
    settings: StoreSettings,
    lock: { release(): void },
    records: FileRecordStore,
  ) {
    this.options = options;
    this.settings = settings;
    this.lock = lock;
    this.records = records;
    this.recordsUsed = options.wrapRecords?.(records) ?? records;
    this.sidecarsUsed = options.wrapSidecars?.(this.sidecars) ?? this.sidecars;
    this.dir = storePaths(options.dir).dir;
    const listening = replicaEndpoints(settings);
    this.endpoints = options.endpoints?.(listening) ?? listening;
    this.platform = new LocalPlatform({
      dir: this.dir,
      storeId: settings.storeId,
      endpoints: listening,
      changed: () => this.notify(),
      ...(options.sidecar === undefined ? {} : { sidecar: options.sidecar }),
      ...(options.sidecarProgram === undefined ? {} : { program: options.sidecarProgram }),
    });
    const registry = new Registry();
    collectDefaultMetrics({ register: registry });
    this.metrics = new CoordinatorMetrics(registry, () => [
      { storeId: settings.storeId, views: this.views() },
    ]);
    this.metricsServer = new MetricsServer(registry);
    this.fatal = new Promise((resolve) => {
      this.broken = resolve;
    });
    if (options.events !== undefined) this.eventListeners.add(options.events);
  }

  /**
   * Takes the directory, reads or makes its settings, starts sidecars and coordinator. Resolves
   * before the store serves: see {@link whole}. Throws DirectoryInUse, LocalStoreError.
   */
  static async start(options: LocalStoreOptions): Promise<LocalStore> {
    makeStoreDirectory(options.dir);
    const lock = lockDirectory(options.dir);
    let store: LocalStore | null = null;
    try {
      const settings = await settle(options);
      const records = await FileRecordStore.open(storePaths(options.dir).records);
      store = new LocalStore(options, settings, lock, records);
      await store.metricsServer.listen(coordinatorMetricsPort(settings)).catch((error: unknown) => {
        throw new LocalStoreError(`coordinator metrics: ${String(error)}`);
      });
      store.platform.startAll();
      store.startCoordinator();
      return store;
    } catch (error) {
      if (store === null) lock.release();
      else await store.close();
      throw error;
    }
  }

  /** What each shard's record, replicas and plan come to now. */
  views(): readonly ShardView[] {
    return this.coordinator?.views() ?? [];
  }

  status(): StoreStatus {
    return storeStatus({
      storeId: this.settings.storeId,
      dir: this.dir,
      pid: process.pid,
      coordinatorMetricsAddress: `127.0.0.1:${coordinatorMetricsPort(this.settings)}`,
      replicationFactor: defaultReplicationFactor(this.settings.replicas),
      endpoints: this.endpoints,
      pods: this.platform.statuses(),
      shards: this.views(),
      rates: this.rates,
      nowMs: performance.now(),
    });
  }

  /** Public endpoints of all replicas. */
  servers(): readonly string[] {
    return this.endpoints.map(({ publicAddress }) => publicAddress);
  }

  endpoint(node: string): ReplicaEndpoint {
    const found = this.endpoints.find((endpoint) => endpoint.node === node);
    if (found === undefined) throw new LocalStoreError(`no replica ${node}`);
    return found;
  }

  /** Calls `changed` after anything the status shows may have changed. Returns the unsubscriber. */
  onChange(changed: () => void): () => void {
    this.listeners.add(changed);
    return () => this.listeners.delete(changed);
  }

  /** Calls `told` with each event of the coordinator. Returns the unsubscriber. */
  onEvent(told: (event: CoordinatorEvent) => void): () => void {
    this.eventListeners.add(told);
    return () => this.eventListeners.delete(told);
  }

  /**
   * Resolves when `probe` answers; it is asked after each change. Throws LocalStoreError after
   * `timeoutMs`.
   */
  async until<T>(what: string, probe: () => T | null, timeoutMs: number): Promise<T> {
    const now = probe();
    if (now !== null) return now;
    return await new Promise<T>((resolve, reject) => {
      const deadlineMs = performance.now() + timeoutMs;
      const finish = () => {
        unsubscribe();
        clearInterval(timer);
      };
      const check = () => {
        try {
          if (this.closed) throw new LocalStoreError(`${what}: the store was closed`);
          const value = probe();
          if (value === null && performance.now() < deadlineMs) return;
          finish();
          if (value !== null) resolve(value);
          else reject(new LocalStoreError(`${what}: not within ${timeoutMs} ms`));
        } catch (error) {
          finish();
          reject(error instanceof Error ? error : new Error(String(error)));
        }
      };
      const unsubscribe = this.onChange(check);
      // Changes are told; the timer is for the deadline, and for times that pass without any.
      const timer = setInterval(check, 25);
    });
  }

  /** Resolves when every replica of every shard votes and is reachable. */
  async whole(timeoutMs: number): Promise<void> {
    await this.until(
      "every replica votes",
      () => (isWhole(this.status()) ? true : null),
      timeoutMs,
    );
  }

  /** Moves a shard's leadership to a node by an election; resolves when it serves there. */
  async moveLeader(key: ShardKey, node: string, timeoutMs: number): Promise<void> {
    const led = () => {
      const view = this.views().find((v) => v.namespace === key.namespace && v.shard === key.shard);
      return view?.leader === node && view.serving ? true : null;
    };
    if (led() !== null) return;
    // A wish: a node that answers late is passed over, hence again after each election that another
    // one won.
    const unsubscribe = this.onEvent((event) => {
      if (event.kind !== "electionCompleted" && event.kind !== "electionFailed") return;
      if (event.namespace !== key.namespace || event.shard !== key.shard) return;
      if (event.kind === "electionFailed" || event.leader !== node) {
        this.coordinator?.preferLeader(key, node);
      }
    });
    try {
      this.running().preferLeader(key, node);
      await this.until(`${node} leads ${key.namespace}/${key.shard}`, led, timeoutMs);
    } finally {
      unsubscribe();
    }
  }

  /**
   * Has `spare` take the place of `node` in every shard that `node` has a replica of and `spare`
   * has none, one member at a time. Resolves with those shards once the wish is recorded; throws a
   * LocalStoreError when there is none.
   */
  async replace(node: string, spare: string): Promise<readonly ShardKey[]> {
    const moved = this.views().filter(
      ({ ensemble }) => ensemble.includes(node) && !ensemble.includes(spare),
    );
    if (moved.length === 0) {
      throw new LocalStoreError(
        `no shard has a replica on ${node} and none on ${spare}; a store has a spare node when it ` +
          "has an even number of replicas (`up --replicas 4` keeps 3 of each shard)",
      );
    }
    for (const { namespace, shard, ensemble } of moved) {
      const nodes = ensemble.map((other) => (other === node ? spare : other));
      await this.running().changeEnsemble({ namespace, shard }, nodes);
    }
    return moved.map(({ namespace, shard }) => ({ namespace, shard }));
  }

  /**
   * Goes on with one survivor of a lost majority. Throws a RangeError that says why it is rejected.
   */
  async forceQuorum(key: ShardKey, order: ForceQuorumOrder): Promise<void> {
    await this.running().forceQuorum(key, order);
  }

  /** Ends the coordinator only, in the middle of whatever it does; sidecars serve on. */
  async stopCoordinator(): Promise<void> {
    const { coordinator } = this;
    this.coordinator = null;
    await coordinator?.close();
  }

  /** Starts the coordinator again: it goes on where the record says. */
  startCoordinator(): void {
    if (this.coordinator !== null) return;
    const coordinator = new Coordinator({
      spec: {
        storeId: this.settings.storeId,
        nodes: this.endpoints,
        namespaces: this.settings.namespaces.map((name) => ({
          name,
          shards: this.settings.shards,
          keySorting: "hierarchical" as const,
          notifications: false,
        })),
      },
      records: this.recordsUsed,
      sidecars: this.sidecarsUsed,
      platform: this.platform,
      clock: systemClock,
      policy: { ...DEFAULT_RECOVERY_POLICY, ...this.options.policy },
      events: {
        emit: (event) => {
          this.metrics.count(this.settings.storeId, event);
          for (const listener of this.eventListeners) listener(event);
          this.notify();
        },
      },
    });
    this.coordinator = coordinator;
    coordinator.onChange(() => this.notify());
    coordinator.run().catch((error: unknown) => this.fail(error));
  }

  /** Stops coordinator and sidecars in order, and gives the directory back. */
  async close(): Promise<void> {
    // Whoever still waits for something is told, or would wait, and keep the process alive, for
    // ever.
    this.closed = true;
    this.notify();
    await this.stopCoordinator();
    await this.platform.stopAll();
    await this.sidecars.close();
    await this.records.close();
    await this.metricsServer.close();
    this.listeners.clear();
    this.lock.release();
  }

  private running(): Coordinator {
    if (this.coordinator === null) throw new LocalStoreError("the coordinator is not running");
    return this.coordinator;
  }

  /** A broken invariant: the process must not go on deciding. */
  private fail(error: unknown): void {
    this.broken(error instanceof Error ? error : new Error(String(error)));
  }

  private notify(): void {
    for (const listener of this.listeners) listener();
  }
}

function makeStoreDirectory(dir: string): void {
  try {
    makeDirectory(resolve(dir));
  } catch (error) {
    throw new LocalStoreError(`--dir: cannot make ${dir}: ${String(error)}`, { cause: error });
  }
}

/**
 * The settings of the directory's store, or those of a new one. Throws LocalStoreError where they
 * disagree.
 */
async function settle(options: LocalStoreOptions): Promise<StoreSettings> {
  const paths = storePaths(options.dir);
  const known = readJson(paths.settings);
  if (known === null) {
    const settings = await newSettings(options);
    await writeJson(paths.settings, settings);
    return settings;
  }
  const settings = parseSettings(known, paths.settings);
  for (const field of ["replicas", "shards"] as const) {
    const asked = options[field];
    if (asked === undefined || asked === settings[field]) continue;
    throw new LocalStoreError(
      `--${field} ${asked}: the store in ${paths.dir} has ${settings[field]}; leave the option out, or use another --dir`,
    );
  }
  const namespaces = options.namespaces ?? settings.namespaces;
  if (namespaces.join() !== settings.namespaces.join()) {
    throw new LocalStoreError(
      `--namespaces ${namespaces.join()}: the store in ${paths.dir} has ${settings.namespaces.join()}; leave the option out, or use another --dir`,
    );
  }
  const port = options.port ?? settings.port;
  if (port === settings.port) return settings;
  await writeJson(paths.settings, { ...settings, port });
  return { ...settings, port };
}

async function newSettings(options: LocalStoreOptions): Promise<StoreSettings> {
  const replicas = options.replicas ?? 3;
  const shards = options.shards ?? 1;
  const namespaces = [...(options.namespaces ?? ["default"])];
  const count = portsOf(replicas);
  const storeId = `local-${randomBytes(6).toString("hex")}`;
  if (options.port === undefined && options.defaultPort === "free") {
    const port = await findFreePorts(count, Math.random);
    return { storeId, replicas, shards, namespaces, port };
  }
  const port = options.port ?? Number(options.defaultPort);
  const block = Array.from({ length: count }, (_, index) => port + index);
  const busy = await firstBusyPort(block);
  if (busy !== null) {
    throw new LocalStoreError(
      `--port ${port}: port ${busy} is in use; ${count} neighbouring free ports are needed from there`,
    );
  }
  return { storeId, replicas, shards, namespaces, port };
}
