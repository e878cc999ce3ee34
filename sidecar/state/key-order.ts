/**
 * Key order as byte order. An encoded key is a "binary string": one character (0-255) per byte, so
 * that JavaScript's string order is byte order and the same value serves as map key and sort key.
 *
 *   user key      0x10 [depth, 2 bytes, hierarchical only] UTF-8
 *   internal key  0x20 [the same] UTF-8                       (sorts last)
 *   own records   0x00, 0x01                                  (never seen outside)
 *
 * Hierarchical order, as Oxia has it: by depth, the count of "/", then by bytes, with "/" above
 * every other byte (0xff, which UTF-8 never uses). A trailing "//" counts as one: it is written as
 * the end of a range, so that `/a/` to `/a//` are exactly the direct children of `/a`.
 */

/** See the file header. */
export type EncodedKey = string;
/** Order of the keys of a shard; fixed when it is first opened. */
export type KeySorting = "hierarchical" | "natural";
/** `from <= key < to`. */
export interface KeyRange {
  readonly from: EncodedKey;
  readonly to: EncodedKey;
}

/** Keys with this prefix are the store's own. */
export const INTERNAL_PREFIX = "__oxia/";
/** The checkpoint's description. */
export const META_KEY: EncodedKey = "\x00";
/** Present while a checkpoint is half written: the redo journal must be finished. */
export const REDO_KEY: EncodedKey = "\x01";

const USER = "\x10";
const USER_END = "\x11";
const INTERNAL = "\x20";
const INTERNAL_END = "\x21";
/** First encoded key that can belong to a client's record. */
export const RECORDS_FROM: EncodedKey = USER;
/** Beyond every encoded key that can belong to a client's record. */
export const RECORDS_TO: EncodedKey = INTERNAL_END;

const ASCII = /^[^\u0080-\uffff]*$/;
const SLASH = 47;
/** "/" in an encoded hierarchical key. */
const HIGH_SLASH = "\xff";

function levelPrefix(start: string, level: number): string {
  return start + String.fromCharCode((level >> 8) & 0xff, level & 0xff);
}
const LEVELS_CACHED = 64;
const userLevels = Array.from({ length: LEVELS_CACHED }, (_, level) => levelPrefix(USER, level));

function depthOf(key: string): number {
  let count = 0;
  for (let at = 0; at < key.length; at++) if (key.charCodeAt(at) === SLASH) count++;
  return key.endsWith("//") ? count - 1 : count;
}

/** Encodes a key for `sorting`. Order-preserving and one to one for well-formed strings. */
export function encodeKey(key: string, sorting: KeySorting): EncodedKey {
  const bytes = ASCII.test(key) ? key : Buffer.from(key, "utf8").toString("latin1");
  const start = key.startsWith(INTERNAL_PREFIX) ? INTERNAL : USER;
  const encoded = sorting === "natural" ? start + bytes : inHierarchy(start, depthOf(key), bytes);
  // Reading a character makes V8 join the parts; map lookups of a joined string cost half.
  encoded.charCodeAt(0);
  return encoded;
}

function inHierarchy(start: string, level: number, bytes: string): EncodedKey {
  const cached = start === USER ? userLevels[level] : undefined;
  const prefix = cached ?? levelPrefix(start, level);
  return prefix + (level === 0 ? bytes : bytes.replaceAll("/", HIGH_SLASH));
}

/** The key that was encoded. */
export function decodeKey(encoded: EncodedKey, sorting: KeySorting): string {
  const natural = sorting === "natural";
  const bytes = natural ? encoded.slice(1) : encoded.slice(3).replaceAll(HIGH_SLASH, "/");
  return ASCII.test(bytes) ? bytes : Buffer.from(bytes, "latin1").toString("utf8");
}

/**
 * The encoded range of a request; an empty `end` means to the end. Internal keys only when asked
 * for.
 */
export function encodeRange(
  start: string,
  end: string,
  includeInternal: boolean,
  sorting: KeySorting,
): KeyRange {
  const last = includeInternal ? INTERNAL_END : USER_END;
  const to = end === "" ? last : encodeKey(end, sorting);
  return { from: start === "" ? USER : encodeKey(start, sorting), to: to < last ? to : last };
}

/**
 * All keys a comparison with `encoded` may answer with: user keys, or internal ones for an internal
 * key.
 */
export function classRange(encoded: EncodedKey): KeyRange {
  return encoded >= INTERNAL ? { from: INTERNAL, to: INTERNAL_END } : { from: USER, to: USER_END };
}

/** The first encoded key after `encoded`. */
export function successor(encoded: EncodedKey): EncodedKey {
  return `${encoded}\x00`;
}

/** The bytes the engine keeps. */
export function keyBytes(encoded: EncodedKey): Buffer {
  return Buffer.from(encoded, "latin1");
}

/** Inverse of {@link keyBytes}. */
export function keyOfBytes(bytes: Uint8Array): EncodedKey {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
}
