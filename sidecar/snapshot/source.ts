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
   * The content from its start, in pieces of any size; multiples of `chunkBytes` are sent without a copy.
   * A piece keeps its bytes until the source is released. Ending the iteration early frees what it holds.
   */
  chunks(format: SnapshotFormat, chunkBytes: number): AsyncIterable<Uint8Array>;
}

/** Cuts pieces of any size into chunks of exactly `chunkBytes`, the last one shorter; at least one chunk. */
export async function* rechunk(
  pieces: AsyncIterable<Uint8Array>,
  chunkBytes: number,
): AsyncGenerator<Uint8Array, void, void> {
  let partial = new Uint8Array(0);
  let yielded = false;
  for await (const piece of pieces) {
    let at = 0;
    if (partial.length > 0) {
      at = Math.min(chunkBytes - partial.length, piece.length);
      partial = joined(partial, piece.subarray(0, at));
      if (partial.length < chunkBytes) continue;
      yield partial;
      yielded = true;
      partial = new Uint8Array(0);
    }
    for (; piece.length - at >= chunkBytes; at += chunkBytes) {
      yield piece.subarray(at, at + chunkBytes);
      yielded = true;
    }
    partial = piece.slice(at);
  }
  if (partial.length > 0 || !yielded) yield partial;
}

function joined(a: Uint8Array, b: Uint8Array): Uint8Array<ArrayBuffer> {
  const both = new Uint8Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}
