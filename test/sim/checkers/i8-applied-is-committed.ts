import type { CheckContext, Checker } from "./checker.ts";

/**
 * I8: what a replica applied is committed and in its log, its state on disk is not ahead of what it
 * applied, and its commit offset never falls while its process lives.
 */
export function appliedIsCommitted(context: CheckContext): Checker {
  return {
    invariant: "I8",
    sample({ node, status, before }) {
      const { appliedOffset, commitOffset, durableOffset, head } = status;
      if (appliedOffset > commitOffset || appliedOffset > (head?.offset ?? -1)) {
        const limit = `commit ${commitOffset}, head ${head?.offset ?? -1}`;
        context.violate("I8", `${node} applied ${appliedOffset}: ${limit}`);
      }
      if (durableOffset > appliedOffset) {
        const what = `${node} has a durable state at ${durableOffset}, applied ${appliedOffset}`;
        context.violate("I8", what);
      }
      if (before?.replicaUid !== status.replicaUid || commitOffset >= before.commitOffset) return;
      context.violate("I8", `${node}'s commit fell from ${before.commitOffset} to ${commitOffset}`);
    },
  };
}
