import type { Clock } from "../../sidecar/lib/ports/clock.ts";
import {
  type Disk,
  DiskError,
  type DiskFile,
  type DiskLock,
} from "../../sidecar/lib/ports/disk.ts";
import { Chance } from "./chance.ts";
import { type PowerLoss, RandomLoss } from "./power-loss.ts";
import { SimDirectory, SimFile } from "./sim-inode.ts";

/** What a disk without a quota says is free. */
const FREE_BYTES_MAX = 2 ** 50;
const UNREADABLE = "cannot be read there (simulated)";

/** How a simulated disk behaves. */
export interface SimDiskOptions {
  /** Decides what a power loss keeps. */
  readonly seed: number;
  /** Sum of all file sizes beyond which writes fail with NO_SPACE. Default: none. */
  readonly quotaBytes?: number;
  /** With a latency, each operation first sleeps that long by this clock. */
  readonly latency?: { readonly clock: Clock; readonly ms: (operation: SimOperation) => number };
}

/**
 * One call that changes something or makes it durable, as counted by {@link SimDisk.operations}.
 */
export interface SimOperation {
  readonly name:
    | "open"
    | "makeDir"
    | "rename"
    | "remove"
    | "syncDir"
    | "write"
    | "sync"
    | "truncate";
  readonly path: string;
}

/**
 * Asked about each write: where in the file the disk really puts it (`null`: nowhere), though it
 * says that all is well; `undefined`: where it should.
 */
export type AstrayWrite = (path: string, position: number) => number | null | undefined;

/**
 * A disk in memory. Each file has durable and volatile contents, each directory durable and
 * volatile entries. A power loss keeps any subset of what was not synced, writes also in part, by
 * sectors of 512 B. The same seed and calls give the same result.
 */
export class SimDisk implements Disk {
  /** Every changing operation so far, for tests that crash at each of them. */
  operations = 0;
  /** Called before each changing operation. */
  onOperation: (operation: SimOperation) => void = () => undefined;
  readonly #options: SimDiskOptions;
  readonly #chance: Chance;
  readonly #root = new SimDirectory();
  #quotaBytes: number;
  /** Raised by each crash: what was opened before is dead. */
  #boot = 0;
  #down = false;
  #crashAt = Number.POSITIVE_INFINITY;
  #failSync: (path: string) => boolean = () => false;
  #astray: AstrayWrite | null = null;
  #locks = new Set<string>();

  constructor(options: SimDiskOptions) {
    this.#options = options;
    this.#chance = new Chance(options.seed);
    this.#quotaBytes = options.quotaBytes ?? Number.POSITIVE_INFINITY;
  }

  // The port.

  async open(path: string, options: { readonly create: boolean }): Promise<DiskFile> {
    await this.#begin(options.create ? { name: "open", path } : null, path);
    const { directory, name } = this.#locate(path);
    let file = directory.get(name);
    if (file === undefined) {
      if (!options.create) throw notFound(path);
      file = new SimFile();
      directory.link(name, file);
    }
    if (file instanceof SimDirectory) throw ioError(path, "is a directory");
    this.#checkAlive();
    return new OpenFile(this, path, file, this.#boot);
  }

  async readFile(path: string): Promise<Uint8Array | null> {
    await this.#begin(null, path);
    const node = this.#find(path);
    if (node === undefined) return null;
    if (node instanceof SimDirectory) throw ioError(path, "is a directory");
    if (!node.isReadable(0, node.usedBytes())) throw ioError(path, UNREADABLE);
    return node.bytes();
  }

  async makeDir(path: string): Promise<void> {
    await this.#begin({ name: "makeDir", path }, path);
    let directory = this.#root;
    for (const name of partsOf(path)) {
      let child = directory.get(name);
      if (child === undefined) {
        child = new SimDirectory();
        directory.link(name, child);
      }
      if (child instanceof SimFile) throw ioError(path, `${name} is a file`);
      directory = child;
    }
    this.#checkAlive();
  }

  async list(path: string): Promise<readonly string[]> {
    await this.#begin(null, path);
    const node = this.#find(path);
    return node instanceof SimDirectory ? node.names() : [];
  }

  async exists(path: string): Promise<boolean> {
    await this.#begin(null, path);
    return this.#find(path) !== undefined;
  }

  async rename(from: string, to: string): Promise<void> {
    await this.#begin({ name: "rename", path: from }, from);
    const source = this.#locate(from);
    const target = this.#locate(to);
    const node = source.directory.get(source.name);
    if (node === undefined) throw notFound(from);
    if (target.directory.get(target.name) instanceof SimDirectory)
      throw ioError(to, "is a directory");
    source.directory.move(source.name, target.directory, target.name, node);
    this.#checkAlive();
  }

  async remove(path: string): Promise<void> {
    await this.#begin({ name: "remove", path }, path);
    const parts = partsOf(path);
    const name = parts.pop();
    const directory = this.#walk(parts);
    const node = name === undefined ? undefined : directory?.get(name);
    if (name !== undefined && node !== undefined) {
      if (node instanceof SimDirectory) node.clear();
      directory?.unlink(name);
    }
    this.#checkAlive();
  }

  async syncDir(path: string): Promise<void> {
    await this.#begin({ name: "syncDir", path }, path);
    const node = this.#find(path);
    if (!(node instanceof SimDirectory)) throw notFound(path);
    if (this.#failSync(path)) {
      node.loseUnsynced();
      throw new DiskError("IO", path, `${path}: sync failed (simulated)`, { fatal: true });
    }
    // Power lost during a sync: what it covered is kept or not, like anything unsynced.
    this.#checkAlive();
    node.sync();
  }

  async freeBytes(path: string): Promise<number> {
    await this.#begin(null, path);
    if (this.#quotaBytes === Number.POSITIVE_INFINITY) return FREE_BYTES_MAX;
    const free = Math.max(0, this.#quotaBytes - this.#root.usedBytes());
    // No real disk is without end, and messages hold whole numbers only.
    return Math.min(free, FREE_BYTES_MAX);
  }

  async usedBytes(path: string): Promise<number> {
    await this.#begin(null, path);
    return this.#find(path)?.usedBytes() ?? 0;
  }

  async lock(path: string): Promise<DiskLock | null> {
    const file = await this.open(path, { create: true });
    await file.close();
    if (this.#locks.has(path)) return null;
    this.#locks.add(path);
    const boot = this.#boot;
    return {
      release: async () => {
        if (boot === this.#boot) this.#locks.delete(path);
      },
    };
  }

  // What a test or the simulator does to it.

  /** Power goes off during the `count`th changing operation from now on (1: the next one). */
  crashAfter(count: number): void {
    this.#crashAt = this.operations + count;
  }

  /** True after power went off, until `restart`. Every call fails meanwhile. */
  get down(): boolean {
    return this.#down;
  }

  /** Power goes off now. */
  powerOff(): void {
    this.#down = true;
  }

  /**
   * Power comes back: any subset of what was not synced is kept, as `loss` (by default this disk's
   * own chance) decides. Open files and locks are gone.
   */
  restart(loss: PowerLoss = new RandomLoss(this.#chance)): void {
    this.#newBoot();
    this.#root.losePower(loss);
  }

  /** Everything is durable now. */
  settle(): void {
    this.#root.settle();
  }

  /** What `restart` would leave, exactly; equal texts are equal disks. Nothing is changed. */
  outcome(loss: PowerLoss): string {
    return this.#root.outcome(loss);
  }

  /**
   * The process is killed and started again: open files and locks are gone, all writes are kept.
   */
  kill(): void {
    this.#newBoot();
  }

  /**
   * Syncs of matching paths fail, and what they covered never becomes durable (it is still read
   * back).
   */
  failSyncs(matches: (path: string) => boolean): void {
    this.#failSync = matches;
  }

  /** Changes the quota. */
  setQuota(bytes: number): void {
    this.#quotaBytes = bytes;
  }

  /** A file or directory is gone for good, at once. */
  wipe(path: string): void {
    const parts = partsOf(path);
    const name = parts.pop() ?? "";
    this.#walk(parts)?.wipe(name);
  }

  /** Flips bits of the byte at `offset`, in what is durable and in what is read. */
  corrupt(path: string, offset: number, mask = 0xff): void {
    const node = this.#find(path);
    if (!(node instanceof SimFile)) throw notFound(path);
    node.corrupt(offset, mask);
  }

  /** Every file, as it would be listed, with its size. */
  files(): readonly { readonly path: string; readonly bytes: number }[] {
    return [...this.#root.files("")].map(([path, file]) => ({ path, bytes: file.usedBytes() }));
  }

  /** From now on writes may go astray; null: they do not. */
  setAstray(astray: AstrayWrite | null): void {
    this.#astray = astray;
  }

  /** What went astray is seen from now on: memory no longer covers it up. */
  forgetPages(): void {
    for (const [, file] of this.#root.files("")) file.forgetPages();
  }

  /** The sector with the byte at `offset` cannot be read until it is written again. */
  failReads(path: string, offset: number): void {
    const node = this.#find(path);
    if (!(node instanceof SimFile)) throw notFound(path);
    node.failReads(offset);
  }

  /** Everything can be read again. */
  healReads(): void {
    for (const [, file] of this.#root.files("")) file.healReads();
  }

  /** A copy of everything, as it would be read, under a new seed. */
  clone(seed: number): SimDisk {
    const copy = new SimDisk({ ...this.#options, seed });
    this.#root.copyInto(copy.#root);
    return copy;
  }

  /** For the open files of this disk: starts an operation of theirs. */
  async beginFile(operation: SimOperation | null, path: string, boot: number): Promise<void> {
    if (boot !== this.#boot) throw ioError(path, "its process is gone (simulated)");
    await this.#takes(operation);
    if (boot !== this.#boot) throw ioError(path, "its process is gone (simulated)");
    this.#start(operation, path);
  }

  /** For the open files of this disk: throws when power went off during the operation. */
  endFile(): void {
    this.#checkAlive();
  }

  /** For the open files of this disk: throws NO_SPACE when `more` bytes are too many. */
  checkSpace(path: string, more: number): void {
    if (more <= 0 || this.#quotaBytes === Number.POSITIVE_INFINITY) return;
    if (this.#root.usedBytes() + more > this.#quotaBytes) {
      throw new DiskError("NO_SPACE", path, `${path}: no space (simulated)`, { fatal: false });
    }
  }

  /** For the open files of this disk: see {@link AstrayWrite}. */
  landing(path: string, position: number): number | null | undefined {
    return this.#astray?.(path, position);
  }

  /** For the open files of this disk: whether the sync of `path` is to fail. */
  syncFails(path: string): boolean {
    return this.#failSync(path);
  }

  #newBoot(): void {
    this.#boot += 1;
    this.#down = false;
    this.#crashAt = Number.POSITIVE_INFINITY;
    this.#locks = new Set();
  }

  async #begin(operation: SimOperation | null, path: string): Promise<void> {
    await this.#takes(operation);
    this.#start(operation, path);
  }

  #takes(operation: SimOperation | null): Promise<void> | undefined {
    const { latency } = this.#options;
    if (latency === undefined || operation === null) return undefined;
    return latency.clock.sleep(latency.ms(operation), new AbortController().signal);
  }

  #start(operation: SimOperation | null, path: string): void {
    if (this.#down) throw ioError(path, "power is off (simulated)");
    if (operation === null) return;
    this.onOperation(operation);
    this.operations += 1;
    if (this.operations >= this.#crashAt) this.#down = true;
  }

  #checkAlive(): void {
    if (this.#down) throw ioError("/", "power went off (simulated)");
  }

  #walk(parts: readonly string[]): SimDirectory | undefined {
    let node: SimDirectory | SimFile | undefined = this.#root;
    for (const name of parts) {
      node = node instanceof SimDirectory ? node.get(name) : undefined;
    }
    return node instanceof SimDirectory ? node : undefined;
  }

  #find(path: string): SimDirectory | SimFile | undefined {
    const parts = partsOf(path);
    const name = parts.pop();
    return name === undefined ? this.#root : this.#walk(parts)?.get(name);
  }

  #locate(path: string): { readonly directory: SimDirectory; readonly name: string } {
    const parts = partsOf(path);
    const name = parts.pop();
    const directory = this.#walk(parts);
    if (name === undefined || directory === undefined) throw notFound(path);
    return { directory, name };
  }
}

class OpenFile implements DiskFile {
  readonly #disk: SimDisk;
  readonly #path: string;
  readonly #file: SimFile;
  readonly #boot: number;
  #open = true;

  constructor(disk: SimDisk, path: string, file: SimFile, boot: number) {
    this.#disk = disk;
    this.#path = path;
    this.#file = file;
    this.#boot = boot;
  }

  async read(into: Uint8Array, position: number): Promise<number> {
    await this.#begin(null);
    if (!this.#file.isReadable(position, into.byteLength)) throw ioError(this.#path, UNREADABLE);
    return this.#file.read(into, position);
  }

  async write(parts: readonly Uint8Array[], position: number): Promise<void> {
    await this.#begin("write");
    const bytes = Buffer.concat(parts);
    this.#disk.checkSpace(this.#path, position + bytes.byteLength - this.#file.usedBytes());
    const lands = this.#disk.landing(this.#path, position);
    if (lands === undefined) this.#file.write(bytes, position);
    else this.#file.writeAstray(bytes, position, lands);
    this.#disk.endFile();
  }

  async sync(): Promise<void> {
    await this.#begin("sync");
    if (this.#disk.syncFails(this.#path)) {
      this.#file.loseUnsynced();
      throw new DiskError("IO", this.#path, `${this.#path}: sync failed (simulated)`, {
        fatal: true,
      });
    }
    this.#disk.endFile();
    this.#file.sync();
  }

  async truncate(bytes: number): Promise<void> {
    await this.#begin("truncate");
    this.#disk.checkSpace(this.#path, bytes - this.#file.usedBytes());
    this.#file.truncate(bytes);
    this.#disk.endFile();
  }

  async size(): Promise<number> {
    await this.#begin(null);
    return this.#file.usedBytes();
  }

  async close(): Promise<void> {
    this.#open = false;
  }

  #begin(name: SimOperation["name"] | null): Promise<void> {
    if (!this.#open) throw ioError(this.#path, "is closed");
    const operation = name === null ? null : { name, path: this.#path };
    return this.#disk.beginFile(operation, this.#path, this.#boot);
  }
}

function partsOf(path: string): string[] {
  if (!path.startsWith("/")) throw ioError(path, "is not absolute");
  return path.split("/").filter((part) => part !== "");
}

function notFound(path: string): DiskError {
  return new DiskError("NOT_FOUND", path, `${path}: not found (simulated)`, { fatal: false });
}

function ioError(path: string, problem: string): DiskError {
  return new DiskError("IO", path, `${path}: ${problem}`, { fatal: false });
}
