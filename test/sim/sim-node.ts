import { type ShardKey, shardKeyText } from "../../operator/core/record.ts";
import { DiskError } from "../../sidecar/lib/ports/disk.ts";
import { type DuplexCall, TransportError } from "../../sidecar/lib/ports/duplex-call.ts";
import { type LogFields, type Logger, SILENT_LOGGER } from "../../sidecar/lib/ports/logger.ts";
import { NO_METRICS } from "../../sidecar/lib/ports/metrics.ts";
import type { Random } from "../../sidecar/lib/ports/random.ts";
import {
  Ack,
  Append,
  type Peer,
  SnapshotChunk,
  SnapshotResponse,
} from "../../sidecar/protocol/gen/resilver.ts";
import { COOKIE_FILE } from "../../sidecar/runtime/cookie.ts";
import { openNode, type NodeOptions } from "../../sidecar/runtime/node.ts";
import type { PeerTransport, ReplicaHandle } from "../../sidecar/runtime/ports.ts";
import { DEFAULT_REPLICA_OPTIONS } from "../../sidecar/runtime/replica-options.ts";
import { Chance } from "./chance.ts";
import type { SimOptions } from "./options.ts";
import type { PowerLoss } from "./power-loss.ts";
import { type DiskSpeed, ProcessDisk } from "./process-disk.ts";
import { SimProcess, type SimTime } from "./sim-clock.ts";
import { SimDisk } from "./sim-disk.ts";
import { simEngineFactory } from "./sim-engine.ts";
import type { SimNetwork } from "./sim-network.ts";

export const STORE = "sim-store";
/** The two volumes of a node. */
export type Volume = "wal" | "state";
const DIRS: Readonly<Record<Volume, string>> = { wal: "/wal", state: "/state" };

/** What happened to the files of a replica since the last process of its node saw them. */
export interface ReplicaHarm {
  /** Something was taken from them: another identity is right. */
  damaged: boolean;
  /** A directory or a cookie was taken away: no uid may stay (R1). */
  wiped: boolean;
  /** Its shard was asked to go since the last boot. */
  retiring: boolean;
  /**
   * Its newest record may be damaged, and no process has looked yet. Until then the node's power
   * stays on: the mark that tells such damage from a torn write survives processes, not power
   * losses.
   */
  corrupted: boolean;
  /**
   * A write went astray, and its pages still cover it up. Till the process ends the power stays on,
   * for the same reason.
   */
  latent: boolean;
}

/** Operations of a disk that leave something to be lost. */
const CHANGES: ReadonlySet<string> = new Set([
  "makeDir",
  "rename",
  "remove",
  "syncDir",
  "write",
  "sync",
  "truncate",
]);

/** Who hears of what a node does. */
export interface NodeEvents {
  appendSent(from: string, peer: Peer, append: Append): void;
  ackSent(from: string, peer: Peer, ack: Ack): void;
  snapshotBegun(from: string, peer: Peer): void;
  streamArrived(peer: Peer, openedAtMs: number): void;
  snapshotAnswered(from: string, peer: Peer, response: SnapshotResponse): void;
  /** The process ended by itself: a failed sync, or a broken invariant. */
  failed(node: SimNode, error: Error): void;
  /** A line of its log, warnings and worse. */
  logged(node: string, line: string): void;
}

/** What a node is made of. */
export interface NodeWorld {
  readonly time: SimTime;
  readonly network: SimNetwork;
  readonly options: SimOptions;
  /** Every shard of the store, be it here or not. */
  readonly shards: readonly ShardKey[];
  readonly chance: Chance;
  readonly events: NodeEvents;
  /** Replaces parts of what a process is made of: for mutants. */
  readonly alter: (options: NodeOptions) => NodeOptions;
}

/** A machine: a disk that outlives its processes, and the sidecar that runs on it, if one does. */
export class SimNode {
  readonly name: string;
  disk: SimDisk;
  readonly speed: DiskSpeed;
  process: SimProcess | null = null;
  /** Until then (virtual time) its disk or its process may be held up. */
  hinderedUntilMs = 0;
  /** Its wall clock is ahead of the others' by this. */
  skewMs: number;
  /** Whatever was to boot it again is too late: it is dead. */
  staysDown = false;
  /** The process dies at this many disk operations from now on; 0: it does not. */
  dieAfterOperations = 0;
  /** The process dies before the operation that is the so-manyth change of all; 0: it does not. */
  dieAtChange = 0;
  /** Operations that change the disk, by all its processes so far. */
  operations = 0;
  /** Says what decides what its next power loss keeps; null: its disk's own chance does. */
  fate: ((disk: SimDisk) => PowerLoss) | null = null;
  readonly #world: NodeWorld;
  /** By the shard's number. */
  readonly #harms: readonly ReplicaHarm[];

  constructor(name: string, world: NodeWorld) {
    this.name = name;
    this.#world = world;
    this.speed = { ...world.options.disk };
    this.disk = new SimDisk({ seed: world.chance.below(2 ** 31) });
    this.skewMs = world.chance.below(2_000) - 1_000;
    this.#harms = world.shards.map(() => unharmed());
  }

  /** Its replicas that are open, of whichever shards. */
  replicas(): readonly ReplicaHandle[] {
    return this.process?.runtime?.replicas() ?? [];
  }

  /** What happened to the files of a shard here. */
  harmTo(key: ShardKey): ReplicaHarm {
    const found = this.#harms[key.shard];
    if (found === undefined) throw new RangeError(`shard: ${shardKeyText(key)}: none such`);
    return found;
  }

  /** Something was taken from its disk that no process has seen since. */
  get isDamaged(): boolean {
    return this.#harms.some(({ damaged }) => damaged);
  }

  /** Something on its disk would be hidden by a power loss: see {@link ReplicaHarm}. */
  get keepsItsPower(): boolean {
    return this.#harms.some(({ corrupted, latent }) => corrupted || latent);
  }

  /** A write to its disk went astray, and is not found out yet. */
  get hasLatentHarm(): boolean {
    return this.#harms.some(({ latent }) => latent);
  }

  /** What happened to whichever shards have this file; to all of them when it is nobody's. */
  harmAt(path: string): readonly ReplicaHarm[] {
    const own = this.#world.shards.filter((key) => isBelow(path, shardKeyText(key)));
    return own.length === 0 ? this.#harms : own.map((key) => this.harmTo(key));
  }

  /** Starts a process. */
  boot(): void {
    const { time, network, chance, options, alter } = this.#world;
    const process = new SimProcess(this.name, time, new Chance(chance.below(2 ** 31)), this.skewMs);
    this.process = process;
    network.up(process);
    const disk = new ProcessDisk(this.disk, process, time, this.speed, {
      before: (operation) => this.#beforeOperation(process, operation),
    });
    const opening = openNode(
      alter({
        node: this.name,
        storeId: STORE,
        walDir: DIRS.wal,
        stateDir: DIRS.state,
        disk,
        clock: process.clock,
        random: randomOf(process.chance),
        engine: simEngineFactory(disk),
        transport: this.#transport(process),
        metrics: NO_METRICS,
        logger: this.#logger(),
        memoryTableBytes: 16 * 1024 * 1024,
        snapshotBytesPerSecond: options.snapshotBytesPerSecond,
        replica: { ...DEFAULT_REPLICA_OPTIONS, ...options.replica, ...options.quiet?.replica },
      }),
    );
    opening.then(
      (runtime) => {
        process.runtime = runtime;
        void runtime.fatal.then((error) => this.#failed(process, error));
      },
      (error: Error) => this.#failed(process, error),
    );
  }

  /** The process is gone, without a word. With `power`, what was not synced may be gone too. */
  kill(options: { readonly power: boolean; readonly silent: boolean }): void {
    const { process } = this;
    if (process === null) return;
    process.alive = false;
    this.process = null;
    this.dieAfterOperations = 0;
    this.#world.network.down(process, options.silent);
    this.disk.setAstray(null);
    if (options.power && !this.keepsItsPower) this.disk.restart(this.fate?.(this.disk));
    else this.disk.kill();
    if (this.hasLatentHarm) this.#findOut();
  }

  /** What went astray is no longer covered up. */
  #findOut(): void {
    this.disk.forgetPages();
    for (const harm of this.#harms) {
      if (!harm.latent) continue;
      harm.latent = false;
      harm.damaged = true;
      harm.corrupted = true;
    }
  }

  /** Takes directories away from a node that is down. */
  wipe(what: readonly Volume[]): void {
    for (const volume of what) this.disk.wipe(DIRS[volume]);
    for (const harm of this.#harms) {
      harm.damaged = true;
      harm.wiped = true;
    }
  }

  /** Takes what one shard has in these directories away from a node that is down. */
  wipeShard(key: ShardKey, what: readonly Volume[]): void {
    for (const volume of what) this.#wipeOf(key, `${DIRS[volume]}/${shardKeyText(key)}`);
  }

  /** Takes the cookie of one directory of a shard away from a node that is down. */
  wipeCookie(key: ShardKey, which: Volume): void {
    this.#wipeOf(key, `${DIRS[which]}/${shardKeyText(key)}/${COOKIE_FILE}`);
  }

  #wipeOf(key: ShardKey, path: string): void {
    this.disk.wipe(path);
    const harm = this.harmTo(key);
    harm.damaged = true;
    harm.wiped = true;
  }

  /** A node that is down gets another disk, as of a volume restored from an image. */
  replaceDisk(disk: SimDisk): void {
    this.disk = disk;
    disk.restart();
    for (const harm of this.#harms) {
      harm.damaged = true;
      // Whatever was taken away, this disk has it.
      harm.wiped = false;
    }
  }

  #logger(): Logger {
    const line = (message: string, fields: LogFields = {}): void => {
      this.#world.events.logged(this.name, `${message} ${JSON.stringify(fields)}`);
    };
    return { ...SILENT_LOGGER, warn: line, error: line, child: () => this.#logger() };
  }

  #failed(process: SimProcess, error: Error): void {
    if (!process.alive) return;
    this.#world.events.failed(this, error);
  }

  #beforeOperation(process: SimProcess, operation: string): void {
    if (this.process === process && CHANGES.has(operation)) this.operations += 1;
    if (this.dieAtChange > 0 && this.operations >= this.dieAtChange) {
      this.dieAtChange = 0;
      this.#diesNow(process);
    }
    if (this.dieAfterOperations === 0 || this.process !== process) return;
    this.dieAfterOperations -= 1;
    if (this.dieAfterOperations > 0) return;
    this.#diesNow(process);
  }

  #diesNow(process: SimProcess): void {
    if (this.process !== process) return;
    const lost = new DiskError("IO", "/", "died at this operation (simulated)", { fatal: true });
    this.#world.events.failed(this, lost);
  }

  #transport(process: SimProcess): PeerTransport {
    const { time, network, events } = this.#world;
    return {
      replicate: (to, peer) => {
        const openedAtMs = time.nowMs;
        const { client } = network.stream<Append, Ack>({
          from: process,
          to,
          label: "replicate",
          up: Append,
          down: Ack,
          window: 32,
          serve: (server, { server: call }) => {
            events.streamArrived(peer, openedAtMs);
            const seen = tapped(call, (ack) => events.ackSent(server.name, peer, ack));
            serve(server, peer, seen, (replica) => replica.serveReplicate(peer, seen));
          },
        });
        return tapped(client, (append) => events.appendSent(this.name, peer, append));
      },
      sendSnapshot: (to, peer) => {
        events.snapshotBegun(this.name, peer);
        return network.stream<SnapshotChunk, SnapshotResponse>({
          from: process,
          to,
          label: "snapshot",
          up: SnapshotChunk,
          down: SnapshotResponse,
          window: 4,
          serve: (server, { server: call }) => {
            const seen = tapped(call, (answer) =>
              events.snapshotAnswered(server.name, peer, answer),
            );
            serve(server, peer, seen, (replica) => replica.serveSnapshot(peer, seen));
          },
        }).client;
      },
      close: async () => undefined,
    };
  }
}

function unharmed(): ReplicaHarm {
  return { damaged: false, wiped: false, retiring: false, corrupted: false, latent: false };
}

function isBelow(path: string, shard: string): boolean {
  return Object.values(DIRS).some((dir) => path.startsWith(`${dir}/${shard}/`));
}

/** As the replication service does. */
function serve<Out, In>(
  server: SimProcess,
  peer: Peer,
  call: DuplexCall<Out, In>,
  act: (replica: ReplicaHandle) => Promise<void>,
): void {
  const running = async (): Promise<void> => {
    if (server.runtime === null) throw new TransportError("connection refused: still starting");
    await act(server.runtime.replica(peer.namespace, peer.shard));
  };
  running().then(
    () => call.end(),
    (error: Error) => call.fail(error),
  );
}

function tapped<Out, In>(
  call: DuplexCall<Out, In>,
  see: (message: Out) => void,
): DuplexCall<Out, In> {
  return {
    ...call,
    write: (message) => {
      see(message);
      return call.write(message);
    },
  };
}

const LETTERS = "abcdefghijklmnopqrstuvwxyz234567";

function randomOf(chance: Chance): Random {
  return {
    unit: () => chance.unit(),
    uid: () => Array.from({ length: 26 }, () => LETTERS[chance.below(32)]).join(""),
  };
}
