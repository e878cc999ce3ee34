import { open, readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import type { ReplicaPaths } from "./directory.ts";

/** Which directories of a replica a wipe removes. */
export type WipeWhat = "all" | "wal" | "state";
/** All of WipeWhat, for checks and help. */
export const WIPE_WHAT: readonly WipeWhat[] = ["all", "wal", "state"];

/** Removes a stopped replica's directories, as a lost volume would. */
export async function wipeDirectories(paths: ReplicaPaths, what: WipeWhat): Promise<void> {
  if (what !== "state") await rm(paths.wal, { recursive: true, force: true });
  if (what !== "wal") await rm(paths.state, { recursive: true, force: true });
}

/** What {@link corruptLog} did. */
export interface Corruption {
  readonly file: string;
  readonly position: number;
}

/**
 * Flips bits in the middle of what a stopped replica has written to its log, as failing hardware
 * would: below the end, so that it cannot pass for a torn tail. Throws when there is no log to
 * damage.
 */
export async function corruptLog(paths: ReplicaPaths): Promise<Corruption> {
  const candidates = await filesBelow(paths.wal);
  for (const file of candidates.filter((path) => /\d/.test(path) && !path.endsWith(".json"))) {
    const used = await usedBytes(file);
    if (used < 256) continue;
    const position = Math.floor(used / 2);
    const handle = await open(file, "r+");
    try {
      const bytes = new Uint8Array(16);
      const { bytesRead } = await handle.read(bytes, 0, bytes.length, position);
      for (let at = 0; at < bytesRead; at += 1) bytes[at] = (bytes[at] ?? 0) ^ 0xa5;
      await handle.write(bytes, 0, bytesRead, position);
      await handle.sync();
    } finally {
      await handle.close();
    }
    return { file, position };
  }
  throw new Error(`no log to damage in ${paths.wal}: write something first`);
}

/** All files below a directory, sorted by path; empty when it does not exist. */
export async function filesBelow(dir: string): Promise<readonly string[]> {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true }).catch(() => []);
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
}

/** Bytes up to the last one that is not zero: segments are preallocated. */
async function usedBytes(path: string): Promise<number> {
  const { size } = await stat(path);
  const handle = await open(path, "r");
  try {
    const block = Buffer.alloc(64 * 1024);
    for (let end = size; end > 0; ) {
      const start = Math.max(0, end - block.length);
      const { bytesRead } = await handle.read(block, 0, end - start, start);
      for (let at = bytesRead - 1; at >= 0; at -= 1) if (block[at] !== 0) return start + at + 1;
      end = start;
    }
    return 0;
  } finally {
    await handle.close();
  }
}
