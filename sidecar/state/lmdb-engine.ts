import { open, type RootDatabase, type Transaction } from "lmdb";
import { DiskError, type Disk } from "../lib/ports/disk.ts";
import type {
  Engine,
  EngineBatch,
  EngineFactory,
  EnginePin,
  SnapshotLayout,
  SnapshotWriter,
} from "./engine.ts";
import { inspectFile, LmdbPages, PinReleased } from "./lmdb-pages.ts";
import { PageWriter } from "./page-writer.ts";
import { StateCorrupt } from "./record.ts";
import { frameRecords, RecordWriter } from "./record-snapshot.ts";

/** Set when an engine is made; part of what PAGES are tied to. */
const PAGE_BYTES = 16 * 1024;
/** Address space, not memory or disk: LMDB's file can grow to this. */
const MAP_BYTES = 2 ** 40;
/** Concurrent read views of a shard; a view is one transaction. */
const READERS_MAX = 1022;
const FILE_NAME = "data.mdb";
/**
 * lmdb-js's own build of LMDB, by its package version: another build may lay out pages differently.
 */
const ENGINE_VERSION = "3.5.6";
/** LMDB writes numbers as the processor does. */
const LITTLE_ENDIAN = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1;
const FORMAT_DETAIL = `lmdb-js ${ENGINE_VERSION} pages=${PAGE_BYTES} ${LITTLE_ENDIAN ? "le" : "be"}`;
const ENOSPC = 28;
/** LMDB's own error codes: key exists (-30799) to bad checksum and the like. */
const LMDB_ERRORS_FROM = -30_799;
const LMDB_ERRORS_TO = -30_770;
/** Branch pages, the free list and rounding. */
const SPARE_PAGES = 64;

type Database = RootDatabase<Buffer, Buffer>;

/** Opens LMDB with nothing of lmdb-js that trades safety for speed (see checkpoint.ts). */
function openDatabase(path: string): Database {
  return open<Buffer, Buffer>({
    path,
    noSubdir: true,
    pageSize: PAGE_BYTES,
    mapSize: MAP_BYTES,
    maxReaders: READERS_MAX,
    maxDbs: 1,
    keyEncoding: "binary",
    encoding: "binary",
    compression: false,
    cache: false,
    overlappingSync: false,
    eventTurnBatching: false,
  });
}

/**
 * Fatal always: it may be a failed sync, after which nothing in the page cache can be trusted
 * (R14), and LMDB reports a full disk as an I/O error too. Fullness is therefore asked about before
 * a write.
 */
function fatalError(path: string, error: unknown): DiskError {
  const message = error instanceof Error ? error.message : String(error);
  const full = (error as { code?: unknown } | null)?.code === ENOSPC;
  return new DiskError(full ? "NO_SPACE" : "IO", path, `engine: ${message}`, {
    fatal: true,
    cause: error,
  });
}

/** Runs a read. LMDB's own errors (not the system's) say that the file is not what was written. */
function reading<T>(path: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    const code = (error as { code?: unknown } | null)?.code;
    if (typeof code !== "number" || code > LMDB_ERRORS_TO || code < LMDB_ERRORS_FROM) {
      throw fatalError(path, error);
    }
    const message = error instanceof Error ? error.message : String(error);
    throw new StateCorrupt(`${path}: ${message}`, { cause: error });
  }
}

/** lmdb-js rejects the writes first and says why in a second promise, which nobody else awaits. */
async function commitFailure(error: unknown): Promise<unknown> {
  const { commitError } = error as { commitError?: Promise<never> };
  return commitError === undefined ? error : commitError.catch((cause: unknown) => cause);
}

/**
 * What a transaction may need at most: a new page for each key, its bytes, and the way to the root.
 */
function roomFor(batch: EngineBatch): number {
  let bytes = (batch.puts.length + batch.deletes.length + SPARE_PAGES) * PAGE_BYTES;
  for (const [, value] of batch.puts) bytes += value.byteLength;
  return bytes;
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** The LMDB engine. `disk` reads and writes the file for page snapshots. */
export function lmdbEngineFactory(disk: Disk): EngineFactory {
  return {
    formatDetail: FORMAT_DETAIL,
    acceptPages: (formatDetail) => formatDetail === FORMAT_DETAIL,
    async open(dir) {
      await disk.makeDir(dir);
      const path = `${dir}/${FILE_NAME}`;
      await inspectFile(disk, path, PAGE_BYTES);
      const existed = await disk.exists(path);
      const database = reading(path, () => openDatabase(path));
      if (!existed) await disk.syncDir(dir);
      return new LmdbEngine(disk, dir, database);
    },
    async writer(dir, layout): Promise<SnapshotWriter> {
      await disk.makeDir(dir);
      if (layout === "PAGES") return PageWriter.create(disk, dir, FILE_NAME);
      return new RecordWriter(await this.open(dir));
    },
    async resumedWriter(dir, layout, keptBytes): Promise<SnapshotWriter | null> {
      // How far records got in an engine cannot be told by the bytes of their stream.
      return layout === "PAGES" ? PageWriter.resume(disk, dir, FILE_NAME, keptBytes) : null;
    },
  };
}

class LmdbEngine implements Engine {
  readonly #disk: Disk;
  readonly #dir: string;
  readonly #path: string;
  readonly #database: Database;
  readonly #pins = new Set<EnginePin>();

  constructor(disk: Disk, dir: string, database: Database) {
    this.#disk = disk;
    this.#dir = dir;
    this.#path = `${dir}/${FILE_NAME}`;
    this.#database = database;
  }

  get(key: Uint8Array): Uint8Array | undefined {
    return reading(this.#path, () => this.#database.getBinary(asBuffer(key)));
  }

  range(
    start: Uint8Array | null,
    end: Uint8Array | null,
    reverse: boolean,
  ): IterableIterator<[Uint8Array, Uint8Array]> {
    const transaction = this.#database.useReadTransaction();
    const pairs = rangeOf(this.#database, transaction, start, end, reverse);
    const path = this.#path;
    return {
      next: () => reading(path, () => pairs.next()),
      return: () => pairs.return?.() ?? { done: true, value: undefined },
      [Symbol.iterator]() {
        return this;
      },
    };
  }

  async write(batch: EngineBatch): Promise<void> {
    await this.#refuseWhenFull(roomFor(batch));
    const database = this.#database;
    const pending: Promise<boolean>[] = [];
    try {
      await database.batch(() => {
        for (const [key, value] of batch.puts) {
          pending.push(database.put(asBuffer(key), asBuffer(value)));
        }
        for (const key of batch.deletes) pending.push(database.remove(asBuffer(key)));
      });
      await Promise.all(pending);
    } catch (error) {
      await Promise.allSettled(pending);
      throw fatalError(this.#path, await commitFailure(error));
    }
    database.resetReadTxn();
  }

  /** The same write may succeed later, so this is not fatal. */
  async #refuseWhenFull(needed: number): Promise<void> {
    const free = await this.#disk.freeBytes(this.#dir);
    if (free >= needed) return;
    const message = `the engine needs ${needed} bytes free for its next write; ${free} are`;
    throw new DiskError("NO_SPACE", this.#dir, message, { fatal: false });
  }

  async flushed(): Promise<void> {
    // Without overlappingSync a commit is two syncs, data first, and resolves after both.
  }

  async pin(): Promise<EnginePin> {
    this.#database.resetReadTxn();
    const transaction = this.#database.useReadTransaction();
    try {
      const pages = await LmdbPages.open(this.#disk, this.#path, this.#database.getStats());
      return this.#pinOf(transaction, pages);
    } catch (error) {
      transaction.done();
      throw error;
    }
  }

  #pinOf(transaction: Transaction, pages: LmdbPages | null): EnginePin {
    const format: SnapshotLayout = pages === null ? "RECORDS" : "PAGES";
    const scans = new Set<IterableIterator<[Uint8Array, Uint8Array]>>();
    const pin: EnginePin = {
      format,
      formatDetail: FORMAT_DETAIL,
      bytes: pages?.bytes ?? this.bytes(),
      pages: (chunkBytes) => {
        if (pages === null) throw new Error("this engine build cannot ship pages; take records");
        return pages.chunks(chunkBytes);
      },
      records: (chunkBytes) => {
        if (!this.#pins.has(pin)) throw new PinReleased();
        const pairs = rangeOf(this.#database, transaction, null, null, false, false);
        scans.add(pairs);
        return frameRecords(this.#guarded(pin, pairs), chunkBytes);
      },
      release: async () => {
        if (!this.#pins.delete(pin)) return;
        for (const scan of scans) scan.return?.();
        transaction.done();
        await pages?.close();
      },
    };
    this.#pins.add(pin);
    return pin;
  }

  /** Ends with an error, not early, when the pin is released under a reader. */
  #guarded(
    pin: EnginePin,
    pairs: IterableIterator<[Uint8Array, Uint8Array]>,
  ): IterableIterator<[Uint8Array, Uint8Array]> {
    return {
      next: () => {
        if (!this.#pins.has(pin)) throw new PinReleased();
        return reading(this.#path, () => pairs.next());
      },
      return: () => pairs.return?.() ?? { done: true, value: undefined },
      [Symbol.iterator]() {
        return this;
      },
    };
  }

  bytes(): number {
    const { lastPageNumber, pageSize } = this.#database.getStats() as DatabaseStats;
    return (lastPageNumber + 1) * pageSize;
  }

  async close(): Promise<void> {
    // LMDB must not be unmapped under a reader.
    for (const pin of [...this.#pins]) await pin.release();
    await this.#database.close();
  }
}

/** The part of lmdb-js's untyped statistics in use. */
interface DatabaseStats {
  readonly lastPageNumber: number;
  readonly pageSize: number;
}

/** Iterates one transaction; ends it too unless it is someone else's. */
function rangeOf(
  database: Database,
  transaction: Transaction,
  start: Uint8Array | null,
  end: Uint8Array | null,
  reverse: boolean,
  owned = true,
): IterableIterator<[Uint8Array, Uint8Array]> {
  // Reversed, LMDB starts at or below the upper bound, and its lower bound would be excluded: check
  // both here.
  const lower = start === null ? undefined : asBuffer(start);
  const upper = end === null ? undefined : asBuffer(end);
  const bounds = reverse ? { start: upper, reverse: true } : { start: lower, end: upper };
  const given = Object.entries(bounds).filter(([, value]) => value !== undefined);
  const options = { ...Object.fromEntries(given), transaction };
  const pairs = database.getRange(options)[Symbol.iterator]();
  let open = true;
  const finish = (): IteratorReturnResult<undefined> => {
    if (open) {
      open = false;
      pairs.return?.();
      if (owned) transaction.done();
    }
    return { done: true, value: undefined };
  };
  const next = (): IteratorResult<[Uint8Array, Uint8Array]> => {
    while (open) {
      const { done, value } = pairs.next();
      if (done === true) break;
      if (reverse && upper !== undefined && value.key.compare(upper) >= 0) continue;
      if (reverse && lower !== undefined && value.key.compare(lower) < 0) break;
      return { done: false, value: [value.key, value.value] };
    }
    return finish();
  };
  return {
    next,
    return: finish,
    [Symbol.iterator]() {
      return this;
    },
  };
}
