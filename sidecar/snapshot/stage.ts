import { type Disk, isFatal } from "../lib/ports/disk.ts";
import type { SnapshotChunk } from "../protocol/gen/resilver.ts";
import { type Manifest, refusal } from "./manifest.ts";
import {
  type StageProgress,
  hexOf,
  removeProgress,
  stagePath,
  writeProgress,
} from "./stage-files.ts";
import { WholeHash, chunkHash, sameHash } from "./whole-hash.ts";

/** Writes a snapshot's content into a staging directory in the engine's own form. */
export interface SnapshotWriter {
  /** Takes the next bytes of content; done with them when it resolves. May run beside a `sync`. */
  append(content: Uint8Array): Promise<void>;
  /** Makes durable everything appended before the call. */
  sync(): Promise<void>;
  /**
   * All content is there: completes and closes the files, durably. Rejects when they make no whole
   * state.
   */
  finish(): Promise<void>;
  /** Closes without finishing; the files stay. Never called after a `finish` that resolved. */
  abort(): Promise<void>;
}

/** What the state engine can take. */
export interface SnapshotWriters {
  /** True when content of this form can be written here. RECORDS of a known detail always can. */
  accepts(manifest: Manifest): boolean;
  /**
   * Opens a writer in `dir`. `resumeBytes` 0: an empty directory. Above: the directory of a process
   * that ended, whose first `resumeBytes` of content are durable, and more may be there; null when
   * the engine cannot go on from there, and the transfer starts over.
   */
  open(dir: string, manifest: Manifest, resumeBytes: number): Promise<SnapshotWriter | null>;
}

/**
 * One snapshot being received: what of it is verified, in memory, durably, and with its writer.
 * Outlives a broken stream. Accepts exactly the next chunk, unaltered, or refuses and stays as it
 * was.
 */
export class Stage {
  readonly manifest: Manifest;
  /** Absolute path of the staging directory. */
  readonly dir: string;
  readonly #disk: Disk;
  readonly #stateDir: string;
  readonly #uid: string;
  readonly #writer: SnapshotWriter;
  readonly #syncBytes: number;
  readonly #hash: WholeHash;
  #chunks: number;
  #bytes: number;
  #syncedBytes: number;
  #complete = false;
  #finished = false;
  #syncing: Promise<void> | null = null;
  #syncError: Error | null = null;

  constructor(options: {
    readonly disk: Disk;
    readonly stateDir: string;
    readonly uid: string;
    readonly manifest: Manifest;
    readonly writer: SnapshotWriter;
    /** What an earlier process proved; null to start. */
    readonly progress: StageProgress | null;
    /** Bytes between two durable progress records. */
    readonly syncBytes: number;
  }) {
    this.#disk = options.disk;
    this.#stateDir = options.stateDir;
    this.#uid = options.uid;
    this.manifest = options.manifest;
    this.dir = stagePath(options.stateDir, options.manifest.snapshotId);
    this.#writer = options.writer;
    this.#syncBytes = options.syncBytes;
    this.#hash = new WholeHash(options.progress?.hash);
    this.#chunks = options.progress?.chunks ?? 0;
    this.#bytes = options.progress?.bytes ?? 0;
    this.#syncedBytes = this.#bytes;
  }

  /** Chunks verified, and so the index of the next one. */
  get chunks(): number {
    return this.#chunks;
  }

  /** Content bytes verified. */
  get bytes(): number {
    return this.#bytes;
  }

  /** True when every chunk is there and the whole hash is right. */
  get complete(): boolean {
    return this.#complete;
  }

  /**
   * Verifies and appends one chunk; true when a progress record became due. Throws
   * INVALID_ARGUMENT, and nothing changed, when it is not the next chunk of this snapshot, whole
   * and unaltered; WholeHashError when the last one shows that something before it is wrong; the
   * writer's error.
   */
  async take(message: SnapshotChunk): Promise<boolean> {
    const last = message.wholeHash.length > 0;
    // A sender that resumes past the last chunk sends the hash alone.
    const onlyHash = last && message.content.length === 0 && this.#chunks > 0;
    const hash = this.#checkChunk(message, last, onlyHash);
    if (!onlyHash) {
      await this.#writer.append(message.content);
      this.#hash.add(hash);
      this.#chunks++;
      this.#bytes += message.content.length;
    }
    if (last) {
      const own = this.#hash.digest();
      if (!sameHash(own, message.wholeHash)) {
        throw new WholeHashError(hexOf(message.wholeHash), hexOf(own));
      }
      this.#complete = true;
    }
    return this.#maybeSync();
  }

  /**
   * Completes the files and makes them durable. After a crash from here on the transfer starts
   * over.
   */
  async finish(): Promise<void> {
    await this.#syncing;
    if (this.#syncError !== null) throw this.#syncError;
    if (this.#finished) return;
    // The engine may rewrite what was appended, so the record of it must be gone before.
    await removeProgress(this.#disk, this.#stateDir, this.manifest.snapshotId);
    await this.#disk.syncDir(this.#stateDir);
    await this.#writer.finish();
    await this.#disk.syncDir(this.dir);
    this.#finished = true;
  }

  /**
   * Closes the writer. The files stay, and what was recorded of them. Rejects with the error of a
   * sync that nobody has heard of yet when the process must end because of it (R14).
   */
  async close(): Promise<void> {
    await this.#syncing;
    if (isFatal(this.#syncError)) throw this.#syncError;
    if (!this.#finished) await this.#writer.abort();
  }

  /** Returns the chunk's hash. */
  #checkChunk(message: SnapshotChunk, last: boolean, onlyHash: boolean): Uint8Array {
    const { snapshotId, chunkCount, chunkBytes } = this.manifest;
    const { content, chunkIndex } = message;
    if (message.manifest !== undefined)
      throw refusal("manifest", "set", "in the first message only");
    equal("snapshot_id", message.snapshotId, snapshotId);
    equal("chunk_index", chunkIndex, this.#chunks);
    equal("chunk_count", message.chunkCount, chunkCount);
    if (content.length > chunkBytes || (!last && content.length !== chunkBytes)) {
      throw refusal("content", `${content.length} bytes`, `${chunkBytes} bytes`);
    }
    const hash = chunkHash(content);
    equal("chunk_hash", hexOf(message.chunkHash), hexOf(hash));
    if (chunkCount === 0) return hash;
    const lastIndex = onlyHash ? chunkCount : chunkCount - 1;
    const isLast = chunkIndex === lastIndex;
    if (last !== isLast)
      throw refusal("whole_hash", last ? "set" : "not set", "in the last message only");
    if (last) equal("bytes", this.#bytes + content.length, this.manifest.bytes);
    return hash;
  }

  /** Starts a sync and a progress record every so often; one at a time, beside the next chunks. */
  async #maybeSync(): Promise<boolean> {
    if (this.#syncError !== null) throw this.#syncError;
    if (this.#bytes - this.#syncedBytes < this.#syncBytes) return false;
    await this.#syncing;
    if (this.#syncError !== null) throw this.#syncError;
    this.#syncedBytes = this.#bytes;
    const progress: StageProgress = {
      manifest: this.manifest,
      uid: this.#uid,
      chunks: this.#chunks,
      bytes: this.#bytes,
      hash: this.#hash.digest(),
    };
    this.#syncing = this.#record(progress).catch((error: unknown) => {
      this.#syncError = error as Error;
    });
    return true;
  }

  async #record(progress: StageProgress): Promise<void> {
    await this.#writer.sync();
    await this.#disk.syncDir(this.dir);
    await writeProgress(this.#disk, this.#stateDir, progress);
  }
}

/** Every chunk was right by itself and the whole is not: nothing of it can be kept. */
export class WholeHashError extends Error {
  override readonly name = "WholeHashError";
  readonly value: string;
  readonly allowed: string;
  constructor(value: string, allowed: string) {
    super(`snapshot: whole_hash is ${value}, allowed: ${allowed}; the transfer starts over`);
    this.value = value;
    this.allowed = allowed;
  }
}

function equal(field: string, value: string | number, allowed: string | number): void {
  if (value !== allowed) throw refusal(field, value, String(allowed));
}
