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
      const expected = JSON.stringify(context.model.pairs(appliedOffset));
      const actual = JSON.stringify(pairs.toSorted(([a], [b]) => (a < b ? -1 : 1)));
      if (expected === actual) return;
      context.violate("I6", `${node} at offset ${appliedOffset}: ${actual} instead of ${expected}`);
    },
  };
}
