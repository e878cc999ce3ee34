/**
 * Records in one JSON file: written aside, fsynced, renamed over the old one, the directory
 * fsynced. A lock that dies with its process keeps a second coordinator out. Changes that wait
 * while one is being written share the next write.
 */
import { open, mkdir, type FileHandle } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname } from "node:path";
import { z } from "zod";
import { RecordConflict, type RecordStore, type StoredRecord } from "../controller/ports.ts";
import {
  parseRecord,
  RecordInvalid,
  shardKeyText,
  type ShardKey,
  type ShardRecord,
} from "../core/record.ts";
import { type RecordDisk, systemRecordDisk } from "./record-disk.ts";

/**
 * The package has no types. The lock belongs to the descriptor: it ends with the process, however
 * that ends.
 */
const { tryLock } = createRequire(import.meta.url)("fs-native-extensions") as {
  readonly tryLock: (fd: number) => boolean;
};

const fileSchema = z.strictObject({
  format: z.literal(1),
  /** Raised by each write; a record's version is its value when that record was last written. */
  revision: z.int().min(0),
  shards: z.record(z.string(), z.strictObject({ version: z.string(), record: z.unknown() })),
});
type RecordFile = z.infer<typeof fileSchema>;

/** Another process has the records open. */
export class RecordsLocked extends Error {
  override readonly name = "RecordsLocked";
}

interface Change {
  /** Alters the contents, or throws RecordConflict and alters nothing. */
  readonly apply: (file: RecordFile) => StoredRecord;
  readonly resolve: (stored: StoredRecord) => void;
  readonly reject: (error: unknown) => void;
}

/** The local {@link RecordStore}. */
export class FileRecordStore implements RecordStore {
  readonly #path: string;
  readonly #lock: FileHandle;
  readonly #disk: RecordDisk;
  #waiting: Change[] = [];
  #writing: Promise<void> | null = null;
  #closed = false;

  private constructor(path: string, lock: FileHandle, disk: RecordDisk) {
    this.#path = path;
    this.#lock = lock;
    this.#disk = disk;
  }

  /**
   * Opens the records in the file `path`, which need not exist. Throws RecordsLocked when another
   * process has them; the lock is the file `<path>.lock`, on the real disk whatever `disk` is.
   */
  static async open(path: string, disk = systemRecordDisk): Promise<FileRecordStore> {
    await mkdir(dirname(path), { recursive: true });
    const lock = await open(`${path}.lock`, "a");
    if (!tryLock(lock.fd)) {
      await lock.close();
      throw new RecordsLocked(
        `${path}: another coordinator is running here (it holds ${path}.lock)`,
      );
    }
    return new FileRecordStore(path, lock, disk);
  }

  async read(key: ShardKey, signal: AbortSignal): Promise<StoredRecord | null> {
    signal.throwIfAborted();
    const entry = (await this.#load()).shards[shardKeyText(key)];
    if (entry === undefined) return null;
    const record = parseRecord(entry.record);
    if (shardKeyText(record) !== shardKeyText(key)) {
      throw new RecordInvalid(
        "shard",
        `record: shard: ${shardKeyText(record)} is filed under ${shardKeyText(key)} in ${this.#path}`,
      );
    }
    return { record, version: entry.version };
  }

  create(record: ShardRecord, signal: AbortSignal): Promise<StoredRecord> {
    return this.#change(record, null, signal);
  }

  replace(record: ShardRecord, version: string, signal: AbortSignal): Promise<StoredRecord> {
    return this.#change(record, version, signal);
  }

  /** Finishes what is being written and lets go of the lock. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#writing;
    await this.#lock.close();
  }

  #change(
    record: ShardRecord,
    expected: string | null,
    signal: AbortSignal,
  ): Promise<StoredRecord> {
    return new Promise<StoredRecord>((resolve, reject) => {
      signal.throwIfAborted();
      if (this.#closed) throw new Error(`${this.#path}: the record store is closed`);
      // What could not be read back must never be written.
      parseRecord(record);
      const apply = (file: RecordFile): StoredRecord => {
        const key = shardKeyText(record);
        const found = file.shards[key]?.version ?? null;
        if (found !== expected) {
          throw new RecordConflict(
            `record of ${key}: expected version ${expected ?? "none"}, found ${found ?? "none"}`,
          );
        }
        const stored = { version: String(file.revision), record };
        file.shards[key] = stored;
        return stored;
      };
      this.#waiting.push({ apply, resolve, reject });
      this.#writing ??= this.#writeAll().finally(() => {
        this.#writing = null;
      });
    });
  }

  async #writeAll(): Promise<void> {
    while (this.#waiting.length > 0) {
      const batch = this.#waiting;
      this.#waiting = [];
      await this.#writeBatch(batch);
    }
  }

  async #writeBatch(batch: readonly Change[]): Promise<void> {
    const done: (() => void)[] = [];
    try {
      const file = await this.#load();
      file.revision += 1;
      for (const change of batch) {
        try {
          const stored = change.apply(file);
          done.push(() => {
            change.resolve(stored);
          });
        } catch (error) {
          change.reject(error);
        }
      }
      if (done.length > 0) await this.#store(file);
      for (const resolve of done) resolve();
    } catch (error) {
      // May or may not have reached the disk: whoever asked reads again (R18).
      for (const change of batch) change.reject(error);
    }
  }

  /** Reads the file each time: a person may have put a copy back. */
  async #load(): Promise<RecordFile> {
    const bytes = await this.#disk.readFile(this.#path);
    if (bytes === null) return { format: 1, revision: 0, shards: {} };
    return parseFile(this.#path, Buffer.from(bytes).toString("utf8"));
  }

  async #store(file: RecordFile): Promise<void> {
    const aside = `${this.#path}.new`;
    const handle = await this.#disk.open(aside, { create: true });
    try {
      // What a crash left aside goes first.
      await handle.truncate(0);
      await handle.write([Buffer.from(JSON.stringify(file, null, 1))], 0);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await this.#disk.rename(aside, this.#path);
    await this.#disk.syncDir(dirname(this.#path));
  }
}

function parseFile(path: string, text: string): RecordFile {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new RecordInvalid("(file)", `${path}: not JSON: ${String(error)}. Restore a copy of it`);
  }
  const parsed = fileSchema.safeParse(json);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  const field = issue === undefined || issue.path.length === 0 ? "(file)" : issue.path.join(".");
  throw new RecordInvalid(field, `${path}: ${field}: ${issue?.message ?? "not a record file"}`);
}
