import { xxh3 } from "@node-rs/xxhash";

/** Bytes of a whole hash. */
const WHOLE_HASH_BYTES = 16;

/**
 * Hash over all chunks in order: after each chunk XXH3-128 of (hash before it, XXH3-128 of the chunk).
 * Its whole state is those 16 bytes, so a receiver saves it and goes on after a restart without
 * reading back what it has. Guards against damage and mix-ups, not against forgery.
 */
export class WholeHash {
  readonly #pair = new Uint8Array(2 * WHOLE_HASH_BYTES);

  /** Goes on from a saved state, or starts. */
  constructor(state: Uint8Array = new Uint8Array(WHOLE_HASH_BYTES)) {
    this.#pair.set(state.subarray(0, WHOLE_HASH_BYTES));
  }

  /** Adds the next chunk. */
  update(chunk: Uint8Array): void {
    put(this.#pair, WHOLE_HASH_BYTES, xxh3.xxh128(chunk));
    put(this.#pair, 0, xxh3.xxh128(this.#pair));
  }

  /** The hash so far; a copy. */
  digest(): Uint8Array {
    return this.#pair.slice(0, WHOLE_HASH_BYTES);
  }
}

/** True when both are the same hash. */
export function sameHash(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, index) => byte === b[index]);
}

function put(into: Uint8Array, at: number, value: bigint): void {
  const view = new DataView(into.buffer);
  view.setBigUint64(at, value >> 64n);
  view.setBigUint64(at + 8, value & 0xffff_ffff_ffff_ffffn);
}
