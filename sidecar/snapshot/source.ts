import type { LogPosition } from "../protocol/entry.ts";
import type { SnapshotFormat } from "../protocol/gen/resilver.ts";

/** One way to read a pinned state as bytes. */
export interface SnapshotForm {
  readonly format: SnapshotFormat;
  /** What a receiver must have to take it; free text that both ends compare. */
  readonly formatDetail: string;
  /** Bytes of content. */
  readonly bytes: number;
  /** False: `bytes` is an estimate, for free space and progress only. */
  readonly exact: boolean;
}

/** A pinned state: reading it gives the same bytes each time until it is released. */
export interface SnapshotSource {
  /** The last applied entry in it. */
  readonly position: LogPosition;
  readonly records: number;
  /** Best first. RECORDS must be among them (rolling upgrades). */
  readonly forms: readonly SnapshotForm[];
  /**
   * The content from its start, in pieces of any size; multiples of `chunkBytes` are sent without a
   * copy. A piece keeps its bytes until it is given back, or the source is released. Ending the
   * iteration early frees what it holds.
   */
  chunks(format: SnapshotFormat, chunkBytes: number): PieceStream;
}

/** Content in pieces of any size. */
export interface PieceStream extends AsyncIterable<Uint8Array> {
  /** Nobody looks at this piece any more: its buffer may hold another one. */
  recycle?(piece: Uint8Array): void;
}

/**
 * Cuts pieces of any size into chunks of exactly `chunkBytes`, the last one shorter; at least one
 * chunk.
 */
export async function* rechunk(
  pieces: AsyncIterable<Uint8Array>,
  chunkBytes: number,
): AsyncGenerator<Uint8Array, void, void> {
  let partial = new Uint8Array(0);
  let filled = 0;
  let yielded = false;
  for await (const piece of pieces) {
    for (let at = 0; at < piece.length; ) {
      const left = piece.length - at;
      if (filled === 0 && left >= chunkBytes) {
        yield piece.subarray(at, at + chunkBytes);
        yielded = true;
        at += chunkBytes;
        continue;
      }
      // A new buffer each time: the one before may still wait in the transport's queue.
      if (filled === 0) partial = new Uint8Array(chunkBytes);
      const taken = Math.min(chunkBytes - filled, left);
      partial.set(piece.subarray(at, at + taken), filled);
      filled += taken;
      at += taken;
      if (filled < chunkBytes) continue;
      yield partial;
      yielded = true;
      filled = 0;
    }
  }
  if (filled > 0 || !yielded) yield partial.subarray(0, filled);
}
