import { LOG_START } from "../../../sidecar/protocol/entry.ts";
import { text } from "../log-book.ts";
import type { CheckContext, Checker } from "./checker.ts";

/**
 * I13: after any crash a replica is old-complete or new-complete, never a mixture: it keeps its
 * identity unless its disk lost something, its state is a committed prefix (whose contents I6
 * compares) and its log goes on from there.
 */
export function installIsAtomic(context: CheckContext): Checker {
  const identities = new Map<string, string>();
  return {
    invariant: "I13",
    sample({ node, status }) {
      identities.set(node, status.replicaUid);
    },
    boot({ node, status, damaged }) {
      const before = identities.get(node);
      identities.set(node, status.replicaUid);
      if (before !== undefined && before !== status.replicaUid && !damaged) {
        const why = `wipe reason ${status.wipeReason}`;
        context.violate("I13", `${node} was ${before}, is ${status.replicaUid} (${why}) unharmed`);
      }
      const { commit = LOG_START, head = LOG_START, logFirstOffset } = status;
      if (commit.offset >= 0 && !context.committed.has(commit)) {
        context.violate(
          "I13",
          `${node} came back with a state at ${text(commit)}, never committed`,
        );
      }
      if (logFirstOffset > commit.offset + 1 || head.offset < commit.offset) {
        const log = `${logFirstOffset} to ${head.offset}`;
        context.violate("I13", `${node}: state at ${commit.offset} does not fit its log, ${log}`);
      }
    },
  };
}
