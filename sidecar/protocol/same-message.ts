/**
 * True when two messages, or arrays of them, say the same: plain values, compared part by part. A
 * text of each would be much longer in the making.
 */
export function sameMessage(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (!isComposed(a) || !isComposed(b)) return false;
  const names = Object.keys(a);
  if (names.length !== Object.keys(b).length) return false;
  for (const name of names) if (!(name in b) || !sameMessage(a[name], b[name])) return false;
  return true;
}

function isComposed(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null;
}
