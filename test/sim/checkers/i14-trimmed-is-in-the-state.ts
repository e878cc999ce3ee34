import { LOG_START } from "../../../sidecar/protocol/entry.ts";
import type { CheckContext, Checker } from "./checker.ts";

const INSTALLING = "Installing";

/**
 * I14: the log is trimmed no further than the state that is durable (R17): a process that dies now
 * finds every entry that its state lacks.
 */
export function trimmedIsInTheState(context: CheckContext): Checker {
  return {
    invariant: "I14",
    sample({ node, status }) {
      const { logFirstOffset, durableOffset, recovery } = status;
      // While a snapshot replaces both, neither is what the other is measured by.
      if (recovery?.phase === INSTALLING || logFirstOffset - 1 <= durableOffset) return;
      const what = `${node}'s log begins at ${logFirstOffset}`;
      context.violate("I14", `${what}, its durable state ends at ${durableOffset}`);
    },
    boot({ node, status }) {
      const { logFirstOffset, commit = LOG_START } = status;
      if (logFirstOffset - 1 <= commit.offset) return;
      const what = `${node} came back with a log from ${logFirstOffset}`;
      context.violate("I14", `${what} and a state that ends at ${commit.offset}`);
    },
  };
}
