import { assert } from "../lib/assert.ts";
import { crcOf } from "../lib/crc.ts";
import type { Disk, DiskFile } from "../lib/ports/disk.ts";
import { StateCorrupt } from "./record.ts";
import { type Pair, PairFramer, PairParser } from "./record-stream.ts";

/**
 * One checkpoint's resolved effects (key and final record, or a deletion), written and synced
 * before the first of them reaches the engine. The engine holds the journal's id from the first
 * slice to the last; while it does, the journal is what finishes the checkpoint. Otherwise its
 * contents mean nothing and it is overwritten.
 *
 * File: header (magic, id, body bytes, body CRC-32C, header CRC-32C) in the first 4 KiB, then the
 * pairs.
 */
const MAGIC = 0x5253_4a31;
const HEADER_BYTES = 28;
const BODY_AT = 4096;
const CHUNK_BYTES = 1024 * 1024;

interface Header {
  readonly id: number;
  readonly bodyBytes: number;
  readonly bodyCrc: number;
}

function encodeHeader(header: Header): Buffer {
  const bytes = Buffer.alloc(BODY_AT);
  bytes.writeUInt32BE(MAGIC, 0);
  bytes.writeDoubleBE(header.id, 4);
  bytes.writeDoubleBE(header.bodyBytes, 12);
  bytes.writeUInt32BE(header.bodyCrc, 20);
  bytes.writeUInt32BE(crcOf(bytes.subarray(0, HEADER_BYTES - 4)), HEADER_BYTES - 4);
  return bytes;
}

function decodeHeader(bytes: Buffer): Header | null {
  if (bytes.readUInt32BE(0) !== MAGIC) return null;
  if (bytes.readUInt32BE(HEADER_BYTES - 4) !== crcOf(bytes.subarray(0, HEADER_BYTES - 4)))
    return null;
  return {
    id: bytes.readDoubleBE(4),
    bodyBytes: bytes.readDoubleBE(12),
    bodyCrc: bytes.readUInt32BE(20),
  };
}

/** The journal of one shard: at most one checkpoint, owned by the serialised checkpointer. */
export class RedoJournal {
  readonly #disk: Disk;
  readonly #dir: string;
  readonly #path: string;
  #file: DiskFile | null = null;

  constructor(disk: Disk, dir: string) {
    this.#disk = disk;
    this.#dir = dir;
    this.#path = `${dir}/redo`;
  }

  /** Starts a new journal over the old one. The engine must hold no journal id. */
  async begin(id: number): Promise<JournalWriter> {
    if (this.#file === null) {
      const existed = await this.#disk.exists(this.#path);
      this.#file = await this.#disk.open(this.#path, { create: true });
      if (!existed) await this.#disk.syncDir(this.#dir);
    }
    return new JournalWriter(this.#file, id);
  }

  /**
   * The pairs of the complete journal `id`. Throws {@link StateCorrupt} when it is not there or
   * damaged.
   */
  async *read(id: number): AsyncGenerator<Pair> {
    const damaged = (what: string): StateCorrupt =>
      new StateCorrupt(`checkpoint ${id} is half written and its redo journal ${what}`);
    if (!(await this.#disk.exists(this.#path))) throw damaged("is missing");
    const file = await this.#disk.open(this.#path, { create: false });
    try {
      const first = Buffer.alloc(BODY_AT);
      const read = await file.read(first, 0);
      const header = read === BODY_AT ? decodeHeader(first) : null;
      if (header === null || header.id !== id) throw damaged("is not of that checkpoint");
      let crc = 0;
      for await (const chunk of bodyOf(file, header)) crc = crcOf(chunk, crc);
      if (crc !== header.bodyCrc) throw damaged("fails its checksum");
      const parser = new PairParser();
      for await (const chunk of bodyOf(file, header)) yield* parser.push(chunk);
      parser.end();
    } finally {
      await file.close();
    }
  }

  async close(): Promise<void> {
    await this.#file?.close();
    this.#file = null;
  }
}

async function* bodyOf(file: DiskFile, header: Header): AsyncGenerator<Buffer> {
  for (let at = 0; at < header.bodyBytes; at += CHUNK_BYTES) {
    const chunk = Buffer.alloc(Math.min(CHUNK_BYTES, header.bodyBytes - at));
    const read = await file.read(chunk, BODY_AT + at);
    yield chunk.subarray(0, read);
    if (read < chunk.byteLength) return;
  }
}

/** See {@link RedoJournal.begin}. */
export class JournalWriter {
  readonly #file: DiskFile;
  readonly #id: number;
  readonly #framer = new PairFramer(CHUNK_BYTES);
  #bodyBytes = 0;
  #bodyCrc = 0;
  #finished = false;

  constructor(file: DiskFile, id: number) {
    this.#file = file;
    this.#id = id;
  }

  /**
   * Adds pairs; resolves when full chunks of them are durable. Synced chunk by chunk: one sync of
   * tens of megabytes would hold up the log's, which waits at the same device.
   */
  async add(pairs: readonly Pair[]): Promise<void> {
    assert(!this.#finished, "journal written after its end");
    for (const [key, value] of pairs) {
      const chunks = this.#framer.add(key, value);
      if (chunks.length === 0) continue;
      await this.#write(chunks);
      await this.#file.sync();
    }
  }

  /** Resolves when the journal is complete and durable. */
  async finish(): Promise<void> {
    this.#finished = true;
    const rest = this.#framer.end();
    if (rest.length > 0) await this.#write(rest);
    const header = { id: this.#id, bodyBytes: this.#bodyBytes, bodyCrc: this.#bodyCrc };
    await this.#file.write([encodeHeader(header)], 0);
    await this.#file.sync();
  }

  async #write(chunks: readonly Buffer[]): Promise<void> {
    const at = BODY_AT + this.#bodyBytes;
    for (const chunk of chunks) {
      this.#bodyBytes += chunk.byteLength;
      this.#bodyCrc = crcOf(chunk, this.#bodyCrc);
    }
    await this.#file.write(chunks, at);
  }
}
