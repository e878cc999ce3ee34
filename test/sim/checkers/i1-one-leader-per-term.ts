import { ServingStatus } from "../../../sidecar/protocol/status.ts";
import type { CheckContext, Checker } from "./checker.ts";

/**
 * I1: one leader per term, and one process of it (R7: a restarted leader would lead the term
 * twice).
 */
export function oneLeaderPerTerm(context: CheckContext): Checker {
  const leaders = new Map<number, string>();
  return {
    invariant: "I1",
    sample({ node, status }) {
      if (status.status !== ServingStatus.LEADER) return;
      const own = `${node} ${status.replicaUid} boot ${status.bootCounter}`;
      const other = leaders.get(status.term) ?? own;
      leaders.set(status.term, other);
      if (other !== own) context.violate("I1", `term ${status.term} is led by ${other} and ${own}`);
    },
  };
}
