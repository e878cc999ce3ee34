import { randomBytes } from "node:crypto";
import { mkdir, mkdtemp, open, rm } from "node:fs/promises";
import { join } from "node:path";
import { performance } from "node:perf_hooks";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../..", import.meta.url));

/**
 * A new directory below the checkout, for the caller to remove: what is measured with syncs needs
 * a disk, and a directory for temporary files may be memory.
 */
export async function benchDir(prefix: string): Promise<string> {
  const parent = join(root, ".resilver");
  await mkdir(parent, { recursive: true });
  return await mkdtemp(join(parent, `bench-${prefix}-`));
}

/**
 * Syncs per second of small appended writes: what a log that syncs each entry alone could reach.
 */
export async function syncRate(bytes: number, durationMs: number): Promise<number> {
  const scratch = await benchDir("sync");
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
