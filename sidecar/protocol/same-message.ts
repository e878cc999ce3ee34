type Fields = Readonly<Record<string, unknown>>;

/**
 * True when two messages of one type say the same; a field that is not there is one that is
 * `undefined`. For the plain data that messages are it is many times faster than Node's
 * `isDeepStrictEqual`.
 */
export function sameMessage(one: unknown, other: unknown): boolean {
  if (one === other) return true;
  if (typeof one !== "object" || typeof other !== "object") return false;
  if (one === null || other === null) return false;
  if (one instanceof Uint8Array) {
    return other instanceof Uint8Array && Buffer.compare(one, other) === 0;
  }
  if (Array.isArray(one)) return Array.isArray(other) && sameList(one, other);
  return sameFields(one as Fields, other as Fields);
}

function sameList(one: readonly unknown[], other: readonly unknown[]): boolean {
  return one.length === other.length && one.every((item, index) => sameMessage(item, other[index]));
}

function sameFields(one: Fields, other: Fields): boolean {
  for (const name in one) if (!sameMessage(one[name], other[name])) return false;
  for (const name in other) if (one[name] === undefined && other[name] !== undefined) return false;
  return true;
}
