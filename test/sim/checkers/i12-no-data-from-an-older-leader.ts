import type { Peer } from "../../../sidecar/protocol/gen/resilver.ts";
import type { CheckContext, Checker } from "./checker.ts";

/**
 * I12: no replica takes data from a leader of an older term than any term the coordinator told this
 * node, be it told to a replica whose disk is gone since (R4, H4).
 */
export function noDataFromAnOlderLeader(context: CheckContext): Checker {
  const told = new Map<string, number>();
  const judge = (node: string, peer: Peer, what: string): void => {
    const term = told.get(node) ?? -1;
    if (peer.term >= term) return;
    const from = `the leader of term ${peer.term}`;
    context.violate("I12", `${node} took ${what} from ${from}, it had been told of term ${term}`);
  };
  return {
    invariant: "I12",
    called(name, node, request) {
      if (name !== "newTerm" && name !== "enrol") return;
      const { term } = request as { readonly term: number };
      told.set(node, Math.max(told.get(node) ?? -1, term));
    },
    dataTaken: judge,
  };
}
