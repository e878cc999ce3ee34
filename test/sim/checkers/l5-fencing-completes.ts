import type { CheckContext, Checker } from "./checker.ts";

/** Longer than fencing takes on a disk that nothing is wrong with. */
const FENCING_MS_MAX = 2_000;

/**
 * L5: fencing of a node completes, also while a snapshot is on its way to it (H16). Not told of
 * nodes whose disk or process the nemesis holds up.
 */
export function fencingCompletes(context: CheckContext): Checker {
  return {
    invariant: "L5",
    served(name, node, tookMs) {
      if (name !== "newTerm" || tookMs <= FENCING_MS_MAX) return;
      context.violate("L5", `fencing of ${node} took ${tookMs.toFixed(0)} ms`);
    },
  };
}
