import type { CheckContext, Checker } from "./checker.ts";

/** Snapshots of one replica that may begin with no fault between them. */
const SNAPSHOTS_MAX = 40;

/**
 * I20: recovery costs no more than what happened calls for: a replica that nothing disturbs is not
 * sent one snapshot after another (L4).
 */
export function boundedEffort(context: CheckContext): Checker {
  const begun = new Map<string, number>();
  return {
    invariant: "I20",
    faultInjected: () => begun.clear(),
    snapshotBegun(node, peer) {
      const name = `${node} ${peer.targetUid}`;
      const count = (begun.get(name) ?? 0) + 1;
      begun.set(name, count);
      if (count <= SNAPSHOTS_MAX) return;
      context.violate("I20", `snapshot ${count} of ${peer.targetUid} begins, and nothing happened`);
    },
  };
}
