import type { Disk, DiskLock } from "../lib/ports/disk.ts";
import { GarbledFileError, makeDirDurable, parentOf } from "../lib/sealed-file.ts";
import { ProtocolError } from "../protocol/errors.ts";
import { COOKIE_FILE, type Cookie, readCookie, readMasterCookie } from "./cookie.ts";

/** Held by the process that uses a data directory. */
const LOCK_FILE = "resilver.lock";
/** A namespace is a directory name too. */
const NAMESPACE = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;
const STORE_ID = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;

/** The directories of one shard, absolute. */
export interface ShardPaths {
  readonly walDir: string;
  readonly stateDir: string;
}

/** Where a shard's files are, below the node's two data directories. */
export function shardPaths(options: {
  readonly walDir: string;
  readonly stateDir: string;
  readonly namespace: string;
  readonly shard: number;
}): ShardPaths {
  const below = `${options.namespace}/${options.shard}`;
  return { walDir: `${options.walDir}/${below}`, stateDir: `${options.stateDir}/${below}` };
}

/**
 * Throws INVALID_ARGUMENT naming field, value and what is allowed unless these can name a shard.
 */
export function checkShardName(options: {
  readonly storeId: string;
  readonly namespace: string;
  readonly shard: number;
}): void {
  refuseUnless(STORE_ID.test(options.storeId), "storeId", options.storeId, STORE_ID.source);
  refuseUnless(NAMESPACE.test(options.namespace), "namespace", options.namespace, NAMESPACE.source);
  const { shard } = options;
  refuseUnless(Number.isSafeInteger(shard) && shard >= 0, "shard", shard, "0 to 2^53-1");
}

function refuseUnless(good: boolean, field: string, value: string | number, allowed: string): void {
  if (good) return;
  throw new ProtocolError("INVALID_ARGUMENT", `${field} is "${value}", allowed: ${allowed}`, {
    field,
    value: String(value),
    allowed,
  });
}

/** Another process uses the data directory. */
export class DirectoryInUseError extends Error {
  override readonly name = "DirectoryInUseError";
}

/**
 * Takes a node's two data directories for this process, making them when absent. The lock dies with
 * the process. Throws {@link DirectoryInUseError} when another process holds one, and Error when
 * both are the same or one is inside the other.
 */
export async function lockDataDirectories(
  disk: Disk,
  walDir: string,
  stateDir: string,
): Promise<DiskLock> {
  const inside = `${walDir}/`.startsWith(`${stateDir}/`) || `${stateDir}/`.startsWith(`${walDir}/`);
  if (inside) {
    throw new Error(
      `walDir is "${walDir}" and stateDir is "${stateDir}", allowed: two directories, none inside the other`,
    );
  }
  const held: DiskLock[] = [];
  const release = async (): Promise<void> => {
    for (const lock of held.splice(0)) await lock.release();
  };
  for (const [field, dir] of [
    ["walDir", walDir],
    ["stateDir", stateDir],
  ] as const) {
    await makeDirDurable(disk, dir);
    const lock = await disk.lock(`${dir}/${LOCK_FILE}`);
    if (lock === null) {
      await release();
      throw new DirectoryInUseError(
        `${field} is "${dir}", which another process uses (it holds ${dir}/${LOCK_FILE}); ` +
          "allowed: a directory of its own for each sidecar",
      );
    }
    held.push(lock);
  }
  return { release };
}

/** A shard some directory of this node knows. */
export interface KnownShard {
  readonly storeId: string;
  readonly namespace: string;
  readonly shard: number;
}

/**
 * The shards a restarted process finds on its disks, so that it serves before any operator names
 * them: each one that has a readable cookie in at least one of its directories, sorted by name.
 */
export async function listShards(
  disk: Disk,
  walDir: string,
  stateDir: string,
): Promise<readonly KnownShard[]> {
  const known = new Map<string, KnownShard>();
  for (const [root, read] of [
    [walDir, readMasterCookie],
    [stateDir, readCookie],
  ] as const) {
    for (const namespace of await disk.list(root)) {
      if (namespace === LOCK_FILE || !NAMESPACE.test(namespace)) continue;
      for (const name of await disk.list(`${root}/${namespace}`)) {
        if (!/^\d+$/.test(name)) continue;
        const cookie = await readOrNull(() => read(disk, `${root}/${namespace}/${name}`));
        if (cookie === null) continue;
        known.set(`${namespace}/${name}`, {
          storeId: cookie.storeId,
          namespace,
          shard: Number(name),
        });
      }
    }
  }
  return [...known.entries()].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, shard]) => shard);
}

async function readOrNull(read: () => Promise<Cookie | null>): Promise<Cookie | null> {
  try {
    return await read();
  } catch (error) {
    if (error instanceof GarbledFileError) return null;
    throw error;
  }
}

/**
 * Removes a shard from both volumes, its cookies first, so that a crash midway never looks whole.
 * Fine to repeat.
 */
export async function removeShard(disk: Disk, paths: ShardPaths): Promise<void> {
  for (const dir of [paths.walDir, paths.stateDir]) {
    if (!(await disk.exists(dir))) continue;
    await disk.remove(`${dir}/${COOKIE_FILE}`);
    await disk.syncDir(dir);
  }
  for (const dir of [paths.walDir, paths.stateDir]) {
    // Also when it is gone: an earlier attempt may have failed before that was durable.
    if (!(await disk.exists(parentOf(dir)))) continue;
    await disk.remove(dir);
    await disk.syncDir(parentOf(dir));
  }
}
