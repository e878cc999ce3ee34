import type { Disk, DiskFile } from "../lib/ports/disk.ts";
import type { LogEntry, LogPosition, Offset } from "../protocol/entry.ts";
import { WalCorrupt } from "./errors.ts";
import {
  decodeRecord,
  decodeValueBytes,
  type RecordPlace,
  recordHeaderBytes,
  type WalRecord,
} from "./segment-codec.ts";
import type { Segment } from "./segment.ts";

const READ_BYTES_MIN = 64 * 1024;

/**
 * Entries from `from` on, in order: as many as `bytesMax` value bytes allow, at least one. Their
 * values are views of memory that belongs to the result. Throws {@link WalCorrupt}, DiskError.
 */
export async function readEntries(
  disk: Disk,
  segment: Segment,
  from: Offset,
  bytesMax: number,
): Promise<readonly LogEntry[]> {
  const entries: LogEntry[] = [];
  try {
    await withCursor(disk, segment, from, bytesMax, (cursor) =>
      collect(cursor, entries, { from, last: segment.last.offset, bytesMax }),
    );
  } catch (error) {
    // Damage after good entries is for the read that starts at it.
    if (!(error instanceof WalCorrupt) || entries.length === 0) throw error;
  }
  return entries;
}

async function collect(
  cursor: RecordCursor,
  into: LogEntry[],
  range: { readonly from: Offset; readonly last: Offset; readonly bytesMax: number },
): Promise<void> {
  let bytes = 0;
  for (let offset = range.from; offset <= range.last; offset += 1) {
    const record = into.length === 0 ? await cursor.record(offset) : cursor.loadedRecord(offset);
    if (record === null) return;
    const { entry, previousCrc } = record;
    bytes += entry.value.byteLength;
    const previous = into.at(-1);
    if (previous !== undefined && bytes > range.bytesMax) return;
    if (previous !== undefined && previousCrc !== previous.crc) {
      throw cursor.corrupt("the entry does not continue the one before it");
    }
    into.push(entry);
  }
}

/** The position of entry `offset`, and where its record ends in the file. */
export function locateEnd(
  disk: Disk,
  segment: Segment,
  offset: Offset,
): Promise<{ readonly position: LogPosition; readonly end: number }> {
  return withCursor(disk, segment, offset, 0, async (cursor) => {
    const { entry } = await cursor.record(offset);
    const position = { term: entry.term, offset, crc: entry.crc };
    return { position, end: cursor.position };
  });
}

async function withCursor<T>(
  disk: Disk,
  segment: Segment,
  from: Offset,
  bytesMax: number,
  use: (cursor: RecordCursor) => Promise<T>,
): Promise<T> {
  // A handle of its own: the reader outlives a roll, and a trim may unlink the file meanwhile.
  const file = await disk.open(segment.path, { create: false });
  try {
    const cursor = new RecordCursor(file, segment, segment.locate(from), bytesMax);
    await cursor.skipTo(from);
    return await use(cursor);
  } finally {
    await file.close();
  }
}

class RecordCursor {
  readonly #file: DiskFile;
  readonly #segment: Segment;
  readonly #headerBytes: number;
  readonly #end: number;
  readonly #chunkBytes: number;
  #offset: Offset;
  #position: number;
  #chunk = new Uint8Array(0);
  #chunkStart = 0;

  constructor(
    file: DiskFile,
    segment: Segment,
    start: { readonly offset: Offset; readonly position: number },
    bytesMax: number,
  ) {
    this.#file = file;
    this.#segment = segment;
    this.#headerBytes = recordHeaderBytes(segment.format);
    this.#end = segment.end;
    this.#offset = start.offset;
    this.#position = start.position;
    this.#chunkStart = start.position;
    this.#chunkBytes = Math.max(READ_BYTES_MIN, bytesMax);
  }

  /** Where the next record starts. */
  get position(): number {
    return this.#position;
  }

  /** Goes on to the record of `offset` by the lengths of those before it. */
  async skipTo(offset: Offset): Promise<void> {
    while (this.#offset < offset) {
      const bytes = this.#headerBytes + (await this.#valueBytes());
      this.#position += bytes;
      this.#offset += 1;
    }
  }

  /** The next record, which must be `offset`'s. */
  async record(offset: Offset): Promise<WalRecord> {
    const bytes = this.#headerBytes + (await this.#valueBytes());
    if (this.#loaded().byteLength < bytes) await this.#load(bytes);
    const record = this.loadedRecord(offset);
    if (record === null) throw this.corrupt("the file ends inside the record");
    return record;
  }

  /** The same without reading more of the file: null when it is not all there. */
  loadedRecord(offset: Offset): WalRecord | null {
    const bytes = this.#loaded();
    if (bytes.byteLength < this.#headerBytes) return null;
    const valueBytes = decodeValueBytes(bytes, this.#place());
    if (valueBytes === null) throw this.corrupt("the record's header is damaged");
    if (bytes.byteLength < this.#headerBytes + valueBytes) return null;
    const record = decodeRecord(bytes, this.#place());
    if (record?.entry.offset !== offset) throw this.corrupt("the record is damaged");
    this.#position += record.bytes;
    this.#offset += 1;
    return record;
  }

  async #valueBytes(): Promise<number> {
    if (this.#loaded().byteLength < this.#headerBytes) await this.#load(this.#headerBytes);
    const bytes = decodeValueBytes(this.#loaded(), this.#place());
    if (bytes === null) throw this.corrupt("the record's header is damaged");
    return bytes;
  }

  #place(): RecordPlace {
    const { firstOffset, format } = this.#segment;
    return { firstOffset, position: this.#position, format };
  }

  #loaded(): Uint8Array {
    return this.#chunk.subarray(this.#position - this.#chunkStart);
  }

  async #load(bytesMin: number): Promise<void> {
    const wanted = Math.min(Math.max(bytesMin, this.#chunkBytes), this.#end - this.#position);
    const chunk = Buffer.allocUnsafeSlow(Math.max(0, wanted));
    const count = await this.#file.read(chunk, this.#position);
    this.#chunk = chunk.subarray(0, count);
    this.#chunkStart = this.#position;
  }

  /** The error for damage at the present record. */
  corrupt(problem: string): WalCorrupt {
    return new WalCorrupt(this.#offset, this.#segment.path, problem);
  }
}
