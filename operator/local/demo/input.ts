import { existsSync } from "node:fs";
import { open, readdir } from "node:fs/promises";
import { dirname, join, relative, sep } from "node:path";
import { fileURLToPath } from "node:url";

/** One record to load. */
export interface InputRecord {
  readonly key: string;
  readonly value: Uint8Array;
}

/** Larger files are loaded in numbered parts of this size. */
export const PART_BYTES = 1024 * 1024;
/** The store's bound. */
const KEY_BYTES_MAX = 1024;

/** The nearest `node_modules` above this file; null when there is none. */
export function projectModules(): string | null {
  for (let dir = dirname(fileURLToPath(import.meta.url)); ; dir = dirname(dir)) {
    const candidate = join(dir, "node_modules");
    if (existsSync(candidate)) return candidate;
    if (dirname(dir) === dir) return null;
  }
}

/**
 * Real data: every file below `dir`, path as key, bytes as value, until `bytesMax` bytes of keys
 * and values. When the files are less than that they come again under another prefix. Throws when
 * there is nothing to load.
 */
export async function* inputRecords(dir: string, bytesMax: number): AsyncGenerator<InputRecord> {
  let bytes = 0;
  for (let pass = 0; bytes < bytesMax; pass += 1) {
    let passBytes = 0;
    for await (const path of filesOf(dir)) {
      const name = relative(dir, path).split(sep).join("/");
      for await (const record of partsOf(path, `files/${pass}/${name}`)) {
        const size = Buffer.byteLength(record.key) + record.value.length;
        passBytes += size;
        bytes += size;
        yield record;
        if (bytes >= bytesMax) return;
      }
    }
    if (passBytes === 0) throw new Error(`--input ${dir}: there are no files to load`);
  }
}

async function* filesOf(dir: string): AsyncGenerator<string> {
  const entries = await readdir(dir, { withFileTypes: true });
  // Sorted: the same input gives the same records everywhere.
  for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const path = join(dir, entry.name);
    if (entry.isDirectory()) yield* filesOf(path);
    else if (entry.isFile()) yield path;
  }
}

async function* partsOf(path: string, key: string): AsyncGenerator<InputRecord> {
  if (Buffer.byteLength(key) > KEY_BYTES_MAX - 16) return;
  const file = await open(path, "r").catch(() => null);
  // Gone or unreadable: a file of somebody else's, not ours to complain about.
  if (file === null) return;
  try {
    const { size } = await file.stat();
    if (size <= PART_BYTES) {
      yield { key, value: await file.readFile() };
      return;
    }
    for (let part = 0; part * PART_BYTES < size; part += 1) {
      const value = Buffer.alloc(Math.min(PART_BYTES, size - part * PART_BYTES));
      const { bytesRead } = await file.read(value, 0, value.length, part * PART_BYTES);
      yield {
        key: `${key}.part-${String(part).padStart(4, "0")}`,
        value: value.subarray(0, bytesRead),
      };
    }
  } finally {
    await file.close();
  }
}
