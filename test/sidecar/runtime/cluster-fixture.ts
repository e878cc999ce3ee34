import assert from "node:assert/strict";
import { cp, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Disk, DiskError } from "../../../sidecar/lib/ports/disk.ts";
import type { DuplexCall } from "../../../sidecar/lib/ports/duplex-call.ts";
import { SILENT_LOGGER } from "../../../sidecar/lib/ports/logger.ts";
import { NO_METRICS, type NodeMetrics } from "../../../sidecar/lib/ports/metrics.ts";
import { NodeClock } from "../../../sidecar/os/node-clock.ts";
import { createNodeDisk } from "../../../sidecar/os/node-disk.ts";
import { NodeRandom } from "../../../sidecar/os/node-random.ts";
import { WriteRequest } from "../../../sidecar/protocol/gen/oxia-client.ts";
import type { GetResponse } from "../../../sidecar/protocol/gen/oxia-client.ts";
import type {
  Append,
  Peer,
  ReplicaStatus,
  SnapshotChunk,
} from "../../../sidecar/protocol/gen/resilver.ts";
import { type NodeOptions, openNode } from "../../../sidecar/runtime/node.ts";
import type { NodeRuntime, PeerTransport, ReplicaHandle } from "../../../sidecar/runtime/ports.ts";
import {
  DEFAULT_REPLICA_OPTIONS,
  type ReplicaOptions,
} from "../../../sidecar/runtime/replica-options.ts";
import { lmdbEngineFactory } from "../../../sidecar/state/lmdb-engine.ts";
import { type DiskAct, meddledDisk } from "../../support/meddled-disk.ts";
import { memoryCall, type MemoryCallOptions } from "../../support/memory-call.ts";

export const NAMESPACE = "default";
export const SHARD = 0;
export const STORE = "store-1";
const DEADLINE_MS = 10_000;

/**
 * What a test may do to messages between two nodes (returns what arrives), and to the disk: throws
 * what the operation on this path, which begins with the node's name, fails with.
 */
export interface Meddling {
  disk?: (act: DiskAct, path: string) => Promise<void> | void;
  append?: (to: string, message: Append) => readonly Append[];
  chunk?: (to: string, message: SnapshotChunk) => readonly SnapshotChunk[];
}

/** All the log may go that nothing else needs; a transfer is of several chunks. */
export const TRIMMED: Partial<ReplicaOptions> = {
  segmentBytes: 4096,
  walRetentionMs: 0,
  walRetentionBytes: 0,
  snapshotChunkBytes: 4096,
};

/** What a test may pretend about the volumes: real ones of any size need a right to mount. */
export interface Volumes {
  /** Bytes free where this path is; null: what is really free. */
  freeBytes?: (path: string) => number | null;
  /** No new file finds space at this path. */
  full?: (path: string) => boolean;
}

/** What is not of a single replica. */
export type NodeSettings = Partial<Pick<NodeOptions, "clock" | "snapshotBytesPerSecond">>;

/** The node's disk, with volumes as a test wants them. */
function diskOn(volumes: Volumes): Disk {
  const disk = createNodeDisk();
  const changed: Partial<Disk> = {
    freeBytes: async (path) => volumes.freeBytes?.(path) ?? disk.freeBytes(path),
    open: async (path, options) => {
      if (!options.create || volumes.full?.(path) !== true) return disk.open(path, options);
      throw new DiskError("NO_SPACE", path, `${path}: no space`, { fatal: false });
    },
  };
  return new Proxy(disk, {
    get: (target, name) => {
      const own: unknown = Reflect.get(changed, name);
      if (own !== undefined) return own;
      const method = Reflect.get(target, name) as (...given: unknown[]) => unknown;
      return method.bind(target);
    },
  });
}

/** Three nodes of one process over real files, LMDB and time, joined by streams in memory. */
export class TestCluster {
  readonly names = ["a", "b", "c"] as const;
  readonly meddling: Meddling = {};
  readonly volumes: Volumes = {};
  /** What the nodes count with that are opened from now on. */
  metrics: NodeMetrics = NO_METRICS;
  readonly #root: string;
  readonly #options: Partial<ReplicaOptions>;
  readonly #settings: NodeSettings;
  readonly #nodes = new Map<string, NodeRuntime>();
  readonly #severs = new Map<string, Set<() => void>>();
  readonly #disk: Disk;
  /** What ended a node by itself. */
  readonly fatal: Error[] = [];

  static async start(
    options: Partial<ReplicaOptions> = {},
    settings: NodeSettings = {},
  ): Promise<TestCluster> {
    const root = await mkdtemp(join(tmpdir(), "cluster-"));
    const cluster = new TestCluster(root, options, settings);
    for (const name of cluster.names) await cluster.open(name);
    return cluster;
  }

  private constructor(root: string, options: Partial<ReplicaOptions>, settings: NodeSettings) {
    this.#root = root;
    this.#settings = settings;
    this.#options = options;
    this.#disk = meddledDisk(diskOn(this.volumes), (act, path) =>
      this.meddling.disk?.(act, path.slice(root.length + 1)),
    );
  }

  /** Starts a node's process. */
  async open(name: string): Promise<void> {
    const node = await openNode({
      node: name,
      storeId: STORE,
      walDir: join(this.#root, name, "wal"),
      stateDir: join(this.#root, name, "state"),
      disk: this.#disk,
      clock: new NodeClock(),
      random: new NodeRandom(),
      engine: lmdbEngineFactory(this.#disk),
      transport: this.#transport(name),
      metrics: this.metrics,
      logger: SILENT_LOGGER,
      memoryTableBytes: 16 * 1024 * 1024,
      snapshotBytesPerSecond: 0,
      ...this.#settings,
      replica: {
        ...DEFAULT_REPLICA_OPTIONS,
        heartbeatMs: 20,
        clientFreeBytesMin: 0,
        freeBytesMin: 0,
        clientStateFreeBytesMin: 0,
        stateFreeBytesMin: 0,
        checkpointIntervalMs: 100,
        ...this.#options,
      },
    });
    void node.fatal.then((error) => this.fatal.push(error));
    this.#nodes.set(name, node);
  }

  /** Ends a node's process in order; its streams break. */
  async stop(name: string): Promise<void> {
    const node = this.node(name);
    this.#nodes.delete(name);
    for (const sever of this.#severs.get(name) ?? []) sever();
    await node.close();
  }

  /** Where a node keeps the log of the shard. */
  logDir(name: string): string {
    return join(this.#root, name, "wal", NAMESPACE, String(SHARD), "log");
  }

  /** True while anything of the shard is on a disk of the node. */
  async holdsFiles(name: string): Promise<boolean> {
    const dirs = ["wal", "state"].map((dir) =>
      join(this.#root, name, dir, NAMESPACE, String(SHARD)),
    );
    return (await Promise.all(dirs.map((dir) => this.#disk.exists(dir)))).includes(true);
  }

  /** Empties directories of a stopped node. */
  async wipe(name: string, what: readonly ("wal" | "state")[]): Promise<void> {
    for (const dir of what) await rm(join(this.#root, name, dir), { recursive: true });
  }

  /** Gives a stopped node a copy of what another stopped one has there. */
  async replace(name: string, what: "wal" | "state", from: string): Promise<void> {
    await this.wipe(name, [what]);
    const copy = [from, name].map((node) => join(this.#root, node, what)) as [string, string];
    await cp(...copy, { recursive: true });
  }

  node(name: string): NodeRuntime {
    const node = this.#nodes.get(name);
    assert(node !== undefined, `${name} is not running`);
    return node;
  }

  replica(name: string): ReplicaHandle {
    return this.node(name).replica(NAMESPACE, SHARD);
  }

  status(name: string): ReplicaStatus {
    return this.replica(name).status();
  }

  async write(name: string, key: string, value: string): Promise<void> {
    const request: WriteRequest = WriteRequest.fromPartial({
      shard: SHARD,
      puts: [{ key, value: Buffer.from(value) }],
    });
    await this.replica(name).write(request, WriteRequest.encode(request).finish());
  }

  /** Writes much, and waits until a checkpoint holds it: what may go of the log can go. */
  async writeToCheckpoint(name: string, prefix: string): Promise<void> {
    // Two rounds: the first one's segment is closed by the second.
    for (const part of ["1", "2"]) {
      const writes = Array.from({ length: 300 }, (_, n) =>
        this.write(name, `${prefix}-${part}-${n}`, "x".repeat(64)),
      );
      await Promise.all(writes);
      const { offset } = this.status(name).head ?? { offset: -1 };
      await this.until("a checkpoint", () => this.status(name).durableOffset >= offset);
    }
  }

  /** A linearizable read; null when there is no such key. */
  async read(name: string, key: string): Promise<string | null> {
    const replica = this.replica(name);
    await replica.readBarrier(AbortSignal.timeout(DEADLINE_MS));
    const found: GetResponse = replica.get({
      key,
      includeValue: true,
      comparisonType: 0,
      secondaryIndexName: undefined,
    });
    return found.value === undefined ? null : Buffer.from(found.value).toString();
  }

  /** Resolves once `condition` holds; looks again whenever a status changed, and often. */
  async until(what: string, condition: () => boolean): Promise<void> {
    const clock = new NodeClock();
    const stop = AbortSignal.timeout(DEADLINE_MS);
    while (!condition()) {
      const [broken] = this.fatal;
      if (broken !== undefined) throw broken;
      try {
        await clock.sleep(5, stop);
      } catch {
        const seen = [...this.#nodes.values()].map((node) => node.status().replicas);
        assert.fail(`${what}: not within ${DEADLINE_MS} ms: ${JSON.stringify(seen, null, 1)}`);
      }
    }
  }

  /** Fails unless all running nodes come to hold the same state, up to the head of `leader`. */
  async assertEqualStates(leader: string): Promise<void> {
    const head = this.status(leader).head?.offset ?? -1;
    const signal = AbortSignal.timeout(DEADLINE_MS);
    const sums = [...this.#nodes.keys()].map(async (name) => {
      const { appliedOffset, checksum, records } = await this.replica(name).checksum(head, signal);
      return { appliedOffset, checksum, records };
    });
    const [first, ...others] = await Promise.all(sums);
    for (const other of others) assert.deepEqual(other, first);
  }

  async close(): Promise<void> {
    for (const name of [...this.#nodes.keys()]) await this.stop(name);
    await rm(this.#root, { recursive: true });
    assert.deepEqual(this.fatal, []);
  }

  #transport(from: string): PeerTransport {
    return {
      replicate: (to, peer) =>
        this.#call(
          from,
          to,
          {
            window: 64,
            up: (message) => this.meddling.append?.(to, message) ?? [message],
          },
          (replica, call) => replica.serveReplicate(peer, call),
          peer,
        ),
      sendSnapshot: (to, peer) =>
        this.#call(
          from,
          to,
          {
            window: 2,
            up: (message) => this.meddling.chunk?.(to, message) ?? [message],
          },
          (replica, call) => replica.serveSnapshot(peer, call),
          peer,
        ),
      close: async () => undefined,
    };
  }

  #call<Up, Down>(
    from: string,
    to: string,
    options: MemoryCallOptions<Up, Down>,
    serve: (replica: ReplicaHandle, call: DuplexCall<Down, Up>) => Promise<void>,
    peer: Peer,
  ): DuplexCall<Up, Down> {
    const pair = memoryCall<Up, Down>(options);
    const { client, server } = pair;
    const sever = (): void => pair.sever();
    const target = this.#nodes.get(to);
    if (target === undefined) {
      sever();
      return client;
    }
    for (const end of [from, to]) {
      const severs = this.#severs.get(end) ?? new Set();
      severs.add(sever);
      this.#severs.set(end, severs);
    }
    // As the replication service does.
    void (async () => serve(target.replica(peer.namespace, peer.shard), server))().then(
      () => server.end(),
      (error: Error) => server.fail(error),
    );
    return client;
  }
}
