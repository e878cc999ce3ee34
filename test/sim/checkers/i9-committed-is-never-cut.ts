import { samePosition } from "../../../sidecar/protocol/entry.ts";
import { text } from "../log-book.ts";
import type { CheckContext, Checker } from "./checker.ts";
import type { SeenStatus } from "./seen-status.ts";

/**
 * I9: a log is never cut at or below what its replica holds durably and knows to be committed (R9):
 * the head goes on from there. (What no disk holds yet, a full disk may make it forget, as a crash
 * would.)
 */
export function committedIsNeverCut(context: CheckContext): Checker {
  const judge = (node: string, status: SeenStatus, before: SeenStatus): void => {
    const { head } = status;
    const claimed = context.claims.of(before.replicaUid).offset;
    const durable = Math.max(before.appliedOffset, Math.min(before.commitOffset, claimed));
    const commit = context.committed.at(durable);
    if (commit === null || head === undefined || commit.offset < 0) return;
    if (head.offset < commit.offset) {
      context.violate("I9", `${node} cut its log to ${text(head)}, ${text(commit)} was committed`);
      return;
    }
    // Only a head that is not the one of the look before can have lost anything.
    if (before.head !== undefined && samePosition(before.head, head)) return;
    const own = context.committed.ancestor(head, commit.offset);
    if (own === null || samePosition(own, commit)) return;
    context.violate("I9", `${node} replaced the committed ${text(commit)} by ${text(own)}`);
  };
  return {
    invariant: "I9",
    sample({ node, status, before }) {
      if (before?.replicaUid === status.replicaUid) judge(node, status, before);
    },
  };
}
