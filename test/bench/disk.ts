import { randomBytes } from "node:crypto";
import { cp, mkdtemp, open, readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { performance } from "node:perf_hooks";

/** Syncs per second of small appended writes: what a log that syncs each entry alone could reach. */
export async function syncRate(folder: string, bytes: number, durationMs: number): Promise<number> {
  const scratch = await mkdtemp(join(folder, "sync-"));
  const file = await open(join(scratch, "data"), "w");
  const block = randomBytes(bytes);
  const startedMs = performance.now();
  let count = 0;
  try {
    while (performance.now() - startedMs < durationMs) {
      await file.write(block, 0, bytes, count * bytes);
      await file.datasync();
      count += 1;
    }
    return count / ((performance.now() - startedMs) / 1000);
  } finally {
    await file.close();
    await rm(scratch, { recursive: true, force: true });
  }
}

/** Milliseconds to copy a folder beside itself and to sync every file of the copy. */
export async function copyAndSyncMs(folder: string): Promise<{ ms: number; bytes: number }> {
  const target = `${folder}.copy`;
  const startedMs = performance.now();
  try {
    await cp(folder, target, { recursive: true });
    let bytes = 0;
    for (const name of await readdir(target, { recursive: true })) {
      const path = join(target, name);
      const { size } = await stat(path);
      const file = await open(path, "r");
      try {
        await file.sync();
        if ((await file.stat()).isFile()) bytes += size;
      } finally {
        await file.close();
      }
    }
    return { ms: performance.now() - startedMs, bytes };
  } finally {
    await rm(target, { recursive: true, force: true });
  }
}
