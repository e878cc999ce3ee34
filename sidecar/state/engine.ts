/**
 * The ordered engine below the memory table. Real: `lmdb-engine.ts`; the simulator supplies one
 * that loses what was not flushed. Keys and values are opaque bytes; keys sort byte-wise.
 */

/**
 * One atomic set of changes. Keys are distinct within a batch; arrays are not changed until the
 * promise settles.
 */
export interface EngineBatch {
  readonly puts: readonly (readonly [key: Uint8Array, value: Uint8Array])[];
  readonly deletes: readonly Uint8Array[];
}

/** An open engine. One owner, one write at a time. */
export interface Engine {
  /** The value (owned by the caller), undefined when absent. Sees every committed write. */
  get(key: Uint8Array): Uint8Array | undefined;
  /**
   * Pairs with `start <= key < end` (null: no bound), in key order or its reverse. The view is
   * taken when this is called, not when iteration starts; it is released when the iterator ends or
   * is returned.
   */
  range(
    start: Uint8Array | null,
    end: Uint8Array | null,
    reverse: boolean,
  ): IterableIterator<[Uint8Array, Uint8Array]>;
  /**
   * Resolves when the batch is committed as a whole. Rejects with DiskError; then none of it is.
   */
  write(batch: EngineBatch): Promise<void>;
  /**
   * Resolves when every committed write survives power loss. Commits survive in order: never a
   * later one alone.
   */
  flushed(): Promise<void>;
  /**
   * Freezes the present committed state for a snapshot. Call with no write in flight and everything
   * flushed.
   */
  pin(): Promise<EnginePin>;
  /** Bytes on disk, including what is free inside. */
  bytes(): number;
  close(): Promise<void>;
}

/**
 * How the bytes of a snapshot are laid out: engine pages (equal builds only) or sorted records
 * (always).
 */
export type SnapshotLayout = "PAGES" | "RECORDS";

/**
 * The frozen state of one checkpoint. Each stream may be read more than once; `release` frees the
 * pin.
 */
export interface EnginePin {
  /** The fastest layout this engine can ship. */
  readonly format: SnapshotLayout;
  /** Engine, version and page size that PAGES belong to. */
  readonly formatDetail: string;
  /** Exact length of the `pages` stream; for RECORDS an estimate of the stored bytes. */
  readonly bytes: number;
  /**
   * The engine's file, in chunks of exactly `chunkBytes` but the last. Throws when format is
   * RECORDS.
   */
  pages(chunkBytes: number): PieceStream;
  /**
   * All pairs in key order, framed by `record-stream.ts`, in chunks of exactly `chunkBytes` but the
   * last.
   */
  records(chunkBytes: number): AsyncIterable<Uint8Array>;
  release(): Promise<void>;
}

/** Opens engines and writes received snapshots into empty directories. */
export interface EngineFactory {
  readonly formatDetail: string;
  /** Opens the engine in `dir`, made when it does not exist. */
  open(dir: string): Promise<Engine>;
  /** True when a PAGES stream of that build can be used here as it is. */
  acceptPages(formatDetail: string): boolean;
  /** A writer that builds an engine in `dir` (made, must hold no engine) from a snapshot stream. */
  writer(dir: string, layout: SnapshotLayout): Promise<SnapshotWriter>;
  /**
   * A writer that goes on where one of a process that ended left off: `dir` holds the first
   * `keptBytes` of the stream, durably, and perhaps more, which goes. Null when it cannot.
   */
  resumedWriter(
    dir: string,
    layout: SnapshotLayout,
    keptBytes: number,
  ): Promise<SnapshotWriter | null>;
}

/** Content in pieces, whose buffers are used again once they are given back. */
export interface PieceStream extends AsyncIterable<Uint8Array> {
  /** Nobody looks at this piece any more. Optional for the reader, and harmless for other bytes. */
  recycle(piece: Uint8Array): void;
}

/**
 * Takes a snapshot's bytes in stream order, at constant memory. Chunk borders need not be the
 * sender's.
 */
export interface SnapshotWriter {
  /**
   * Takes the next bytes; may keep them until the promise settles. Rejects with StateCorrupt on bad
   * framing.
   */
  append(bytes: Uint8Array): Promise<void>;
  /** Makes what was appended so far durable. */
  sync(): Promise<void>;
  /**
   * Ends the stream: everything durable, `EngineFactory.open` works. Rejects when the stream is cut
   * short.
   */
  finish(): Promise<void>;
  /** Gives up and closes; the directory is the caller's to remove. */
  abort(): Promise<void>;
}
