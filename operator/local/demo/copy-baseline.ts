import { open, rm, type FileHandle } from "node:fs/promises";

const BLOCK_BYTES = 1024 * 1024;
const RUNS = 3;

/**
 * The reference for a rebuild: how long it takes to copy `bytes` bytes out of `sources` into one
 * new file beside them and make it durable, in milliseconds; the median of three runs. Sources are
 * read over again when they hold less.
 */
export async function measureCopy(
  sources: readonly string[],
  bytes: number,
  target: string,
): Promise<number> {
  const runs: number[] = [];
  for (let run = 0; run < RUNS; run += 1) runs.push(await copyOnce(sources, bytes, target));
  runs.sort((a, b) => a - b);
  return runs[Math.floor(RUNS / 2)] ?? 0;
}

async function copyOnce(
  sources: readonly string[],
  bytes: number,
  target: string,
): Promise<number> {
  const out = await open(target, "w");
  try {
    const startMs = performance.now();
    let left = bytes;
    while (left > 0) {
      const before = left;
      for (const source of sources) left -= await copyFile(source, out, left);
      if (left === before) throw new Error("there is nothing to copy");
    }
    await out.sync();
    return performance.now() - startMs;
  } finally {
    await out.close();
    await rm(target, { force: true });
  }
}

/** Copies up to `bytesMax` bytes; returns how many. */
async function copyFile(source: string, out: FileHandle, bytesMax: number): Promise<number> {
  if (bytesMax <= 0) return 0;
  const input = await open(source, "r");
  const block = Buffer.allocUnsafe(BLOCK_BYTES);
  let copied = 0;
  try {
    while (copied < bytesMax) {
      const wanted = Math.min(block.length, bytesMax - copied);
      const { bytesRead } = await input.read(block, 0, wanted, null);
      if (bytesRead === 0) break;
      await out.write(block, 0, bytesRead);
      copied += bytesRead;
    }
  } finally {
    await input.close();
  }
  return copied;
}
