import { crcOf } from "../lib/crc.ts";
import type { LogPosition } from "../protocol/entry.ts";
import type { KeySorting } from "./key-order.ts";
import { StateCorrupt } from "./record.ts";

/** What the engine says about itself; written in the last slice of each checkpoint. */
export interface CheckpointMeta {
  /** Everything up to here, and nothing after, is in the engine. */
  readonly position: LogPosition;
  /** Next version id to give out. */
  readonly versionCounter: number;
  /** R6: times acknowledged data was given up by a person's order. */
  readonly lossEpoch: number;
  readonly records: number;
  readonly keySorting: KeySorting;
}

const FORMAT = 1;

/** CRC-32C (4 bytes) and JSON: small, rare, and readable in a hex dump. */
export function encodeMeta(meta: CheckpointMeta): Buffer {
  const { term, offset, crc } = meta.position;
  const body = Buffer.from(
    JSON.stringify({ format: FORMAT, ...meta, position: { term, offset, crc } }),
  );
  const bytes = Buffer.allocUnsafe(4 + body.byteLength);
  bytes.writeUInt32BE(crcOf(body), 0);
  bytes.set(body, 4);
  return bytes;
}

/** Throws {@link StateCorrupt} unless `bytes` came from {@link encodeMeta}. */
export function decodeMeta(bytes: Uint8Array): CheckpointMeta {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const body = buffer.subarray(4);
  if (buffer.byteLength < 4 || buffer.readUInt32BE(0) !== crcOf(body)) {
    throw new StateCorrupt("the checkpoint's description fails its checksum");
  }
  const meta = JSON.parse(body.toString()) as CheckpointMeta & { readonly format: number };
  if (meta.format !== FORMAT) {
    throw new StateCorrupt(`the checkpoint has format ${meta.format}; this build reads ${FORMAT}`);
  }
  return meta;
}
