import type { Disk } from "../lib/ports/disk.ts";
import {
  GarbledFileError,
  integerField,
  objectField,
  readSealed,
  stringField,
  writeSealed,
} from "../lib/sealed-file.ts";
import { type Manifest, checkManifest } from "./manifest.ts";
import type { SnapshotManifest } from "../protocol/gen/resilver.ts";

/** What of a staged snapshot is verified and durable. */
export interface StageProgress {
  readonly manifest: Manifest;
  /** The replica whose stage it is. */
  readonly uid: string;
  readonly chunks: number;
  readonly bytes: number;
  /** State of the whole hash after those chunks. */
  readonly hash: Uint8Array;
}

const STAGE_DIR = /^staging-([a-z0-9][a-z0-9-]*)$/;
const PROGRESS_FILE = /^staging-([a-z0-9][a-z0-9-]*)\.json(\.new)?$/;
const HASH_HEX = /^[0-9a-f]{16}$/;

/** The directory a snapshot is received into. */
export function stagePath(stateDir: string, snapshotId: string): string {
  return `${stateDir}/staging-${snapshotId}`;
}

/** The snapshot id in the name of a stage's directory or progress file; null for any other name. */
export function stageIdOf(name: string): string | null {
  return (STAGE_DIR.exec(name) ?? PROGRESS_FILE.exec(name))?.[1] ?? null;
}

/**
 * Reads what a stage is known to hold. Null when there is no directory, no progress file or a
 * damaged one: nothing can be proven then, so the transfer starts from 0.
 */
export async function readProgress(
  disk: Disk,
  stateDir: string,
  snapshotId: string,
): Promise<StageProgress | null> {
  const path = stagePath(stateDir, snapshotId);
  if (!(await disk.exists(path))) return null;
  try {
    return await readSealed(disk, `${path}.json`, "snapshot-progress", (body) => ({
      manifest: checkManifest(
        objectField(body, "manifest") as unknown as SnapshotManifest,
        Number.MAX_SAFE_INTEGER,
      ),
      uid: stringField(body, "uid"),
      chunks: integerField(body, "chunks", 0),
      bytes: integerField(body, "bytes", 0),
      hash: bytesOf(stringField(body, "hash", HASH_HEX)),
    }));
  } catch (error) {
    if (error instanceof GarbledFileError) return null;
    throw error;
  }
}

/** Durably records progress; what it claims must be durable before. */
export async function writeProgress(
  disk: Disk,
  stateDir: string,
  progress: StageProgress,
): Promise<void> {
  const path = `${stagePath(stateDir, progress.manifest.snapshotId)}.json`;
  await writeSealed(disk, path, "snapshot-progress", { ...progress, hash: hexOf(progress.hash) });
}

/**
 * Removes a stage; the progress file first, so that it never claims a directory that is half gone.
 */
export async function removeStage(disk: Disk, stateDir: string, snapshotId: string): Promise<void> {
  await removeProgress(disk, stateDir, snapshotId);
  await disk.syncDir(stateDir);
  await disk.remove(stagePath(stateDir, snapshotId));
  await disk.syncDir(stateDir);
}

/** Removes the progress file alone. */
export async function removeProgress(
  disk: Disk,
  stateDir: string,
  snapshotId: string,
): Promise<void> {
  const path = `${stagePath(stateDir, snapshotId)}.json`;
  await disk.remove(path);
  await disk.remove(`${path}.new`);
}

/** Ids of all stages in a state directory, also those with only a progress file. */
export async function listStages(disk: Disk, stateDir: string): Promise<readonly string[]> {
  const ids = (await disk.list(stateDir)).map(stageIdOf).filter((id) => id !== null);
  return [...new Set(ids)];
}

/** Lower-case hex of bytes. */
export function hexOf(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function bytesOf(hex: string): Uint8Array {
  return Uint8Array.from({ length: hex.length / 2 }, (_, index) =>
    Number.parseInt(hex.slice(index * 2, index * 2 + 2), 16),
  );
}
