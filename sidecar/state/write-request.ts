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
/** Keys written between two steps: some milliseconds' work. */
const KEYS_PER_STEP = 1_000;
/** What finding the keys of a range costs, in keys written. */
const KEYS_PER_RANGE = 10;

/** Whether {@link writeSteps} may stop in the middle of the request, and readers run meanwhile. */
export function takesSteps({ puts, deletes, deleteRanges }: WriteRequest): boolean {
  return deleteRanges.length > 0 || puts.length + deletes.length > KEYS_PER_STEP;
}

/**
 * Applies one request: puts, then deletes, then delete ranges; in steps, since there may be many,
 * and millions of keys in a range. Nothing else may be written between them. An item whose expected
 * version does not match gets a status of its own; the others go ahead. Deterministic: depends on
 * the target and the arguments only.
 */
export function* writeSteps(
  target: WriteTarget,
  request: WriteRequest,
  timestampMs: number,
): Generator<void, WriteResponse, void> {
  const response: WriteResponse = { puts: [], deletes: [], deleteRanges: [] };
  let written = 0;
  const stepIsFull = (): boolean => {
    if (written < KEYS_PER_STEP) return false;
    written = 0;
    return true;
  };
  for (const put of request.puts) {
    if (stepIsFull()) yield;
    written += 1;
    response.puts.push(applyPut(target, put, timestampMs));
  }
  for (const remove of request.deletes) {
    if (stepIsFull()) yield;
    written += 1;
    response.deletes.push(applyDelete(target, remove));
  }
  for (const { startInclusive, endExclusive } of request.deleteRanges) {
    // Internal keys are never in a client's range, even one without an end.
    let range = encodeRange(startInclusive, endExclusive, false, target.keySorting);
    for (;;) {
      if (stepIsFull()) yield;
      const keys = target.keys(range, KEYS_PER_STEP);
      written += KEYS_PER_RANGE + keys.length;
      for (const key of keys) target.remove(key);
      const last = keys.at(-1);
      if (last === undefined || keys.length < KEYS_PER_STEP) break;
      // What is removed is not found again.
      range = { ...range, from: last };
    }
    response.deleteRanges.push({ status: Status.OK });
  }
  return response;
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
  const modificationsCount = put.overrideModificationsCount ?? nextCount;
  const createdTimestamp = found?.createdTimestamp ?? timestampMs;
  const modifiedTimestamp = timestampMs;
  const { clientIdentity } = put;
  // Written out, without spreads: this runs for each put on each replica.
  const version = { versionId, modificationsCount, createdTimestamp };
  const head = {
    versionId,
    modificationsCount,
    createdTimestamp,
    modifiedTimestamp,
    clientIdentity,
  };
  target.put(key, encodeRecord(head, put.value), version, found);
  const shown: Version = { versionId, modificationsCount, createdTimestamp, modifiedTimestamp };
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
