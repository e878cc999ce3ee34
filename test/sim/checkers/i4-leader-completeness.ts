import { LOG_START, samePosition } from "../../../sidecar/protocol/entry.ts";
import { text } from "../log-book.ts";
import type { CheckContext, Checker } from "./checker.ts";

/**
 * I4: a leader that begins to serve holds every entry that was committed, hence every acknowledged
 * one.
 */
export function leaderCompleteness(context: CheckContext): Checker {
  return {
    invariant: "I4",
    sample({ node, status, before }) {
      const begins = status.serving && (before?.serving !== true || before.term !== status.term);
      if (!begins) return;
      const { tip } = context.committed;
      const commit = status.commit ?? LOG_START;
      const own =
        commit.offset < tip.offset ? null : context.committed.ancestor(commit, tip.offset);
      if (own !== null && samePosition(own, tip)) return;
      const what = `${node} serves term ${status.term} with commit ${text(commit)}`;
      context.violate("I4", `${what}, without the committed ${text(tip)}`);
    },
  };
}
