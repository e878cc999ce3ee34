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

export const NAMESPACE = "default";
export const SHARD = 0;
export const STORE = "sim-store";
const WAL_DIR = "/wal";
const STATE_DIR = "/state";

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
  streamArrived(peer: Peer): void;
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
  /** Something was taken from the disk since the last process saw it: another identity is right. */
  damaged = false;
  /** Whatever was to boot it again is too late: it is dead. */
  staysDown = false;
  /** A directory or a cookie was taken away since the last process saw it: no uid may stay (R1). */
  wiped = false;
  /** Its shard was asked to go since the last boot. */
  retiring = false;
  /**
   * Its newest record may be damaged, and no process has looked yet. Until then its power stays on:
   * the mark that tells such damage from a torn write survives processes, not power losses.
   */
  corrupted = false;
  /**
   * A write went astray, and its pages still cover it up. Till the process ends the power stays on,
   * for the same reason.
   */
  latent = false;
  /** The process dies at this many disk operations from now on; 0: it does not. */
  dieAfterOperations = 0;
  /** The process dies before the operation that is the so-manyth change of all; 0: it does not. */
  dieAtChange = 0;
  /** Operations that change the disk, by all its processes so far. */
  operations = 0;
  /** Says what decides what its next power loss keeps; null: its disk's own chance does. */
  fate: ((disk: SimDisk) => PowerLoss) | null = null;
  readonly #world: NodeWorld;

  constructor(name: string, world: NodeWorld) {
    this.name = name;
    this.#world = world;
    this.speed = { ...world.options.disk };
    this.disk = new SimDisk({ seed: world.chance.below(2 ** 31) });
    this.skewMs = world.chance.below(2_000) - 1_000;
  }

  get replica(): ReplicaHandle | null {
    return this.process?.runtime?.replicas()[0] ?? null;
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
        walDir: WAL_DIR,
        stateDir: STATE_DIR,
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
    if (options.power && !this.corrupted && !this.latent) {
      this.disk.restart(this.fate?.(this.disk));
    } else this.disk.kill();
    if (this.latent) this.#findOut();
  }

  /** What went astray is no longer covered up. */
  #findOut(): void {
    this.disk.forgetPages();
    this.latent = false;
    this.damaged = true;
    this.corrupted = true;
  }

  /** Takes directories away from a node that is down. */
  wipe(what: readonly ("wal" | "state")[]): void {
    for (const dir of what) this.disk.wipe(dir === "wal" ? WAL_DIR : STATE_DIR);
    this.damaged = true;
    this.wiped = true;
  }

  /** Takes the cookie of one directory away from a node that is down. */
  wipeCookie(which: "wal" | "state"): void {
    const dir = which === "wal" ? WAL_DIR : STATE_DIR;
    this.disk.wipe(`${dir}/${NAMESPACE}/${SHARD}/${COOKIE_FILE}`);
    this.damaged = true;
    this.wiped = true;
  }

  /** A node that is down gets another disk, as of a volume restored from an image. */
  replaceDisk(disk: SimDisk): void {
    this.disk = disk;
    disk.restart();
    this.damaged = true;
    // Whatever was taken away, this disk has it.
    this.wiped = false;
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
    const { network, events } = this.#world;
    return {
      replicate: (to, peer) => {
        const { client } = network.stream<Append, Ack>({
          from: process,
          to,
          label: "replicate",
          up: Append,
          down: Ack,
          window: 32,
          serve: (server, { server: call }) => {
            events.streamArrived(peer);
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
