/**
 * The disk, at the level where durability is decided: the simulator fakes this, so that WAL
 * recovery and snapshot install run their real code over torn and lost writes. Paths are absolute.
 * Every method rejects with a {@link DiskError}.
 */
export interface Disk {
  /**
   * Opens an existing file, or makes it when `create` is set. The new name is durable only after
   * `syncDir`. `uncached`: what is written in whole pages, from memory that `pageAlignedBuffer`
   * gave, goes past the page cache where the file system can do that; all else is the same.
   */
  open(
    path: string,
    options: { readonly create: boolean; readonly uncached?: boolean },
  ): Promise<DiskFile>;
  /** Whole contents of a small file; null when it does not exist. */
  readFile(path: string): Promise<Uint8Array | null>;
  /** Makes the directory and its parents. */
  makeDir(path: string): Promise<void>;
  /** Names in a directory, sorted; empty when there is none at this path. */
  list(path: string): Promise<readonly string[]>;
  exists(path: string): Promise<boolean>;
  /**
   * Atomically gives `from` the name `to`, replacing a file there. Durable only after `syncDir` of
   * both parents.
   */
  rename(from: string, to: string): Promise<void>;
  /** Removes a file or a whole directory; fine when it does not exist. */
  remove(path: string): Promise<void>;
  /** Makes creations, renames and removals in this directory durable. */
  syncDir(path: string): Promise<void>;
  /** Bytes free to this process on the file system that holds `path`. */
  freeBytes(path: string): Promise<number>;
  /** Bytes of all files below `path`. */
  usedBytes(path: string): Promise<number>;
  /**
   * Holds `path` (a file, made when absent) against other processes until released; dies with the
   * process. Null when another process holds it.
   */
  lock(path: string): Promise<DiskLock | null>;
}

/** An open file. Reads and writes name their position; there is no cursor. */
export interface DiskFile {
  /**
   * Reads up to `length` bytes into `into` from `position`; returns how many (fewer only at the
   * end).
   */
  read(into: Uint8Array, position: number): Promise<number>;
  /** Writes all parts one after the other from `position` on. */
  write(parts: readonly Uint8Array[], position: number): Promise<void>;
  /**
   * Makes written data (and the size) durable: fdatasync. A failure is final: see DiskError.fatal.
   */
  sync(): Promise<void>;
  /** Cuts or extends with zeros. */
  truncate(bytes: number): Promise<void>;
  size(): Promise<number>;
  close(): Promise<void>;
}

/** See {@link Disk.lock}. */
export interface DiskLock {
  release(): Promise<void>;
}

/**
 * A failed disk operation. `fatal` after a failed sync: the pages may be lost, the process must end
 * (R14).
 */
export class DiskError extends Error {
  override readonly name = "DiskError";
  readonly code: "NO_SPACE" | "IO" | "DENIED" | "NOT_FOUND";
  readonly path: string;
  readonly fatal: boolean;
  constructor(
    code: DiskError["code"],
    path: string,
    message: string,
    options: { readonly fatal: boolean; readonly cause?: unknown },
  ) {
    super(message, { cause: options.cause });
    this.code = code;
    this.path = path;
    this.fatal = options.fatal;
  }
}

/** The same failure where it cannot be undone or tried again: the process must end (R14). */
export function madeFatal(error: DiskError): DiskError {
  const { code, path, message } = error;
  return error.fatal ? error : new DiskError(code, path, message, { fatal: true, cause: error });
}

/** True for a {@link DiskError} after which the process must end (R14). */
export function isFatal(error: unknown): error is DiskError {
  return error instanceof DiskError && error.fatal;
}
