import type { Clock } from "../lib/ports/clock.ts";
import type { Disk } from "../lib/ports/disk.ts";
import type { Logger } from "../lib/ports/logger.ts";
import type { ReplicaMetrics } from "../lib/ports/metrics.ts";
import type { Random } from "../lib/ports/random.ts";
import { LIMITS } from "../limits.ts";
import type { SnapshotPins } from "../snapshot/pins.ts";
import type { EngineFactory } from "../state/engine.ts";
import type { MemoryBudget } from "../state/memory-budget.ts";
import type { PeerTransport } from "./ports.ts";

/** What people may set; defaults are {@link DEFAULT_REPLICA_OPTIONS}. Times in milliseconds. */
export interface ReplicaOptions {
  readonly heartbeatMs: number;
  readonly segmentBytes: number;
  readonly entryCacheBytes: number;
  readonly walRetentionMs: number;
  readonly walRetentionBytes: number;
  readonly snapshotChunkBytes: number;
  readonly checkpointIntervalMs: number;
  /** An empty follower gets the tail, not a snapshot, up to this many entries (R10). */
  readonly tailEntriesMax: number;
  /** Reads are answered without asking whether another leads by now (R15). */
  readonly leaderReads: boolean;
  /**
   * Below this much free space on a leader's volume, clients' writes are refused (R17): more than
   * `freeBytesMin`, since volumes of equal size fill up alike, and a write that was accepted while
   * the followers put entries off could not be answered before there is room.
   */
  readonly clientFreeBytesMin: number;
  /** Below this much free space on the log's volume, a follower puts entries off (R17). */
  readonly freeBytesMin: number;
  /**
   * The same two for the volume of the state, which must take the next checkpoint: without one the
   * memory table fills up, and then nothing is applied or answered any more. Snapshots leave as
   * much free as either `freeBytesMin` asks for.
   */
  readonly clientStateFreeBytesMin: number;
  readonly stateFreeBytesMin: number;
}

/** What a replica runs with unless the configuration says otherwise. */
export const DEFAULT_REPLICA_OPTIONS: ReplicaOptions = Object.freeze({
  heartbeatMs: LIMITS.heartbeatIntervalMs,
  segmentBytes: LIMITS.segmentBytes,
  entryCacheBytes: LIMITS.entryCacheBytesMax,
  walRetentionMs: 3_600_000,
  walRetentionBytes: 4 * 1024 ** 3,
  snapshotChunkBytes: LIMITS.snapshotChunkBytes,
  checkpointIntervalMs: LIMITS.checkpointIntervalMs,
  tailEntriesMax: 64,
  leaderReads: false,
  clientFreeBytesMin: 3 * LIMITS.segmentBytes,
  freeBytesMin: 2 * LIMITS.segmentBytes,
  clientStateFreeBytesMin: 2 * LIMITS.checkpointRoomBytes,
  stateFreeBytesMin: LIMITS.checkpointRoomBytes,
});

/** What a snapshot must leave free on the volume of the state, so that entries can follow it. */
export function snapshotReserveBytes(options: ReplicaOptions): number {
  return Math.max(options.freeBytesMin, options.stateFreeBytesMin);
}

/** What a replica works with: shared by all of the process, but for the metrics. */
export interface NodeEnvironment {
  readonly node: string;
  readonly disk: Disk;
  readonly clock: Clock;
  readonly random: Random;
  readonly engine: EngineFactory;
  readonly transport: PeerTransport;
  readonly metrics: ReplicaMetrics;
  readonly logger: Logger;
  readonly budget: MemoryBudget;
  readonly pins: SnapshotPins;
  /** Of one snapshot transfer; 0: unlimited. */
  readonly snapshotBytesPerSecond: number;
  readonly options: ReplicaOptions;
  readonly walDir: string;
  readonly stateDir: string;
}
