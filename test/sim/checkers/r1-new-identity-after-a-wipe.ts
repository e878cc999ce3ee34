import type { CheckContext, Checker } from "./checker.ts";

/**
 * R1: a replica that lost a directory, or the cookie in one, is another replica. It comes back with
 * a uid that nobody has seen before: not its own, and none of its predecessors' either.
 */
export function newIdentityAfterAWipe(context: CheckContext): Checker {
  /** By node: every identity that it ever had. */
  const known = new Map<string, Set<string>>();
  return {
    invariant: "R1",
    sample({ node, status }) {
      const uids = known.get(node) ?? new Set();
      known.set(node, uids.add(status.replicaUid));
    },
    boot({ node, status, wiped }) {
      if (!wiped || known.get(node)?.has(status.replicaUid) !== true) return;
      context.violate("R1", `${node} lost data on its disk, and still is ${status.replicaUid}`);
    },
  };
}
