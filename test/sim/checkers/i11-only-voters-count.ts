import { ServingStatus } from "../../../sidecar/protocol/status.ts";
import { text } from "../log-book.ts";
import type { CheckContext, Checker } from "./checker.ts";

/**
 * I11: only voters are counted in a quorum, by the uid that the record names. When a leader's
 * commit offset moves, it moves to an entry of its own term (R7), and a majority of the full
 * ensemble claims that entry: replicas that were voters in the record at some time of the term.
 */
export function onlyVotersCount(context: CheckContext): Checker {
  return {
    invariant: "I11",
    sample({ node, status, before }) {
      const { commit, term, replicaUid } = status;
      if (status.status !== ServingStatus.LEADER || commit === undefined) return;
      // What it had committed when it began to lead was some earlier leader's decision.
      if (before === null || before.term !== term || before.status !== status.status) return;
      if (before.commitOffset === commit.offset) return;
      if (commit.term !== term) {
        const what = `${node} leads term ${term} and committed ${text(commit)} by counting (R7)`;
        context.violate("I11", what);
      }
      const voters = context.votersOf(term);
      const majority = Math.floor(context.ensembleSize / 2) + 1;
      const others = [...voters].filter(
        (uid) => uid !== replicaUid && context.claims.covers(uid, commit),
      );
      if (others.length >= majority) return;
      // Then the leader counted itself, and must hold it durably.
      context.claims.claimPosition(replicaUid, commit);
      if (others.length + 1 >= majority) return;
      const who = others.length === 0 ? "nobody else" : others.join(", ");
      context.violate("I11", `${node} committed ${text(commit)} in term ${term}, held by ${who}`);
    },
  };
}
