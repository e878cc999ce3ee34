import type { Disk } from "../lib/ports/disk.ts";
import {
  ASIDE_SUFFIX,
  GarbledFileError,
  integerField,
  objectField,
  readSealed,
  stringField,
  writeSealed,
} from "../lib/sealed-file.ts";
import { LOG_START, type LogPosition } from "../protocol/entry.ts";
import { readProgress, removeStage, stageIdOf } from "./stage-files.ts";

/** Name of the pointer file in a shard's state directory. */
export const CURRENT_FILE = "CURRENT";
const STATE_DIR = /^state-(\d+)$/;

/**
 * Which state is the replica's. Replacing this one file commits a snapshot install on all volumes
 * (R12): on open, a log that does not go on from `base` is discarded by the WAL.
 */
export interface StatePointer {
  /** Name of the directory beside this file. */
  readonly dir: string;
  /** What the state held when it was installed; LOG_START for the first, empty one (R5). */
  readonly base: LogPosition;
  /** Empty for the first state. */
  readonly snapshotId: string;
  readonly uid: string;
}

/** Reads the pointer; null when there is none, GarbledFileError when damaged. */
export function readPointer(disk: Disk, stateDir: string): Promise<StatePointer | null> {
  return readSealed(disk, `${stateDir}/${CURRENT_FILE}`, "state-pointer", (body) => ({
    dir: stringField(body, "dir", STATE_DIR),
    base: parsePosition(objectField(body, "base")),
    snapshotId: stringField(body, "snapshotId", /^[^]*$/),
    uid: stringField(body, "uid"),
  }));
}

/** Durably replaces the pointer. */
export function writePointer(disk: Disk, stateDir: string, pointer: StatePointer): Promise<void> {
  const { dir, base, snapshotId, uid } = pointer;
  const { term, offset, crc } = base;
  const body = { dir, base: { term, offset, crc }, snapshotId, uid };
  return writeSealed(disk, `${stateDir}/${CURRENT_FILE}`, "state-pointer", body);
}

/**
 * Opens the state directory of replica `uid` at the start of a process, before any receiver: makes
 * the first, empty state where there is none, and removes what a crash left: stages that cannot be
 * resumed, installs that were not committed, and, when `dropOld` (the replica votes), states before
 * the current one. Throws GarbledFileError when the pointer is damaged, of another replica, or
 * points nowhere: the replica must then give up its identity (R14).
 */
export async function openCurrent(
  disk: Disk,
  stateDir: string,
  uid: string,
  options: { readonly dropOld: boolean },
): Promise<StatePointer> {
  const pointer = (await readPointer(disk, stateDir)) ?? (await makeFirst(disk, stateDir, uid));
  const path = `${stateDir}/${CURRENT_FILE}`;
  if (pointer.uid !== uid) {
    throw new GarbledFileError(path, `uid is ${pointer.uid}, allowed: ${uid}`);
  }
  if (!(await disk.exists(`${stateDir}/${pointer.dir}`))) {
    throw new GarbledFileError(path, `it names ${pointer.dir}, which is not there`);
  }
  // A killed process may have left a pointer that a power loss takes back: settled before anything,
  // here or in the log, is removed because of it.
  await disk.syncDir(stateDir);
  const current = numberOf(pointer.dir) ?? -1;
  for (const name of await disk.list(stateDir)) {
    const number = numberOf(name);
    const leftover = number !== null && number > current;
    const old = number !== null && number < current && options.dropOld;
    if (leftover || old) await disk.remove(`${stateDir}/${name}`);
    if (name === CURRENT_FILE + ASIDE_SUFFIX) await disk.remove(`${stateDir}/${name}`);
    const id = stageIdOf(name);
    if (id !== null && (await readProgress(disk, stateDir, id)) === null) {
      await removeStage(disk, stateDir, id);
    }
  }
  await disk.syncDir(stateDir);
  return pointer;
}

/**
 * Removes the states before the current one: when the replica votes, or for space (DESIGN section
 * 6).
 */
export async function dropOldStates(disk: Disk, stateDir: string): Promise<void> {
  const pointer = await readPointer(disk, stateDir);
  const current = numberOf(pointer?.dir ?? "");
  if (current === null) return;
  for (const name of await disk.list(stateDir)) {
    const number = numberOf(name);
    if (number !== null && number < current) await disk.remove(`${stateDir}/${name}`);
  }
  await disk.syncDir(stateDir);
}

/** A name for the next state directory: none before had it. */
export async function nextStateDir(disk: Disk, stateDir: string): Promise<string> {
  const numbers = (await disk.list(stateDir)).map((name) => numberOf(name) ?? -1);
  return `state-${Math.max(-1, ...numbers) + 1}`;
}

async function makeFirst(disk: Disk, stateDir: string, uid: string): Promise<StatePointer> {
  for (const name of await disk.list(stateDir)) {
    if (numberOf(name) === null) continue;
    if ((await disk.list(`${stateDir}/${name}`)).length > 0) {
      const what = `missing, and ${name} holds files; only whole states are pointed to`;
      throw new GarbledFileError(`${stateDir}/${CURRENT_FILE}`, what);
    }
  }
  const pointer: StatePointer = { dir: "state-0", base: LOG_START, snapshotId: "", uid };
  await disk.makeDir(`${stateDir}/${pointer.dir}`);
  await disk.syncDir(stateDir);
  await writePointer(disk, stateDir, pointer);
  return pointer;
}

function numberOf(name: string): number | null {
  const match = STATE_DIR.exec(name);
  return match === null ? null : Number(match[1]);
}

function parsePosition(body: Record<string, unknown>): LogPosition {
  return {
    term: integerField(body, "term", -1),
    offset: integerField(body, "offset", -1),
    crc: integerField(body, "crc", 0, 2 ** 32 - 1),
  };
}
