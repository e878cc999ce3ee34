import type {
  DeleteRequest,
  DeleteResponse,
  PutRequest,
  PutResponse,
  Version,
  WriteRequest,
  WriteResponse,
} from "../protocol/gen/oxia-client.ts";
import { Status } from "../protocol/gen/oxia-client.ts";
import type { EncodedKey, KeyRange, KeySorting } from "./key-order.ts";
import { encodeKey, encodeRange } from "./key-order.ts";
import { encodeRecord, type RecordVersion } from "./record.ts";

/** What a write request is applied to. */
export interface WriteTarget {
  readonly keySorting: KeySorting;
  /** The record's version; null when there is no such record. */
  version(key: EncodedKey): RecordVersion | null;
  /** Writes a record; `found` is what `version` said of the key just before. */
  put(key: EncodedKey, record: Buffer, version: RecordVersion, found: RecordVersion | null): void;
  /** Removes a record that is there. */
  remove(key: EncodedKey): void;
  /** Keys of present records, in order, as of the call. */
  keys(range: KeyRange): readonly EncodedKey[];
  /** The id of the next version; the one asked for, when there is one. */
  takeVersionId(wanted: number | undefined): number;
}

const NO_RECORD = -1;

/**
 * Applies one request: puts, then deletes, then delete ranges. An item whose expected version does
 * not match gets a status of its own; the others go ahead. Deterministic: depends on the target and
 * the arguments only.
 */
export function applyWrite(
  target: WriteTarget,
  request: WriteRequest,
  timestampMs: number,
): WriteResponse {
  const puts = request.puts.map((put) => applyPut(target, put, timestampMs));
  const deletes = request.deletes.map((remove) => applyDelete(target, remove));
  const deleteRanges = request.deleteRanges.map(({ startInclusive, endExclusive }) => {
    // Internal keys are never in a client's range, even one without an end.
    const range = encodeRange(startInclusive, endExclusive, false, target.keySorting);
    for (const key of target.keys(range)) target.remove(key);
    return { status: Status.OK };
  });
  return { puts, deletes, deleteRanges };
}

function expectationHolds(expected: number | undefined, found: RecordVersion | null): boolean {
  return expected === undefined || expected === (found?.versionId ?? NO_RECORD);
}

function applyPut(target: WriteTarget, put: PutRequest, timestampMs: number): PutResponse {
  const key = encodeKey(put.key, target.keySorting);
  const found = target.version(key);
  if (!expectationHolds(put.expectedVersionId, found)) {
    return { status: Status.UNEXPECTED_VERSION_ID, version: undefined };
  }
  const nextCount = found === null ? 0 : found.modificationsCount + 1;
  const version = {
    versionId: target.takeVersionId(put.overrideVersionId),
    modificationsCount: put.overrideModificationsCount ?? nextCount,
    createdTimestamp: found?.createdTimestamp ?? timestampMs,
  };
  const clientIdentity = put.clientIdentity;
  const head = { ...version, modifiedTimestamp: timestampMs, clientIdentity };
  target.put(key, encodeRecord(head, put.value), version, found);
  const shown: Version = { ...version, modifiedTimestamp: timestampMs };
  if (clientIdentity !== undefined) shown.clientIdentity = clientIdentity;
  return { status: Status.OK, version: shown };
}

function applyDelete(target: WriteTarget, request: DeleteRequest): DeleteResponse {
  const key = encodeKey(request.key, target.keySorting);
  const found = target.version(key);
  if (!expectationHolds(request.expectedVersionId, found)) {
    return { status: Status.UNEXPECTED_VERSION_ID };
  }
  if (found === null) return { status: Status.KEY_NOT_FOUND };
  target.remove(key);
  return { status: Status.OK };
}
