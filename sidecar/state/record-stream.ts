import { StateCorrupt } from "./record.ts";

/**
 * Key-value pairs as a byte stream: [key length, 4][key][value length, 4][value], big-endian, one
 * after the other, cut anywhere into chunks. Used for RECORDS snapshots and for the redo journal
 * (where the length 0xffffffff stands for a deletion).
 */
export type Pair = readonly [key: Uint8Array, value: Uint8Array | null];

const DELETED = 0xffff_ffff;
const LENGTH_BYTES = 4;
/** A length beyond this is damage, not data: nothing stored is as long. */
const FIELD_BYTES_MAX = 64 * 1024 * 1024;

/**
 * Cuts a stream of pairs into chunks of exactly `chunkBytes` (the last may be shorter). Each chunk
 * is the caller's.
 */
export class PairFramer {
  readonly #chunkBytes: number;
  readonly #length = Buffer.allocUnsafe(LENGTH_BYTES);
  #chunk: Buffer;
  #used = 0;
  #full: Buffer[] = [];

  constructor(chunkBytes: number) {
    this.#chunkBytes = chunkBytes;
    this.#chunk = Buffer.allocUnsafe(chunkBytes);
  }

  /** Adds a pair; returns the chunks it filled. */
  add(key: Uint8Array, value: Uint8Array | null): readonly Buffer[] {
    this.#putLength(key.byteLength);
    this.#put(key);
    this.#putLength(value === null ? DELETED : value.byteLength);
    if (value !== null) this.#put(value);
    return this.#taken();
  }

  /** The rest, when there is one. */
  end(): readonly Buffer[] {
    if (this.#used > 0) this.#full.push(this.#chunk.subarray(0, this.#used));
    this.#used = 0;
    return this.#taken();
  }

  #taken(): readonly Buffer[] {
    const full = this.#full;
    if (full.length > 0) this.#full = [];
    return full;
  }

  #putLength(length: number): void {
    this.#length.writeUInt32BE(length, 0);
    this.#put(this.#length);
  }

  #put(bytes: Uint8Array): void {
    let at = 0;
    while (at < bytes.byteLength) {
      const count = Math.min(bytes.byteLength - at, this.#chunkBytes - this.#used);
      this.#chunk.set(bytes.subarray(at, at + count), this.#used);
      this.#used += count;
      at += count;
      if (this.#used === this.#chunkBytes) {
        this.#full.push(this.#chunk);
        this.#chunk = Buffer.allocUnsafe(this.#chunkBytes);
        this.#used = 0;
      }
    }
  }
}

/**
 * Puts the pairs of a stream together again. Pairs are views into the pushed bytes where they can
 * be; once a push has yielded its last pair, its bytes are the caller's again.
 */
export class PairParser {
  #rest: Buffer = Buffer.alloc(0);

  /** The pairs completed by `bytes`. Throws {@link StateCorrupt} on an impossible length. */
  *push(bytes: Uint8Array): Generator<Pair> {
    const next = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const data = this.#rest.byteLength === 0 ? next : Buffer.concat([this.#rest, next]);
    let at = 0;
    for (;;) {
      const keyEnd = fieldEnd(data, at);
      if (keyEnd === null) break;
      const valueEnd = fieldEnd(data, keyEnd);
      if (valueEnd === null) break;
      const deleted = data.readUInt32BE(keyEnd) === DELETED;
      const value = deleted ? null : data.subarray(keyEnd + LENGTH_BYTES, valueEnd);
      yield [data.subarray(at + LENGTH_BYTES, keyEnd), value];
      at = valueEnd;
    }
    // A copy: the caller may receive the next bytes into the same buffer.
    this.#rest = Buffer.from(data.subarray(at));
  }

  /** Throws {@link StateCorrupt} when the stream ended inside a pair. */
  end(): void {
    if (this.#rest.byteLength > 0) {
      throw new StateCorrupt(`record stream ends ${this.#rest.byteLength} bytes into a record`);
    }
  }
}

/** Where the length-prefixed field at `at` ends; null while it is not complete. */
function fieldEnd(data: Buffer, at: number): number | null {
  if (data.byteLength < at + LENGTH_BYTES) return null;
  const length = data.readUInt32BE(at);
  if (length === DELETED) return at + LENGTH_BYTES;
  if (length > FIELD_BYTES_MAX) {
    throw new StateCorrupt(`record stream holds a field of ${length} bytes`);
  }
  const end = at + LENGTH_BYTES + length;
  return data.byteLength < end ? null : end;
}
