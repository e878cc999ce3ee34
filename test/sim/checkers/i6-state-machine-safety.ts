import type { CheckContext, Checker } from "./checker.ts";

/** I6: equal applied offset means equal checksum, and the contents that the committed log makes. */
export function stateMachineSafety(context: CheckContext): Checker {
  const checksums = new Map<number, { readonly node: string; readonly checksum: string }>();
  return {
    invariant: "I6",
    stateSeen({ node, appliedOffset, checksum, pairs }) {
      const known = checksums.get(appliedOffset) ?? { node, checksum };
      checksums.set(appliedOffset, known);
      if (known.checksum !== checksum) {
        const both = `${known.node} has ${known.checksum}, ${node} has ${checksum}`;
        context.violate("I6", `states differ at offset ${appliedOffset}: ${both}`);
        return;
      }
      const expected = context.model.pairs(appliedOffset);
      const actual = pairs.toSorted(([a], [b]) => (a < b ? -1 : 1));
      if (samePairs(expected, actual)) return;
      const what = `${JSON.stringify(actual)} instead of ${JSON.stringify(expected)}`;
      context.violate("I6", `${node} at offset ${appliedOffset}: ${what}`);
    },
  };
}

type Pairs = readonly (readonly [string, string])[];

function samePairs(one: Pairs, other: Pairs): boolean {
  if (one.length !== other.length) return false;
  return one.every(([key, value], index) => other[index]?.[0] === key && other[index][1] === value);
}
