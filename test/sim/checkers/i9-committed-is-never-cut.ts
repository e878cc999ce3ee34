import { samePosition } from "../../../sidecar/protocol/entry.ts";
import { text } from "../log-book.ts";
import type { CheckContext, Checker } from "./checker.ts";

/**
 * I9: a log is never cut at or below what its replica knows to be committed (R9): the head goes on
 * from the commit position of the look before.
 */
export function committedIsNeverCut(context: CheckContext): Checker {
  return {
    invariant: "I9",
    sample({ node, status, before }) {
      if (before?.replicaUid !== status.replicaUid) return;
      const { commit } = before;
      const { head } = status;
      if (commit === undefined || head === undefined || commit.offset < 0) return;
      if (head.offset < commit.offset) {
        context.violate(
          "I9",
          `${node} cut its log to ${text(head)}, ${text(commit)} was committed`,
        );
        return;
      }
      // Only a head that is not the one of the look before can have lost anything.
      if (before.head !== undefined && samePosition(before.head, head)) return;
      const own = context.committed.ancestor(head, commit.offset);
      if (own === null || samePosition(own, commit)) return;
      context.violate("I9", `${node} replaced the committed ${text(commit)} by ${text(own)}`);
    },
  };
}
