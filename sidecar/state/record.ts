import { crcOf } from "../lib/crc.ts";
import type { Version } from "../protocol/gen/oxia-client.ts";

/**
 * A stored record: CRC-32C (4 bytes, of key bytes and all that follows), flags (1), version id,
 * modifications count, created and modified timestamps (float64 each), client identity (2 + n, when
 * its flag is set), value. All big-endian. The CRC is filled in on the way to the disk and checked
 * on the way back.
 */
const CRC_BYTES = 4;
const FLAGS_AT = 4;
const VERSION_AT = 5;
const MODIFICATIONS_AT = 13;
const CREATED_AT = 21;
const MODIFIED_AT = 29;
const FIXED_BYTES = 37;
const IDENTITY_FLAG = 1;
const KNOWN_FLAGS = IDENTITY_FLAG;

/**
 * Stored data is not what was written. The replica is faulty and must be rebuilt (R14); nothing is
 * repaired here.
 */
export class StateCorrupt extends Error {
  override readonly name = "StateCorrupt";
}

/** What a write needs to know about the record it replaces. */
export interface RecordVersion {
  readonly versionId: number;
  readonly modificationsCount: number;
  readonly createdTimestamp: number;
}

/** The whole head of a record. */
export interface RecordHead extends RecordVersion {
  readonly modifiedTimestamp: number;
  readonly clientIdentity: string | undefined;
}

function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** A record with its own copy of `value`, so that it pins no message buffer. CRC still empty. */
export function encodeRecord(head: RecordHead, value: Uint8Array): Buffer {
  const identity = head.clientIdentity;
  const identityBytes = identity === undefined ? 0 : 2 + Buffer.byteLength(identity);
  const record = Buffer.allocUnsafe(FIXED_BYTES + identityBytes + value.byteLength);
  record.writeUInt32BE(0, 0);
  record[FLAGS_AT] = identity === undefined ? 0 : IDENTITY_FLAG;
  record.writeDoubleBE(head.versionId, VERSION_AT);
  record.writeDoubleBE(head.modificationsCount, MODIFICATIONS_AT);
  record.writeDoubleBE(head.createdTimestamp, CREATED_AT);
  record.writeDoubleBE(head.modifiedTimestamp, MODIFIED_AT);
  if (identity !== undefined) {
    record.writeUInt16BE(identityBytes - 2, FIXED_BYTES);
    record.write(identity, FIXED_BYTES + 2, "utf8");
  }
  record.set(value, FIXED_BYTES + identityBytes);
  return record;
}

function crcOfRecord(key: Uint8Array, record: Uint8Array): number {
  return crcOf(record.subarray(CRC_BYTES), crcOf(key));
}

/** Fills in the CRC, in place. */
export function sealRecord(key: Uint8Array, record: Buffer): void {
  record.writeUInt32BE(crcOfRecord(key, record), 0);
}

/** Throws {@link StateCorrupt} unless `record` is what was sealed under `key`. */
export function verifyRecord(key: Uint8Array, record: Uint8Array): void {
  if (record.byteLength >= FIXED_BYTES) {
    const found = bufferOf(record);
    const known = ((found[FLAGS_AT] ?? 0) & ~KNOWN_FLAGS) === 0;
    if (known && found.readUInt32BE(0) === crcOfRecord(key, record)) return;
  }
  throw new StateCorrupt(
    `record of key ${JSON.stringify(bufferOf(key).toString("latin1"))} fails its checksum`,
  );
}

/** The part of the head that writes need. */
export function recordVersion(record: Uint8Array): RecordVersion {
  const bytes = bufferOf(record);
  return {
    versionId: bytes.readDoubleBE(VERSION_AT),
    modificationsCount: bytes.readDoubleBE(MODIFICATIONS_AT),
    createdTimestamp: bytes.readDoubleBE(CREATED_AT),
  };
}

/** The version as clients see it. */
export function clientVersion(record: Uint8Array): Version {
  const bytes = bufferOf(record);
  const version: Version = {
    ...recordVersion(bytes),
    modifiedTimestamp: bytes.readDoubleBE(MODIFIED_AT),
  };
  if (bytes[FLAGS_AT] === IDENTITY_FLAG) {
    const end = FIXED_BYTES + 2 + bytes.readUInt16BE(FIXED_BYTES);
    version.clientIdentity = bytes.toString("utf8", FIXED_BYTES + 2, end);
  }
  return version;
}

/** The value, a view into the record. */
export function recordValue(record: Uint8Array): Uint8Array {
  const bytes = bufferOf(record);
  const identity = bytes[FLAGS_AT] === IDENTITY_FLAG ? 2 + bytes.readUInt16BE(FIXED_BYTES) : 0;
  return record.subarray(FIXED_BYTES + identity);
}
