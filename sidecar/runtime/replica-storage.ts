import { GarbledFileError } from "../lib/sealed-file.ts";
import { LOG_START } from "../protocol/entry.ts";
import type { LogPosition } from "../protocol/entry.ts";
import { KeySortingType } from "../protocol/gen/resilver.ts";
import { LogIndex } from "../core/log-index.ts";
import { openCurrent } from "../snapshot/state-pointer.ts";
import { ShardState } from "../state/shard-state.ts";
import { StateCorrupt } from "../state/record.ts";
import { Wal } from "../wal/wal.ts";
import { EntryCache } from "./entry-cache.ts";
import { LogReader } from "./log-reader.ts";
import type { ReplicaMeta } from "./replica-meta.ts";
import type { NodeEnvironment } from "./replica-options.ts";
import type { ShardDirectories } from "./shard-directories.ts";

/** Bytes of one read of the log for a follower that is behind. */
const READ_BYTES = 1024 * 1024;

/**
 * What is stored cannot be trusted: a bad record at or below what was acknowledged, or a state and
 * a log that do not fit. The replica gives up its identity and recovers like a wiped one (R14,
 * I19).
 */
export class StorageCorrupt extends Error {
  override readonly name = "StorageCorrupt";
}

/** An open log and state of one replica, which fit together. */
export interface ReplicaStorage {
  readonly wal: Wal;
  readonly state: ShardState;
  readonly cache: EntryCache;
  readonly reader: LogReader;
  /** The core's index of what the log holds. */
  readonly log: LogIndex;
}

/** The directory of the log, beside cookie and promises. */
export function logDir(directories: ShardDirectories): string {
  return `${directories.walDir}/log`;
}

/**
 * Opens the state in `dir`. The loss epoch is the state's own: a barrier raises it at its offset,
 * so that a replay gives every entry the version ids it had before (I6).
 */
export function openState(
  environment: NodeEnvironment,
  dir: string,
  meta: ReplicaMeta,
): Promise<ShardState> {
  const { engine, disk, clock, budget } = environment;
  return ShardState.open({
    dir,
    engine,
    disk,
    clock,
    budget,
    keySorting: meta.keySorting === KeySortingType.NATURAL ? "natural" : "hierarchical",
  });
}

/** Opens log and state. Throws {@link StorageCorrupt}; nothing was changed then (R14). */
export async function openStorage(
  environment: NodeEnvironment,
  directories: ShardDirectories,
  meta: ReplicaMeta,
): Promise<ReplicaStorage> {
  const { disk, clock, metrics, options } = environment;
  const { uid, stateDir } = directories;
  const { pointer, state } = await opened(async () => {
    const current = await openCurrent(disk, stateDir, uid, { dropOld: false });
    const dir = `${stateDir}/${current.dir}`;
    return { pointer: current, state: await openState(environment, dir, meta) };
  });
  const wal = await Wal.open({
    disk,
    dir: logDir(directories),
    segmentBytes: options.segmentBytes,
    clock,
    base: pointer.base,
    onSync: (durationMs) => metrics.walFsync(durationMs / 1000),
  }).catch(async (error: unknown) => {
    // It may be opened again, when there is space for it.
    await state.close();
    throw error;
  });
  const { base, crcs, termStarts, fault } = wal.recovered;
  const log = new LogIndex(base, crcs, termStarts);
  const problem = fault === null ? misfit(log, state.applied) : `${fault.path}: ${fault.message}`;
  if (problem !== null) {
    await wal.close();
    await state.close();
    throw new StorageCorrupt(problem);
  }
  const cache = new EntryCache(options.entryCacheBytes);
  return { wal, state, cache, reader: new LogReader(cache, wal, READ_BYTES), log };
}

async function opened<T>(open: () => Promise<T>): Promise<T> {
  try {
    return await open();
  } catch (error) {
    if (error instanceof GarbledFileError || error instanceof StateCorrupt) {
      throw new StorageCorrupt(error.message, { cause: error });
    }
    throw error;
  }
}

/** Why the state does not belong to the log; null when it does (I8). */
function misfit(log: LogIndex, applied: LogPosition): string | null {
  if (applied.offset === LOG_START.offset && log.base.offset === LOG_START.offset) return null;
  if (log.contains(applied)) return null;
  return (
    `the state was made from entry ${applied.offset} of term ${applied.term} (crc ${applied.crc}), ` +
    `which the log (${log.base.offset + 1} to ${log.last.offset}) does not hold`
  );
}
