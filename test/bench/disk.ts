import { randomBytes } from "node:crypto";
import { mkdtemp, open, rm } from "node:fs/promises";
import { join } from "node:path";
import { performance } from "node:perf_hooks";

/**
 * Syncs per second of small appended writes: what a log that syncs each entry alone could reach.
 */
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
