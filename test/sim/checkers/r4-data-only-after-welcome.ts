import type { Peer } from "../../../sidecar/protocol/gen/resilver.ts";
import type { CheckContext, Checker } from "./checker.ts";

/**
 * R4: a replica takes data that is addressed to it, and none before the coordinator has named it:
 * by a term that it is to vote in, or by Enrol.
 */
export function dataOnlyAfterWelcome(context: CheckContext): Checker {
  const named = new Set<string>();
  /** By node: who runs there. */
  const present = new Map<string, string>();
  const wrong = (uid: string, peer: Peer): string | null => {
    if (peer.targetUid !== uid) return `which was meant for ${peer.targetUid}`;
    return named.has(uid) ? null : "before anybody had enrolled it";
  };
  return {
    invariant: "R4",
    arrived(name, _node, request) {
      if (name !== "newTerm" && name !== "enrol") return;
      named.add((request as { readonly targetUid: string }).targetUid);
    },
    sample({ node, status }) {
      present.set(node, status.replicaUid);
    },
    dataTaken(node, peer, what) {
      const uid = present.get(node);
      const why = uid === undefined ? null : wrong(uid, peer);
      if (why !== null) context.violate("R4", `${node} (${uid}) took ${what}, ${why}`);
    },
  };
}
