import { BinaryReader, BinaryWriter } from "@bufbuild/protobuf/wire";

/**
 * Most 64-bit numbers of messages are small, and a stream of a run has millions of them: these take
 * the short way to the same bytes and back, not by way of a bigint.
 */
export class MessageWriter extends BinaryWriter {
  override int64(value: string | number | bigint): this {
    if (typeof value !== "number" || !Number.isInteger(value)) return super.int64(value);
    if (value === (value | 0)) return this.int32(value);
    return value > 0 && value < 2 ** 32 ? this.uint32(value) : super.int64(value);
  }
}

/** Bytes of a varint that hold at most 28 bits. */
const SMALL_BYTES = 4;

/** The other side of {@link MessageWriter}. */
export class MessageReader extends BinaryReader {
  override int64(): string | bigint {
    const start = this.pos;
    const low = this.uint32();
    if (this.pos - start <= SMALL_BYTES) return String(low);
    this.pos = start;
    return super.int64();
  }
}
