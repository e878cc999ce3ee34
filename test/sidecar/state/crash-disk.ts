import type { Disk, DiskFile, DiskLock } from "../../../sidecar/lib/ports/disk.ts";

interface Contents {
  durable: Buffer;
  volatile: Buffer;
}

/**
 * Files in memory that lose or tear what was not synced when `crash` is called. Names are durable
 * at once.
 */
export class CrashDisk implements Disk {
  readonly #files = new Map<string, Contents>();
  readonly #breathe: () => Promise<void>;

  /** `breathe` is awaited in each operation; one that never resolves is a dead process. */
  constructor(breathe: () => Promise<void> = () => Promise.resolve()) {
    this.#breathe = breathe;
  }

  crash(unit: () => number): void {
    for (const file of this.#files.values()) {
      const { durable, volatile } = file;
      const kept = unit();
      // As often as not all of it was written back in time, or none.
      const survival = kept < 0.3 ? 0 : kept < 0.6 ? 1 : 0.5;
      const torn = Buffer.alloc(survival > 0 ? volatile.length : durable.length);
      durable.copy(torn);
      // Any 512-byte sector of the new contents may have reached the platter.
      for (let at = 0; at < torn.length; at += 512) {
        if (unit() < survival && at < volatile.length)
          volatile.copy(torn, at, at, Math.min(at + 512, volatile.length));
      }
      file.durable = torn;
      file.volatile = Buffer.from(torn);
    }
  }

  async open(path: string, options: { readonly create: boolean }): Promise<DiskFile> {
    await this.#breathe();
    let file = this.#files.get(path);
    if (file === undefined) {
      if (!options.create) throw new Error(`no file ${path}`);
      file = { durable: Buffer.alloc(0), volatile: Buffer.alloc(0) };
      this.#files.set(path, file);
    }
    return new CrashFile(file, this.#breathe);
  }

  async readFile(path: string): Promise<Uint8Array | null> {
    return this.#files.get(path)?.volatile ?? null;
  }

  async exists(path: string): Promise<boolean> {
    return this.#files.has(path);
  }

  async makeDir(): Promise<void> {}

  async syncDir(): Promise<void> {
    await this.#breathe();
  }

  async list(): Promise<readonly string[]> {
    return [...this.#files.keys()].sort();
  }

  async rename(): Promise<void> {
    throw new Error("not needed");
  }

  async remove(path: string): Promise<void> {
    this.#files.delete(path);
  }

  async freeBytes(): Promise<number> {
    return Number.MAX_SAFE_INTEGER;
  }

  async usedBytes(): Promise<number> {
    return 0;
  }

  async lock(): Promise<DiskLock | null> {
    return { release: async () => undefined };
  }
}

class CrashFile implements DiskFile {
  readonly #file: Contents;
  readonly #breathe: () => Promise<void>;

  constructor(file: Contents, breathe: () => Promise<void>) {
    this.#file = file;
    this.#breathe = breathe;
  }

  async read(into: Uint8Array, position: number): Promise<number> {
    const found = this.#file.volatile.subarray(position, position + into.byteLength);
    into.set(found);
    return found.byteLength;
  }

  async write(parts: readonly Uint8Array[], position: number): Promise<void> {
    await this.#breathe();
    const bytes = Buffer.concat(parts);
    const grown = Buffer.alloc(Math.max(this.#file.volatile.length, position + bytes.length));
    this.#file.volatile.copy(grown);
    bytes.copy(grown, position);
    this.#file.volatile = grown;
  }

  async sync(): Promise<void> {
    await this.#breathe();
    this.#file.durable = Buffer.from(this.#file.volatile);
  }

  async truncate(bytes: number): Promise<void> {
    const cut = Buffer.alloc(bytes);
    this.#file.volatile.copy(cut);
    this.#file.volatile = cut;
  }

  async size(): Promise<number> {
    return this.#file.volatile.length;
  }

  async close(): Promise<void> {}
}
