import {
  type Disk,
  DiskError,
  type DiskFile,
  type DiskLock,
} from "../../sidecar/lib/ports/disk.ts";

/**
 * What of the work not yet synced is there after a crash: none of it; all of it, durably; the names
 * without the contents (a journaling file system that had written its metadata first); in each
 * directory only the latest change of names, without contents (a file system that writes names in
 * any order); or all of it and still not durable (the process was killed, the machine went on).
 */
export type Survival = (typeof SURVIVALS)[number];
export const SURVIVALS = ["nothing", "everything", "names", "latest", "process"] as const;

/** Every operation of a disk that has crashed, and the one it crashed at. */
class CrashError extends Error {
  override readonly name = "CrashError";
}

class FileNode {
  data = new Uint8Array(0);
  durable = new Uint8Array(0);
}

class DirNode {
  entries = new Map<string, Node>();
  durable = new Map<string, Node>();
  /** The last change since the directory was synced: names and what they became. */
  latest: readonly (readonly [string, Node | null])[] = [];

  change(changes: readonly (readonly [string, Node | null])[]): void {
    apply(this.entries, changes);
    this.latest = changes;
  }
}

type Node = FileNode | DirNode;

/**
 * A disk in memory that knows what is durable: file contents after `sync`, names after `syncDir`.
 * Counts its changing operations, so that a test runs once for each of them as the one the power
 * fails at.
 */
export class CrashDisk implements Disk {
  /** Changing operations so far. */
  operations = 0;
  /** Their names, for messages of failed tests. */
  readonly log: string[] = [];
  /** The operation that does not happen any more; 0: none. */
  crashAt = 0;
  /** Fails the operation whose log line this matches. */
  failOn: { readonly match: RegExp; readonly error: DiskError } | null = null;
  free = 1e12;
  #crashed = false;
  #root = new DirNode();
  readonly #locks = new Set<string>();

  /** The disk as the next process finds it after the power failed. */
  reboot(survival: Survival): void {
    this.#crashed = false;
    this.crashAt = 0;
    this.failOn = null;
    this.operations = 0;
    this.log.length = 0;
    this.#locks.clear();
    settle(this.#root, survival);
  }

  async open(path: string, options: { readonly create: boolean }): Promise<DiskFile> {
    let node = this.#find(path);
    if (node === null) {
      if (!options.create) throw notFound(path);
      this.#step(`create ${path}`);
      node = new FileNode();
      this.#parent(path).change([[nameOf(path), node]]);
    }
    if (!(node instanceof FileNode))
      throw new DiskError("IO", path, "is a directory", { fatal: false });
    return new CrashFile(path, node, (what) => this.#step(what));
  }

  async readFile(path: string): Promise<Uint8Array | null> {
    this.#alive();
    const node = this.#find(path);
    return node instanceof FileNode ? node.data.slice() : null;
  }

  async makeDir(path: string): Promise<void> {
    let at = this.#root;
    for (const name of path.split("/").filter((part) => part !== "")) {
      let next = at.entries.get(name);
      if (next === undefined) {
        this.#step(`makeDir ${path}`);
        next = new DirNode();
        at.change([[name, next]]);
      }
      if (!(next instanceof DirNode))
        throw new DiskError("IO", path, "not a directory", { fatal: false });
      at = next;
    }
  }

  async list(path: string): Promise<readonly string[]> {
    this.#alive();
    const node = this.#find(path);
    return node instanceof DirNode ? [...node.entries.keys()].sort() : [];
  }

  async exists(path: string): Promise<boolean> {
    this.#alive();
    return this.#find(path) !== null;
  }

  async rename(from: string, to: string): Promise<void> {
    const node = this.#find(from);
    if (node === null) throw notFound(from);
    const there = this.#find(to);
    if (there instanceof DirNode && there.entries.size > 0) {
      throw new DiskError("IO", to, "directory not empty", { fatal: false });
    }
    this.#step(`rename ${from} ${to}`);
    const [source, target] = [this.#parent(from), this.#parent(to)];
    const gone = [nameOf(from), null] as const;
    const come = [nameOf(to), node] as const;
    if (source === target) return source.change([gone, come]);
    source.change([gone]);
    target.change([come]);
  }

  async remove(path: string): Promise<void> {
    if (this.#find(path) === null) return;
    this.#step(`remove ${path}`);
    this.#parent(path).change([[nameOf(path), null]]);
  }

  async syncDir(path: string): Promise<void> {
    this.#step(`syncDir ${path}`);
    const node = this.#find(path);
    if (!(node instanceof DirNode)) throw notFound(path);
    node.durable = new Map(node.entries);
    node.latest = [];
  }

  async freeBytes(): Promise<number> {
    this.#alive();
    return this.free;
  }

  async usedBytes(path: string): Promise<number> {
    this.#alive();
    const node = this.#find(path);
    return node === null ? 0 : bytesOf(node);
  }

  async lock(path: string): Promise<DiskLock | null> {
    await this.open(path, { create: true });
    if (this.#locks.has(path)) return null;
    this.#locks.add(path);
    return {
      release: async () => {
        this.#locks.delete(path);
      },
    };
  }

  #step(what: string): void {
    this.#alive();
    this.operations++;
    this.log.push(what);
    if (this.operations === this.crashAt) {
      this.#crashed = true;
      throw new CrashError(`crash at operation ${this.operations}: ${what}`);
    }
    if (this.failOn?.match.test(what) === true) throw this.failOn.error;
  }

  #alive(): void {
    if (this.#crashed) throw new CrashError("the disk has crashed");
  }

  #find(path: string): Node | null {
    this.#alive();
    let at: Node | undefined = this.#root;
    for (const name of path.split("/").filter((part) => part !== "")) {
      if (!(at instanceof DirNode)) return null;
      at = at.entries.get(name);
    }
    return at ?? null;
  }

  #parent(path: string): DirNode {
    const node = this.#find(path.slice(0, path.lastIndexOf("/")));
    if (node instanceof DirNode) return node;
    throw notFound(path);
  }
}

class CrashFile implements DiskFile {
  readonly #path: string;
  readonly #node: FileNode;
  readonly #step: (what: string) => void;

  constructor(path: string, node: FileNode, step: (what: string) => void) {
    this.#path = path;
    this.#node = node;
    this.#step = step;
  }

  async read(into: Uint8Array, position: number): Promise<number> {
    const part = this.#node.data.subarray(position, position + into.length);
    into.set(part);
    return part.length;
  }

  async write(parts: readonly Uint8Array[], position: number): Promise<void> {
    this.#step(`write ${this.#path}`);
    let at = position;
    for (const part of parts) {
      this.#node.data = resized(
        this.#node.data,
        Math.max(this.#node.data.length, at + part.length),
      );
      this.#node.data.set(part, at);
      at += part.length;
    }
  }

  async sync(): Promise<void> {
    this.#step(`sync ${this.#path}`);
    this.#node.durable = this.#node.data.slice();
  }

  async truncate(bytes: number): Promise<void> {
    this.#step(`truncate ${this.#path}`);
    this.#node.data = resized(this.#node.data, bytes);
  }

  async size(): Promise<number> {
    return this.#node.data.length;
  }

  async close(): Promise<void> {}
}

function settle(node: Node, survival: Survival): void {
  if (survival === "process") return;
  if (node instanceof FileNode) {
    if (survival !== "everything") node.data = node.durable.slice();
    else node.durable = node.data.slice();
    return;
  }
  if (survival === "latest") apply(node.durable, node.latest);
  if (survival === "nothing" || survival === "latest") node.entries = new Map(node.durable);
  else node.durable = new Map(node.entries);
  node.latest = [];
  for (const child of node.entries.values()) settle(child, survival);
}

function apply(
  entries: Map<string, Node>,
  changes: readonly (readonly [string, Node | null])[],
): void {
  for (const [name, node] of changes) {
    if (node === null) entries.delete(name);
    else entries.set(name, node);
  }
}

function bytesOf(node: Node): number {
  if (node instanceof FileNode) return node.data.length;
  return [...node.entries.values()].reduce((sum, child) => sum + bytesOf(child), 0);
}

function resized(data: Uint8Array, bytes: number): Uint8Array<ArrayBuffer> {
  const next = new Uint8Array(bytes);
  next.set(data.subarray(0, bytes));
  return next;
}

function nameOf(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}

function notFound(path: string): DiskError {
  return new DiskError("NOT_FOUND", path, `${path} is not there`, { fatal: false });
}

/**
 * Runs `work` on the disk `prepare` makes, once to the end and then once for each changing
 * operation as the one the power fails at, times each survival. After each crash `check` looks at
 * the rebooted disk.
 */
export async function crashEverywhere(
  prepare: () => Promise<CrashDisk>,
  work: (disk: CrashDisk) => Promise<unknown>,
  check: (disk: CrashDisk, point: string) => Promise<void>,
): Promise<number> {
  const whole = await prepare();
  whole.operations = 0;
  await work(whole);
  const count = whole.operations;
  for (let crashAt = 1; crashAt <= count + 1; crashAt++) {
    for (const survival of SURVIVALS) {
      const disk = await prepare();
      disk.operations = 0;
      disk.log.length = 0;
      disk.crashAt = crashAt;
      let crash: unknown = null;
      await work(disk).catch((error: unknown) => {
        crash = error;
      });
      if (crash !== null && !(crash instanceof CrashError)) throw crash;
      const point = `crash at ${crashAt} of ${count} (${disk.log.at(-1)}), ${survival} survives`;
      disk.reboot(survival);
      try {
        await check(disk, point);
      } catch (error) {
        (error as Error).message += ` [${point}]`;
        throw error;
      }
    }
  }
  return count;
}
