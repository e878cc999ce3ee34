import { ServingStatus } from "../../../sidecar/protocol/status.ts";
import { text } from "../log-book.ts";
import type { CheckContext, Checker } from "./checker.ts";

/**
 * I11: only voters are counted in a quorum, by the uid that the record names. When a leader's
 * commit offset moves, it moves to an entry of its own term (R7), and a majority of every full
 * voter set claims that entry: replicas that were voters in the record at some time of the term, or
 * were not yet known to the leader to be none ({@link VoterHistory}).
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
      const holders: string[] = [];
      const holds = (uid: string, on: string): boolean => {
        const claims = context.claims.covers(uid, commit);
        if (claims) holders.push(`${on}=${uid}`);
        return claims;
      };
      if (context.voters.quorum(term, (uid, on) => uid !== replicaUid && holds(uid, on))) return;
      // Then the leader counted itself, and must hold it durably.
      context.claims.claimPosition(replicaUid, commit);
      if (context.voters.quorum(term, holds)) return;
      const who = [...new Set(holders)].join(", ") || "nobody";
      context.violate("I11", `${node} committed ${text(commit)} in term ${term}, held by ${who}`);
    },
  };
}
