import type { Disk } from "../lib/ports/disk.ts";
import type { Random } from "../lib/ports/random.ts";
import {
  ASIDE_SUFFIX,
  GarbledFileError,
  makeDirDurable,
  parentOf,
  replaceFile,
} from "../lib/sealed-file.ts";
import { INVALID_TERM, type Term } from "../protocol/entry.ts";
import { ProtocolError } from "../protocol/errors.ts";
import { WipeReason } from "../protocol/gen/resilver.ts";
import {
  COOKIE_FILE,
  type Cookie,
  type FormatReason,
  type MasterCookie,
  readCookie,
  readMasterCookie,
  writeCookie,
  writeMasterCookie,
} from "./cookie.ts";
import {
  META_FILE,
  type ReplicaMeta,
  newReplicaMeta,
  readReplicaMeta,
  writeReplicaMeta,
} from "./replica-meta.ts";
import { RESERVE_FILE } from "./space-reserve.ts";
import { type ShardPaths, checkShardName, shardPaths } from "./shard-paths.ts";

/*
 * Identity of a replica's two directories (R1): who it is, or that it lost something and is new.
 *
 * A format is a row of durable steps, each of which can be the last before a crash:
 *   1 the WAL directory's cookie: new uid, phase FORMING (its old one is copied aside before)
 *   2 the old replica.json gets another name, the new one is written
 *   3 the state directory's cookie: new uid (its old one is copied aside before)
 *   4 the WAL directory's cookie: phase SET_ASIDE_PENDING, or READY when there was nothing old
 * Before 1 nothing is decided and the next open decides anew; from 1 on the old identity is gone
 * for good and the next open goes on with the same new uid, which nobody hears of before 4. Nothing
 * of the old identity is moved, let alone removed, until Enrol calls setAsideOldFiles. While that
 * is pending the new identity writes nothing but cookies, replica.json and the space reserve, so
 * data of two identities never mix.
 */

/**
 * Prefix of the directories that hold files of an older identity; the new identity's uid follows.
 */
const REPLACED_PREFIX = ".replaced-";

/** What to open, and for whom. */
export interface OpenDirectoriesOptions {
  readonly disk: Disk;
  readonly random: Random;
  /** The node's WAL directory; the shard's is `<walDir>/<namespace>/<shard>`. */
  readonly walDir: string;
  readonly stateDir: string;
  readonly storeId: string;
  readonly namespace: string;
  readonly shard: number;
  /** For the cookie, when it is known. */
  readonly createdTerm?: Term;
  /**
   * Give up an identity that looks whole: the replica found bad records (R14), or a person asked.
   */
  readonly replace?: "CORRUPT" | "REQUESTED";
}

/**
 * Finds who the replica in these directories is, and formats it when it is nobody or not whole.
 * Throws ProtocolError WRONG_STORE (nothing touched) when a cookie names another store, namespace
 * or shard, GarbledFileError (nothing touched) when no readable cookie shows whose damaged
 * directories these are, INVALID_ARGUMENT for a bad name, DiskError.
 */
export async function openDirectories(options: OpenDirectoriesOptions): Promise<ShardDirectories> {
  checkShardName(options);
  const { disk } = options;
  const paths = shardPaths(options);
  const found = await look(disk, paths);
  for (const [dir, side] of [
    [paths.walDir, found.wal],
    [paths.stateDir, found.state],
  ] as const) {
    if (side.cookie !== null) checkOwner(dir, side.cookie, options);
  }
  const garbled = found.wal.garbled ?? found.state.garbled;
  if (garbled !== null && found.wal.cookie === null && found.state.cookie === null) throw garbled;

  await settleNames(disk, paths);
  if (options.replace === undefined && isUnfinishedFormat(found)) {
    return finishFormat(disk, paths, found.wal.cookie as MasterCookie);
  }
  const reason = options.replace ?? (await whyFormat(disk, paths, found));
  if (reason !== null) return format(options, paths, found, reason);
  return new ShardDirectories(disk, paths, found.wal.cookie as MasterCookie, "existing");
}

/** One replica's directories. The identity in it is whole and durable. */
export class ShardDirectories {
  readonly uid: string;
  /** The shard's own directory on the WAL volume. */
  readonly walDir: string;
  readonly stateDir: string;
  /** "new": this open, or one that crashed before it, made the identity. */
  readonly formatted: "existing" | "new";
  /**
   * Why this identity was made, for as long as it lives; LEAD reports it until the replica votes.
   */
  readonly wipeReason: WipeReason;
  /** False: these directories had never been formatted before; see {@link formattedBefore}. */
  readonly formattedBefore: boolean;
  readonly #disk: Disk;
  #cookie: MasterCookie;

  constructor(disk: Disk, paths: ShardPaths, cookie: MasterCookie, formatted: "existing" | "new") {
    this.#disk = disk;
    this.#cookie = cookie;
    this.uid = cookie.replicaUid;
    this.walDir = paths.walDir;
    this.stateDir = paths.stateDir;
    this.formatted = formatted;
    this.wipeReason = WipeReason[cookie.reason];
    this.formattedBefore = cookie.reason !== "NEVER_FORMATTED";
  }

  /** True: files of an older identity lie here. WAL and state must not be opened before Enrol. */
  get setAsidePending(): boolean {
    return this.#cookie.phase !== "READY";
  }

  /** At Enrol, not before: moves what the older identity left out of the way. Fine to repeat. */
  async setAsideOldFiles(): Promise<void> {
    if (!this.setAsidePending) return;
    for (const dir of [this.walDir, this.stateDir]) {
      const old = (await this.#disk.list(dir)).filter((name) => !isCurrentName(name));
      if (old.length === 0) continue;
      const aside = `${dir}/${REPLACED_PREFIX}${this.uid}`;
      await makeDirDurable(this.#disk, aside);
      for (const name of old) {
        // Never over something set aside before: a crash may have cut a move short.
        let to = `${aside}/${name}`;
        while (await this.#disk.exists(to)) to += ".again";
        await this.#disk.rename(`${dir}/${name}`, to);
      }
      // The new parent first: a name may be in both after a crash, never in neither.
      await this.#disk.syncDir(aside);
      await this.#disk.syncDir(dir);
    }
    const ready: MasterCookie = { ...this.#cookie, phase: "READY" };
    await writeMasterCookie(this.#disk, this.walDir, ready);
    this.#cookie = ready;
  }

  /** Bytes that were set aside on the state volume. */
  async setAsideBytes(): Promise<number> {
    let bytes = 0;
    for (const path of await this.#asideDirs(this.stateDir)) {
      bytes += await this.#disk.usedBytes(path);
    }
    return bytes;
  }

  /**
   * For `neededBytes` free on the state volume, removes what was set aside there, when that is
   * needed and enough; returns how many bytes went. It may be the best copy there is: only while a
   * majority holds everything without it.
   */
  async dropSetAsideFor(neededBytes: number): Promise<number> {
    const free = await this.#disk.freeBytes(this.stateDir);
    if (free >= neededBytes) return 0;
    const aside = await this.setAsideBytes();
    if (free + aside < neededBytes) return 0;
    await this.#drop(this.stateDir);
    return aside;
  }

  /** Removes what was set aside: the replica votes again. */
  async dropSetAside(): Promise<void> {
    for (const dir of [this.walDir, this.stateDir]) await this.#drop(dir);
  }

  async #drop(dir: string): Promise<void> {
    const paths = await this.#asideDirs(dir);
    for (const path of paths) await this.#disk.remove(path);
    if (paths.length > 0) await this.#disk.syncDir(dir);
  }

  async #asideDirs(dir: string): Promise<string[]> {
    const names = await this.#disk.list(dir);
    return names.filter((name) => name.startsWith(REPLACED_PREFIX)).map((name) => `${dir}/${name}`);
  }
}

/** What ReplicaStatus.formatted_before says: false only for a replica fit for a bootstrap (R11). */
export function formattedBefore(directories: ShardDirectories, meta: ReplicaMeta): boolean {
  return directories.formattedBefore || meta.member || meta.enrolled !== null;
}

/** What one directory's cookie says; both null when it is missing. */
interface Side<C extends Cookie> {
  readonly cookie: C | null;
  readonly garbled: GarbledFileError | null;
}

interface Found {
  readonly wal: Side<MasterCookie>;
  readonly state: Side<Cookie>;
}

async function look(disk: Disk, paths: ShardPaths): Promise<Found> {
  return {
    wal: await side(() => readMasterCookie(disk, paths.walDir)),
    state: await side(() => readCookie(disk, paths.stateDir)),
  };
}

async function side<C extends Cookie>(read: () => Promise<C | null>): Promise<Side<C>> {
  try {
    return { cookie: await read(), garbled: null };
  } catch (error) {
    if (!(error instanceof GarbledFileError)) throw error;
    return { cookie: null, garbled: error };
  }
}

function checkOwner(dir: string, cookie: Cookie, options: OpenDirectoriesOptions): void {
  for (const field of ["storeId", "namespace", "shard"] as const) {
    if (cookie[field] === options[field]) continue;
    throw new ProtocolError(
      "WRONG_STORE",
      `${dir}/${COOKIE_FILE}: ${field} is ${cookie[field]}, allowed: ${options[field]}; ` +
        "these are another replica's directories, nothing in them was touched",
      { field, value: String(cookie[field]), allowed: String(options[field]), path: dir },
    );
  }
}

/**
 * A process that was killed leaves names that are there and not durable yet. Nothing may be
 * concluded from them before they are; what was set aside first, since its names left the directory
 * above.
 */
async function settleNames(disk: Disk, paths: ShardPaths): Promise<void> {
  for (const dir of [paths.walDir, paths.stateDir]) {
    if (!(await disk.exists(dir))) continue;
    for (const name of await disk.list(dir)) {
      if (name.startsWith(REPLACED_PREFIX)) await disk.syncDir(`${dir}/${name}`);
    }
    await disk.syncDir(dir);
  }
}

/**
 * True when a crash cut a format short after it had chosen a uid, and nothing was swapped since.
 */
function isUnfinishedFormat({ wal, state }: Found): boolean {
  if (wal.cookie?.phase !== "FORMING" || state.garbled !== null) return false;
  const uid = state.cookie?.replicaUid ?? null;
  return uid === wal.cookie.replicaUid || uid === wal.cookie.replaces;
}

/** Why these directories need a new identity; null when they hold a whole one. */
async function whyFormat(
  disk: Disk,
  paths: ShardPaths,
  { wal, state }: Found,
): Promise<FormatReason | null> {
  if (wal.garbled !== null || state.garbled !== null) return "CORRUPT";
  if (wal.cookie === null && state.cookie === null) {
    const names = [...(await disk.list(paths.walDir)), ...(await disk.list(paths.stateDir))];
    // Left by a first format that crashed before its first cookie.
    const files = names.filter((name) => name !== COOKIE_FILE + ASIDE_SUFFIX);
    return files.length === 0 ? "NEVER_FORMATTED" : "VOLUME_EMPTY";
  }
  if (wal.cookie === null || state.cookie === null) return "VOLUME_EMPTY";
  if (wal.cookie.replicaUid !== state.cookie.replicaUid) return "IDENTITY_MISMATCH";
  if (wal.cookie.phase === "FORMING") return "IDENTITY_MISMATCH";
  return whyPromisesAreLost(disk, paths, wal.cookie.replicaUid);
}

/**
 * A replica that no longer knows what it promised is wiped as well: its vote could break the
 * promise.
 */
async function whyPromisesAreLost(
  disk: Disk,
  paths: ShardPaths,
  uid: string,
): Promise<FormatReason | null> {
  try {
    const meta = await readReplicaMeta(disk, paths.walDir);
    if (meta === null) return "VOLUME_EMPTY";
    return meta.replicaUid === uid ? null : "IDENTITY_MISMATCH";
  } catch (error) {
    if (error instanceof GarbledFileError) return "CORRUPT";
    throw error;
  }
}

/** Steps up to 1: chooses the new identity. */
async function format(
  options: OpenDirectoriesOptions,
  paths: ShardPaths,
  found: Found,
  reason: FormatReason,
): Promise<ShardDirectories> {
  const { disk, storeId, namespace, shard } = options;
  const makeDurable = async (dir: string): Promise<void> => {
    await makeDirDurable(disk, dir);
    // An earlier open may have made these names and crashed before they were durable.
    await Promise.all([disk.syncDir(parentOf(dir)), disk.syncDir(parentOf(parentOf(dir)))]);
  };
  await Promise.all([makeDurable(paths.walDir), makeDurable(paths.stateDir)]);
  const uid = options.random.uid();
  await copyAside(disk, paths.walDir, uid);
  const cookie: MasterCookie = {
    storeId,
    namespace,
    shard,
    replicaUid: uid,
    createdTerm: options.createdTerm ?? INVALID_TERM,
    reason,
    phase: "FORMING",
    replaces: found.state.cookie?.replicaUid ?? null,
  };
  await writeMasterCookie(disk, paths.walDir, cookie);
  return finishFormat(disk, paths, cookie);
}

/** Steps 2 to 4; each finds out whether it was done before. */
async function finishFormat(
  disk: Disk,
  paths: ShardPaths,
  forming: MasterCookie,
): Promise<ShardDirectories> {
  const uid = forming.replicaUid;
  if ((await whyPromisesAreLost(disk, paths, uid)) !== null) {
    if (await disk.exists(`${paths.walDir}/${META_FILE}`)) {
      const kept = `${paths.walDir}/replica.replaced-${uid}.json`;
      await disk.rename(`${paths.walDir}/${META_FILE}`, kept);
      await disk.syncDir(paths.walDir);
    }
    await writeReplicaMeta(disk, paths.walDir, newReplicaMeta(uid, WipeReason[forming.reason]));
  }
  const other = await side(() => readCookie(disk, paths.stateDir));
  // The state volume may have been emptied since this format began.
  await makeDirDurable(disk, paths.stateDir);
  if (other.cookie?.replicaUid !== uid) {
    await copyAside(disk, paths.stateDir, uid);
    await writeCookie(disk, paths.stateDir, forming);
  }
  const names = [...(await disk.list(paths.walDir)), ...(await disk.list(paths.stateDir))];
  const nothingOld = names.every(isCurrentName);
  const done: MasterCookie = { ...forming, phase: nothingOld ? "READY" : "SET_ASIDE_PENDING" };
  await writeMasterCookie(disk, paths.walDir, done);
  return new ShardDirectories(disk, paths, done, "new");
}

/**
 * Keeps a copy of the cookie that is about to be replaced, for whoever has to find out what
 * happened.
 */
async function copyAside(disk: Disk, dir: string, uid: string): Promise<void> {
  const bytes = await disk.readFile(`${dir}/${COOKIE_FILE}`);
  if (bytes !== null) await replaceFile(disk, `${dir}/cookie.replaced-${uid}.json`, bytes);
}

/** Names that belong to the present identity while a set-aside is pending, and older set-asides. */
function isCurrentName(name: string): boolean {
  if (name.startsWith(REPLACED_PREFIX)) return true;
  const base = name.endsWith(ASIDE_SUFFIX) ? name.slice(0, -ASIDE_SUFFIX.length) : name;
  return base === COOKIE_FILE || base === META_FILE || base === RESERVE_FILE;
}
