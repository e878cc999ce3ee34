import * as fs from "node:fs";
import { join } from "node:path";
import { tryLock } from "fs-native-extensions";
import { MEMORY_PAGE_BYTES } from "../lib/page-aligned-buffer.ts";
import { type Disk, DiskError, type DiskFile, type DiskLock } from "../lib/ports/disk.ts";

/** The Disk port over the file system of this machine (Linux). */
export function createNodeDisk(): Disk {
  return new NodeDisk();
}

class NodeDisk implements Disk {
  async open(
    path: string,
    options: { readonly create: boolean; readonly uncached?: boolean },
  ): Promise<DiskFile> {
    const fd = await openFd(path, options.create);
    const direct = options.uncached === true ? await openDirect(path) : null;
    return new NodeFile(path, fd, direct);
  }

  async readFile(path: string): Promise<Uint8Array | null> {
    try {
      return await attempt(path, () => fs.promises.readFile(path));
    } catch (error) {
      if (isNotFound(error)) return null;
      throw error;
    }
  }

  async makeDir(path: string): Promise<void> {
    await attempt(path, () => fs.promises.mkdir(path, { recursive: true }));
  }

  async list(path: string): Promise<readonly string[]> {
    try {
      return (await attempt(path, () => fs.promises.readdir(path))).sort();
    } catch (error) {
      // A file may lie where a directory might.
      if (isNotFound(error) || causeCode(error) === "ENOTDIR") return [];
      throw error;
    }
  }

  async exists(path: string): Promise<boolean> {
    try {
      await attempt(path, () => fs.promises.stat(path));
      return true;
    } catch (error) {
      if (isNotFound(error)) return false;
      throw error;
    }
  }

  async rename(from: string, to: string): Promise<void> {
    await attempt(from, () => fs.promises.rename(from, to));
  }

  async remove(path: string): Promise<void> {
    await attempt(path, () => fs.promises.rm(path, { recursive: true, force: true }));
  }

  async syncDir(path: string): Promise<void> {
    const fd = await openDirectory(path);
    try {
      await call(path, (done) => fs.fsync(fd, done), true);
    } finally {
      // As final: it may stand for the failed sync before it.
      await call(path, (done) => fs.close(fd, done), true);
    }
  }

  async freeBytes(path: string): Promise<number> {
    const { bavail, bsize } = await attempt(path, () => fs.promises.statfs(path));
    return bavail * bsize;
  }

  async usedBytes(path: string): Promise<number> {
    let bytes = 0;
    const left = [path];
    for (let dir = left.pop(); dir !== undefined; dir = left.pop()) {
      for (const entry of await entriesOf(dir)) {
        const child = join(dir, entry.name);
        if (entry.isDirectory()) left.push(child);
        else if (entry.isFile()) bytes += await sizeOf(child);
      }
    }
    return bytes;
  }

  /** An open file description lock: the kernel drops it with the process, however that ends. */
  async lock(path: string): Promise<DiskLock | null> {
    const fd = await openFd(path, true);
    try {
      if (tryLock(fd)) return { release: () => call(path, (done) => fs.close(fd, done)) };
    } catch (error) {
      await call(path, (done) => fs.close(fd, done));
      throw diskError(error, path, false);
    }
    await call(path, (done) => fs.close(fd, done));
    return null;
  }
}

class NodeFile implements DiskFile {
  readonly #path: string;
  readonly #fd: number;
  /**
   * For writes past the page cache; null: there are none. Open as long as the file, since another
   * write may be about to use its number.
   */
  readonly #direct: number | null;
  #directWorks = true;
  #open = true;

  constructor(path: string, fd: number, direct: number | null) {
    this.#path = path;
    this.#fd = fd;
    this.#direct = direct;
  }

  async read(into: Uint8Array, position: number): Promise<number> {
    this.#checkOpen();
    let done = 0;
    while (done < into.byteLength) {
      const at = done;
      const count = await this.#transfer((finish) =>
        fs.read(this.#fd, into, at, into.byteLength - at, position + at, finish),
      );
      if (count === 0) break;
      done += count;
    }
    return done;
  }

  async write(parts: readonly Uint8Array[], position: number): Promise<void> {
    this.#checkOpen();
    let left = parts;
    let at = position;
    // The kernel may take fewer bytes than offered; the rest is offered again.
    while (left.length > 0) {
      const offered = left;
      const from = at;
      const count =
        (await this.#writeDirect(offered, from)) ??
        (await this.#transfer((finish) => writeSome(this.#fd, offered, from, finish)));
      left = skipBytes(offered, count);
      at += count;
    }
  }

  /** Null: not possible with these bytes, or not on this file system. */
  async #writeDirect(parts: readonly Uint8Array[], position: number): Promise<number | null> {
    const direct = this.#direct;
    const [only] = parts;
    if (direct === null || !this.#directWorks) return null;
    if (only === undefined || parts.length > 1) return null;
    if (only.byteLength % MEMORY_PAGE_BYTES !== 0 || position % MEMORY_PAGE_BYTES !== 0)
      return null;
    try {
      return await this.#transfer((finish) => writeSome(direct, parts, position, finish));
    } catch (error) {
      // The file system, the device or the memory's place does not allow it.
      if (!isInvalid(error)) throw error;
      this.#directWorks = false;
      return null;
    }
  }

  /** fdatasync: the data, and the size where it changed. */
  async sync(): Promise<void> {
    this.#checkOpen();
    await call(this.#path, (done) => fs.fdatasync(this.#fd, done), true);
  }

  async truncate(bytes: number): Promise<void> {
    this.#checkOpen();
    await call(this.#path, (done) => fs.ftruncate(this.#fd, bytes, done));
  }

  async size(): Promise<number> {
    this.#checkOpen();
    return await new Promise((resolve, reject) => {
      fs.fstat(this.#fd, (error, stats) => {
        if (error) reject(diskError(error, this.#path, false));
        else resolve(stats.size);
      });
    });
  }

  async close(): Promise<void> {
    if (!this.#open) return;
    this.#open = false;
    const direct = this.#direct;
    if (direct !== null) await call(this.#path, (done) => fs.close(direct, done));
    await call(this.#path, (done) => fs.close(this.#fd, done));
  }

  #transfer(
    start: (finish: (error: Error | null, count: number) => void) => void,
  ): Promise<number> {
    return new Promise((resolve, reject) => {
      start((error, count) => {
        if (error) reject(diskError(error, this.#path, false));
        else resolve(count);
      });
    });
  }

  /** A closed descriptor's number may belong to another file by now. */
  #checkOpen(): void {
    if (!this.#open) {
      throw new DiskError("IO", this.#path, `${this.#path} is closed`, { fatal: false });
    }
  }
}

function writeSome(
  fd: number,
  parts: readonly Uint8Array[],
  position: number,
  finish: (error: Error | null, count: number) => void,
): void {
  const only = parts.length === 1 ? parts[0] : undefined;
  if (only === undefined) fs.writev(fd, parts, position, finish);
  else fs.write(fd, only, 0, only.byteLength, position, finish);
}

function skipBytes(parts: readonly Uint8Array[], count: number): readonly Uint8Array[] {
  let left = count;
  for (const [index, part] of parts.entries()) {
    if (left < part.byteLength) return [part.subarray(left), ...parts.slice(index + 1)];
    left -= part.byteLength;
  }
  return [];
}

async function openFd(path: string, create: boolean): Promise<number> {
  const flags = fs.constants.O_RDWR | (create ? fs.constants.O_CREAT : 0);
  return await openWith(path, flags);
}

/** Null where the file system knows no direct writes. */
async function openDirect(path: string): Promise<number | null> {
  try {
    return await openWith(path, fs.constants.O_WRONLY | fs.constants.O_DIRECT);
  } catch (error) {
    if (isInvalid(error)) return null;
    throw error;
  }
}

function isInvalid(error: unknown): boolean {
  return error instanceof DiskError && (error.cause as NodeJS.ErrnoException).code === "EINVAL";
}

function openDirectory(path: string): Promise<number> {
  return openWith(path, fs.constants.O_RDONLY | fs.constants.O_DIRECTORY);
}

function openWith(path: string, flags: number): Promise<number> {
  return new Promise((resolve, reject) => {
    fs.open(path, flags, 0o640, (error, fd) => {
      if (error) reject(diskError(error, path, false));
      else resolve(fd);
    });
  });
}

async function entriesOf(path: string): Promise<readonly fs.Dirent[]> {
  try {
    return await attempt(path, () => fs.promises.readdir(path, { withFileTypes: true }));
  } catch (error) {
    if (isNotFound(error)) return [];
    throw error;
  }
}

async function sizeOf(path: string): Promise<number> {
  try {
    return (await attempt(path, () => fs.promises.stat(path))).size;
  } catch (error) {
    if (isNotFound(error)) return 0;
    throw error;
  }
}

function call(
  path: string,
  start: (done: fs.NoParamCallback) => void,
  fatal = false,
): Promise<void> {
  return new Promise((resolve, reject) => {
    start((error) => {
      if (error) reject(diskError(error, path, fatal));
      else resolve();
    });
  });
}

async function attempt<T>(path: string, act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (error) {
    throw diskError(error, path, false);
  }
}

function isNotFound(error: unknown): boolean {
  return error instanceof DiskError && error.code === "NOT_FOUND";
}

const codes: Readonly<Record<string, DiskError["code"]>> = {
  ENOSPC: "NO_SPACE",
  EDQUOT: "NO_SPACE",
  EACCES: "DENIED",
  EPERM: "DENIED",
  EROFS: "DENIED",
  ENOENT: "NOT_FOUND",
};

function diskError(error: unknown, path: string, fatal: boolean): DiskError {
  const cause = error as NodeJS.ErrnoException;
  const code = codes[cause.code ?? ""] ?? "IO";
  return new DiskError(code, path, `${path}: ${cause.message}`, { fatal, cause });
}

function causeCode(error: unknown): unknown {
  const cause = error instanceof Error ? error.cause : undefined;
  return cause instanceof Error && "code" in cause ? cause.code : undefined;
}
