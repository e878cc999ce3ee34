import { LIMITS } from "../limits.ts";
import {
  type GetRequest,
  type GetResponse,
  KeyComparisonType,
  type ListRequest,
  type RangeScanRequest,
  Status,
} from "../protocol/gen/oxia-client.ts";
import {
  classRange,
  decodeKey,
  encodeKey,
  type EncodedKey,
  encodeRange,
  type KeyRange,
  type KeySorting,
  successor,
} from "./key-order.ts";
import type { ReadView } from "./read-view.ts";
import { clientVersion, recordValue } from "./record.ts";

/** What reads are answered from. */
export interface RecordSource {
  readonly keySorting: KeySorting;
  /** The present record, null when there is none. */
  record(key: EncodedKey): Uint8Array | null;
  /** A view the caller closes. */
  view(range: KeyRange, reverse: boolean): ReadView;
}

const NOT_FOUND: GetResponse = Object.freeze({
  status: Status.KEY_NOT_FOUND,
  version: undefined,
});

/** Answers a get: the key itself, or its neighbour of the same kind (user or internal). */
export function readOne(source: RecordSource, request: GetRequest): GetResponse {
  const key = encodeKey(request.key, source.keySorting);
  if (request.comparisonType === KeyComparisonType.EQUAL) {
    const record = source.record(key);
    return record === null ? NOT_FOUND : found(record, request.includeValue, undefined);
  }
  const { range, reverse } = neighbours(key, request.comparisonType);
  const view = source.view(range, reverse);
  try {
    const item = view.next();
    if (item === undefined) return NOT_FOUND;
    return found(item.record(), request.includeValue, decodeKey(item.key, source.keySorting));
  } finally {
    view.close();
  }
}

function neighbours(
  key: EncodedKey,
  comparison: KeyComparisonType,
): { readonly range: KeyRange; readonly reverse: boolean } {
  const { from, to } = classRange(key);
  switch (comparison) {
    case KeyComparisonType.FLOOR:
      return { range: { from, to: successor(key) }, reverse: true };
    case KeyComparisonType.LOWER:
      return { range: { from, to: key }, reverse: true };
    case KeyComparisonType.HIGHER:
      return { range: { from: successor(key), to }, reverse: false };
    default:
      return { range: { from: key, to }, reverse: false };
  }
}

function found(record: Uint8Array, includeValue: boolean, key: string | undefined): GetResponse {
  const response: GetResponse = { status: Status.OK, version: clientVersion(record) };
  if (includeValue) response.value = recordValue(record);
  if (key !== undefined) response.key = key;
  return response;
}

/** More than tags, lengths, status and the numbers of a version take in a message. */
const ANSWER_BYTES = 96;

/** What a get's answer takes in a message at most: pages are bounded by it. */
export function messageBytesOf(response: GetResponse): number {
  const value = response.value?.byteLength ?? 0;
  const key = Buffer.byteLength(response.key ?? "");
  return ANSWER_BYTES + value + key + Buffer.byteLength(response.version?.clientIdentity ?? "");
}

/** Keys of a range in pages of at most `listKeysPerMessageMax`. */
export function* readList(
  source: RecordSource,
  request: ListRequest,
): Generator<readonly string[]> {
  const { startInclusive, endExclusive, includeInternalKeys } = request;
  const range = encodeRange(startInclusive, endExclusive, includeInternalKeys, source.keySorting);
  const view = source.view(range, false);
  try {
    let page: string[] = [];
    for (let item = view.next(); item !== undefined; item = view.next()) {
      page.push(decodeKey(item.key, source.keySorting));
      if (page.length >= LIMITS.listKeysPerMessageMax) {
        yield page;
        page = [];
      }
    }
    if (page.length > 0) yield page;
  } finally {
    view.close();
  }
}

/**
 * Records of a range in pages of at most `listKeysPerMessageMax` records and
 * `readBytesPerMessageMax` bytes; a single larger record has a page of its own.
 */
export function* readScan(
  source: RecordSource,
  request: RangeScanRequest,
): Generator<readonly GetResponse[]> {
  const { startInclusive, endExclusive, includeInternalKeys } = request;
  const range = encodeRange(startInclusive, endExclusive, includeInternalKeys, source.keySorting);
  const view = source.view(range, false);
  try {
    let page: GetResponse[] = [];
    let bytes = 0;
    for (let item = view.next(); item !== undefined; item = view.next()) {
      const response = found(item.record(), true, decodeKey(item.key, source.keySorting));
      const size = messageBytesOf(response);
      const fits = bytes + size <= LIMITS.readBytesPerMessageMax;
      if (page.length > 0 && (!fits || page.length >= LIMITS.listKeysPerMessageMax)) {
        yield page;
        page = [];
        bytes = 0;
      }
      page.push(response);
      bytes += size;
    }
    if (page.length > 0) yield page;
  } finally {
    view.close();
  }
}
