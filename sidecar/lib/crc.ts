import { crc32c } from "@node-rs/crc32";

/** CRC-32C (Castagnoli) of `bytes`, going on from `seed`. */
export function crcOf(bytes: Uint8Array, seed = 0): number {
  return crc32c(bytes as Buffer, seed);
}
