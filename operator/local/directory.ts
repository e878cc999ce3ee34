import { closeSync, existsSync, mkdirSync, openSync, readFileSync, statSync } from "node:fs";
import { open, rename } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { tryLock } from "fs-native-extensions";

/** Where the files of one local store are, all below one directory. */
export interface StorePaths {
  readonly dir: string;
  /** What the store was made with. */
  readonly settings: string;
  /** Where the running `up` process listens for commands. */
  readonly control: string;
  /** Held by the running `up` process. */
  readonly lock: string;
  /** The coordinator's records. */
  readonly records: string;
}

/** Where the files of one replica are. */
export interface ReplicaPaths {
  readonly dir: string;
  readonly wal: string;
  readonly state: string;
  readonly log: string;
  /** Process id of the running sidecar. */
  readonly pid: string;
}

/** Where the files of a store in `dir` are. */
export function storePaths(dir: string): StorePaths {
  const root = resolve(dir);
  return {
    dir: root,
    settings: join(root, "store.json"),
    control: join(root, "control.json"),
    lock: join(root, "lock"),
    records: join(root, "records.json"),
  };
}

/** Where the files of one replica of a store in `storeDir` are. */
export function replicaPaths(storeDir: string, replica: string): ReplicaPaths {
  const dir = join(resolve(storeDir), replica);
  return {
    dir,
    wal: join(dir, "wal"),
    state: join(dir, "state"),
    log: join(dir, "sidecar.log"),
    pid: join(dir, "pid.json"),
  };
}

/**
 * Makes a directory and its parents. Not `recursive`: that never returns where a parent is there
 * and yet nothing can be made in it, as below /proc. Throws an Error of the system.
 */
export function makeDirectory(dir: string): void {
  try {
    mkdirSync(dir);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "EEXIST" && statSync(dir).isDirectory()) return;
    if (code !== "ENOENT" || existsSync(dirname(dir))) throw error;
    makeDirectory(dirname(dir));
    mkdirSync(dir);
  }
}

/** Another process runs a store in this directory. */
export class DirectoryInUse extends Error {
  override readonly name = "DirectoryInUse";
}

/**
 * Holds a store's directory for this process, making it when absent. The lock dies with the
 * process, so nothing needs cleaning up after kill -9. Throws DirectoryInUse.
 */
export function lockDirectory(dir: string): { release(): void } {
  const { lock } = storePaths(dir);
  makeDirectory(resolve(dir));
  const fd = openSync(lock, "a+");
  if (!tryLock(fd)) {
    closeSync(fd);
    throw new DirectoryInUse(`--dir: ${resolve(dir)} is in use by another \`resilver local up\``);
  }
  return { release: () => closeSync(fd) };
}

/**
 * Replaces a small JSON file in one step: readers see the old or the new contents, a crash leaves
 * one of them.
 */
export async function writeJson(path: string, value: unknown, mode = 0o644): Promise<void> {
  const aside = `${path}.new`;
  const file = await open(aside, "w", mode);
  try {
    await file.writeFile(`${JSON.stringify(value, null, 2)}\n`);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(aside, path);
}

/** The parsed file, or null when there is none. Throws SyntaxError for anything but JSON. */
export function readJson(path: string): unknown {
  return existsSync(path) ? (JSON.parse(readFileSync(path, "utf8")) as unknown) : null;
}
