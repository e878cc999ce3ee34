import { compareEntryIds, LOG_START } from "../../../sidecar/protocol/entry.ts";
import { text } from "../log-book.ts";
import type { CheckContext, Checker } from "./checker.ts";

/**
 * I15: the record's commitFloor never falls, names an entry that is committed, and every leader
 * that begins to serve, and has no successor that did, has committed it (R6).
 */
export function floorIsHeldByLeaders(context: CheckContext): Checker {
  let floor = { term: -1, offset: -1 };
  return {
    invariant: "I15",
    recordSaved(record) {
      const { commitFloor } = record;
      const name = `(${commitFloor.term}, ${commitFloor.offset})`;
      if (compareEntryIds(commitFloor, floor) < 0) {
        context.violate("I15", `the floor fell from (${floor.term}, ${floor.offset}) to ${name}`);
      }
      floor = commitFloor;
      const committed = context.committed.at(floor.offset);
      if (committed !== null && committed.term === floor.term) return;
      const what = committed === null ? "which nobody has committed" : `not ${text(committed)}`;
      context.violate("I15", `the floor was raised to ${name}, ${what}`);
    },
    sample({ node, status, before }) {
      const begins = status.serving && (before?.serving !== true || before.term !== status.term);
      if (!begins) return;
      const { commit = LOG_START } = status;
      // Its successor raised it: see I4.
      if (status.term < floor.term && context.committed.has(commit)) return;
      if (compareEntryIds(commit, floor) >= 0) return;
      const below = `below the floor (${floor.term}, ${floor.offset})`;
      context.violate("I15", `${node} serves term ${status.term} from ${text(commit)}, ${below}`);
    },
  };
}
