import type { CheckContext, Checker } from "./checker.ts";

/**
 * I7: nothing a leader ever showed disappears. Whatever any replica says is committed is one log
 * that only grows, and all that clients were shown is in it.
 */
export function nothingExposedDisappears(context: CheckContext): Checker {
  return {
    invariant: "I7",
    sample({ node, status, before }) {
      const { commit } = status;
      if (commit === undefined || commit.offset < 0) return;
      if (before?.commit?.offset === commit.offset && before.commit.crc === commit.crc) return;
      const conflict = context.committed.advance(commit);
      if (conflict !== null) context.violate("I7", `${node}: ${conflict.message}`);
    },
    answered({ kind, node, key, value }) {
      if (kind !== "read" || value === null || context.model.putOf(value) !== null) return;
      context.violate("I7", `${node} showed ${key}=${value}, which no committed entry holds`);
    },
  };
}
