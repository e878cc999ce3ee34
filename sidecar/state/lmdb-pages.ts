import type { Disk, DiskFile } from "../lib/ports/disk.ts";
import type { PieceStream } from "./engine.ts";
import { StateCorrupt } from "./record.ts";

/**
 * LMDB's file as a snapshot, the way its own plain copy does it: with a read transaction pinned, no
 * page that the pinned meta page reaches is reused, so the file can be read page by page while
 * writes go on. Pages 0 and 1 both get the pinned meta page: the receiver opens exactly that state.
 * Pages freed before are shipped too, as they are.
 *
 * Offsets of the meta page's fields are those of lmdb-js's build; they are checked against the
 * engine's own figures at each pin, and when they differ this answers null, and records are shipped
 * instead.
 */
const META_MAGIC = 0xbeefc0de;
const MAGIC_SEARCH_BYTES = 64;
/** From the magic: version 4, address 8, map size 8, two trees of 48 each. */
const PAGE_SIZE_AT = 24;
const LAST_PAGE_AT = 120;
const TRANSACTION_AT = 128;
const META_PAGES = 2;
/** A sender's reads ahead of what is being sent. */
const READ_AHEAD_CHUNKS = 2;

interface MetaPage {
  readonly page: Buffer;
  readonly pageBytes: number;
  readonly lastPage: number;
  readonly transaction: number;
}

function parseMeta(page: Buffer): MetaPage | null {
  for (let at = 0; at < MAGIC_SEARCH_BYTES; at += 4) {
    if (page.readUInt32LE(at) !== META_MAGIC) continue;
    return {
      page,
      pageBytes: page.readUInt32LE(at + PAGE_SIZE_AT),
      lastPage: Number(page.readBigUInt64LE(at + LAST_PAGE_AT)),
      transaction: Number(page.readBigUInt64LE(at + TRANSACTION_AT)),
    };
  }
  return null;
}

async function readFully(file: DiskFile, into: Buffer, position: number): Promise<void> {
  const read = await file.read(into, position);
  // The file may end before the last page when the pages at its end are free.
  into.fill(0, read);
}

async function readMetas(file: DiskFile, pageBytes: number): Promise<readonly Buffer[]> {
  const pages: Buffer[] = [];
  for (let at = 0; at < META_PAGES; at++) {
    const page = Buffer.alloc(pageBytes);
    await readFully(file, page, at * pageBytes);
    pages.push(page);
  }
  return pages;
}

/**
 * What LMDB does not check before it maps the file: a meta page there is, of our page size, and a
 * file long enough for it (reading beyond the end kills the process; zeros are an error with a
 * name). A file of zeros is one whose making was interrupted: it is removed. Throws {@link
 * StateCorrupt} when it is something else.
 */
export async function inspectFile(disk: Disk, path: string, pageBytes: number): Promise<void> {
  if (!(await disk.exists(path))) return;
  const file = await disk.open(path, { create: false });
  try {
    const pages = await readMetas(file, pageBytes);
    const metas = pages.flatMap((page) => parseMeta(page) ?? []);
    if (metas.length === META_PAGES && metas.every((meta) => meta.pageBytes === pageBytes)) {
      const newest = metas.reduce((a, b) => (a.transaction >= b.transaction ? a : b));
      const needed = (newest.lastPage + 1) * pageBytes;
      if ((await file.size()) < needed) await file.truncate(needed);
      return;
    }
    if (pages.some((page) => page.some((byte) => byte !== 0))) {
      throw new StateCorrupt(`${path} is not an engine file of ${pageBytes}-byte pages`);
    }
  } finally {
    await file.close();
  }
  await disk.remove(path);
}

/** The pages of one pinned state. The read transaction that pins them is the caller's. */
export class LmdbPages {
  /** Length of the stream. */
  readonly bytes: number;
  readonly #file: DiskFile;
  readonly #meta: MetaPage;
  #open = true;

  private constructor(file: DiskFile, meta: MetaPage) {
    this.#file = file;
    this.#meta = meta;
    this.bytes = (meta.lastPage + 1) * meta.pageBytes;
  }

  /**
   * Finds the newest meta page, which must be the one `stats` describes; null when the layout is
   * not known.
   */
  static async open(disk: Disk, path: string, stats: object): Promise<LmdbPages | null> {
    const { pageSize, lastPageNumber, lastTxnId } = stats as Record<string, number>;
    if (pageSize === undefined) return null;
    const file = await disk.open(path, { create: false });
    const metas = (await readMetas(file, pageSize)).flatMap((page) => parseMeta(page) ?? []);
    const known = metas.find(
      (meta) =>
        meta.transaction === lastTxnId &&
        meta.lastPage === lastPageNumber &&
        meta.pageBytes === pageSize,
    );
    if (known !== undefined) return new LmdbPages(file, known);
    await file.close();
    return null;
  }

  /** The stream, in chunks of exactly `chunkBytes` but the last. */
  chunks(chunkBytes: number): PieceStream {
    const buffers = new BufferRing();
    return {
      [Symbol.asyncIterator]: () => this.#chunks(chunkBytes, buffers),
      recycle: (piece) => buffers.recycle(piece),
    };
  }

  async *#chunks(chunkBytes: number, buffers: BufferRing): AsyncGenerator<Uint8Array> {
    // The next chunks are read while the present one is being sent.
    const ahead: Promise<Buffer | Error>[] = [];
    let readAt = 0;
    for (let at = 0; at < this.bytes; at += chunkBytes) {
      while (ahead.length <= READ_AHEAD_CHUNKS && readAt < this.bytes) {
        const bytes = Math.min(chunkBytes, this.bytes - readAt);
        ahead.push(this.#read(readAt, buffers.take(bytes)));
        readAt += bytes;
      }
      const chunk = await ahead.shift();
      // What was read after the release may be newer than the pin.
      if (chunk instanceof Error) throw chunk;
      if (chunk === undefined || !this.#open) throw new PinReleased();
      this.#overlayMetas(chunk, at);
      yield chunk;
    }
  }

  /** Never rejects: nobody may be waiting for a read ahead when it fails. */
  async #read(at: number, chunk: Buffer): Promise<Buffer | Error> {
    try {
      if (this.#open && chunk.length > 0) await readFully(this.#file, chunk, at);
      return chunk;
    } catch (error) {
      return error as Error;
    }
  }

  #overlayMetas(chunk: Buffer, at: number): void {
    const { page, pageBytes } = this.#meta;
    for (let number = 0; number < META_PAGES; number++) {
      const start = number * pageBytes - at;
      if (start >= chunk.byteLength || start + pageBytes <= 0) continue;
      const meta = Buffer.from(page);
      // A page starts with its own number.
      meta.writeBigUInt64LE(BigInt(number), 0);
      meta.copy(chunk, Math.max(0, start), Math.max(0, -start));
    }
  }

  async close(): Promise<void> {
    this.#open = false;
    await this.#file.close();
  }
}

/**
 * Buffers that were sent and hold the next chunks: a new one for each would cost the kernel a page
 * at a time to make and the collector a search of the heap every few dozen.
 */
class BufferRing {
  readonly #lent = new Set<ArrayBufferLike>();
  readonly #spare: Buffer[] = [];

  take(bytes: number): Buffer {
    const at = this.#spare.findLastIndex((spare) => spare.length === bytes);
    const buffer = this.#spare.splice(at, at < 0 ? 0 : 1)[0] ?? Buffer.allocUnsafeSlow(bytes);
    this.#lent.add(buffer.buffer);
    return buffer;
  }

  /** Anything but a whole buffer of this ring is left alone. */
  recycle(piece: Uint8Array): void {
    if (piece.length !== piece.buffer.byteLength || !this.#lent.delete(piece.buffer)) return;
    this.#spare.push(Buffer.from(piece.buffer));
  }
}

/** A snapshot was read after its pin was released, or while the state was closed. */
export class PinReleased extends Error {
  override readonly name = "PinReleased";
  constructor() {
    super("the snapshot's pin was released");
  }
}
