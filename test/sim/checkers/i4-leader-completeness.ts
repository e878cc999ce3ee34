import { LOG_START, samePosition } from "../../../sidecar/protocol/entry.ts";
import { text } from "../log-book.ts";
import type { CheckContext, Checker } from "./checker.ts";

/**
 * I4: a leader that begins to serve holds every entry that was committed, hence every acknowledged
 * one. Acks that come late, to a process that stood still, may let one serve after its successor
 * has: it holds what was committed before, and its reads find no majority (R15).
 */
export function leaderCompleteness(context: CheckContext): Checker {
  return {
    invariant: "I4",
    sample({ node, status, before }) {
      const begins = status.serving && (before?.serving !== true || before.term !== status.term);
      if (!begins) return;
      const { tip } = context.committed;
      const commit = status.commit ?? LOG_START;
      if (status.term < tip.term && context.committed.has(commit)) return;
      const own =
        commit.offset < tip.offset ? null : context.committed.ancestor(commit, tip.offset);
      if (own !== null && samePosition(own, tip)) return;
      const what = `${node} serves term ${status.term} with commit ${text(commit)}`;
      context.violate("I4", `${what}, without the committed ${text(tip)}`);
    },
  };
}
