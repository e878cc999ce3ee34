import assert from "node:assert/strict";
import fc from "fast-check";
import {
  decodeKey,
  encodeKey,
  INTERNAL_PREFIX,
  keyBytes,
  keyOfBytes,
  type KeySorting,
} from "../../../sidecar/state/key-order.ts";

const piece = fc.constantFrom(
  "a",
  "b",
  "/",
  "//",
  "",
  "é",
  "日",
  "😀",
  "\uffee",
  "\x00",
  "__oxia/",
  "z",
);
const key = fc.array(piece, { maxLength: 8 }).map((pieces) => pieces.join(""));
const sorting = fc.constantFrom<KeySorting>("hierarchical", "natural");

/** The rule, written down plainly. */
function modelCompare(a: string, b: string, order: KeySorting): number {
  const internal = Number(a.startsWith(INTERNAL_PREFIX)) - Number(b.startsWith(INTERNAL_PREFIX));
  if (internal !== 0) return internal;
  if (order === "natural") return Buffer.compare(Buffer.from(a), Buffer.from(b));
  const depth = (text: string): number => text.split("/").length - Number(text.endsWith("//"));
  const bytes = (text: string): Buffer =>
    Buffer.concat(Array.from(text).map((c) => (c === "/" ? Buffer.from([0xff]) : Buffer.from(c))));
  return depth(a) - depth(b) || Buffer.compare(bytes(a), bytes(b));
}

describe("key order", () => {
  it("is the order of the encoded bytes", () => {
    fc.assert(
      fc.property(key, key, sorting, (a, b, order) => {
        const expected = Math.sign(modelCompare(a, b, order));
        const [left, right] = [encodeKey(a, order), encodeKey(b, order)];
        assert.equal(Number(left > right) - Number(left < right), expected);
        assert.equal(Buffer.compare(keyBytes(left), keyBytes(right)), expected);
      }),
      { numRuns: 2_000 },
    );
  });

  it("puts the children of a path, and nothing else, between its slash and its double slash", () => {
    const path = fc.array(fc.constantFrom("a", "b", "ab", "é", "~"), {
      minLength: 1,
      maxLength: 4,
    });
    const pathOf = (pieces: readonly string[]): string => pieces.map((p) => `/${p}`).join("");
    fc.assert(
      fc.property(path, path, (parent, other) => {
        const [from, to] = [`${pathOf(parent)}/`, `${pathOf(parent)}//`];
        const at = encodeKey(pathOf(other), "hierarchical");
        const between = encodeKey(from, "hierarchical") <= at && at < encodeKey(to, "hierarchical");
        const child = pathOf(other).startsWith(from) && other.length === parent.length + 1;
        assert.equal(between, child);
      }),
      { numRuns: 2_000 },
    );
  });

  it("loses nothing", () => {
    fc.assert(
      fc.property(key, sorting, (a, order) => {
        const encoded = encodeKey(a, order);
        assert.equal(decodeKey(encoded, order), a);
        assert.equal(keyOfBytes(keyBytes(encoded)), encoded);
        assert.equal(keyBytes(encoded).length, encoded.length);
      }),
    );
  });
});
