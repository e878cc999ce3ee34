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
  /** The first `max` keys of present records, in order, as of the call. */
  keys(range: KeyRange, max: number): readonly EncodedKey[];
  /** The id of the next version; the one asked for, when there is one. Null: none is left. */
  takeVersionId(wanted: number | undefined): number | null;
}

const NO_RECORD = -1;
/** Keys of a delete range between two steps: about a millisecond's work. */
const KEYS_PER_STEP = 1_000;

/**
 * Applies one request: puts, then deletes, then delete ranges; in steps, since a range may hold
 * millions of keys. Nothing else may be written between them. An item whose expected version does
 * not match gets a status of its own; the others go ahead. Deterministic: depends on the target and
 * the arguments only.
 */
export function* writeSteps(
  target: WriteTarget,
  request: WriteRequest,
  timestampMs: number,
): Generator<void, WriteResponse, void> {
  const puts = request.puts.map((put) => applyPut(target, put, timestampMs));
  const deletes = request.deletes.map((remove) => applyDelete(target, remove));
  const deleteRanges = [];
  for (const { startInclusive, endExclusive } of request.deleteRanges) {
    // Internal keys are never in a client's range, even one without an end.
    let range = encodeRange(startInclusive, endExclusive, false, target.keySorting);
    for (;;) {
      const keys = target.keys(range, KEYS_PER_STEP);
      for (const key of keys) target.remove(key);
      const last = keys.at(-1);
      if (last === undefined || keys.length < KEYS_PER_STEP) break;
      // What is removed is not found again.
      range = { ...range, from: last };
      yield;
    }
    deleteRanges.push({ status: Status.OK });
  }
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
  const versionId = target.takeVersionId(put.overrideVersionId);
  // The only status that says: not written, because of versions.
  if (versionId === null) return { status: Status.UNEXPECTED_VERSION_ID, version: undefined };
  const nextCount = found === null ? 0 : found.modificationsCount + 1;
  const version = {
    versionId,
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
