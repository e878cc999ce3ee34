import type { LogPosition } from "../../../sidecar/protocol/entry.ts";
import { text } from "../log-book.ts";
import type { CheckContext, Checker } from "./checker.ts";

/**
 * I19: a replica with a bad record at or below what it had acknowledged never votes (R14, H13): it
 * comes back as another one, whom nobody counts.
 */
export function damagedLogsDoNotVote(context: CheckContext): Checker {
  /** Identities of which an acknowledged record was damaged. */
  const damaged = new Map<string, string>();
  return {
    invariant: "I19",
    recordDamaged(node: string, uid: string, position: LogPosition) {
      if (!context.claims.covers(uid, position)) return;
      damaged.set(uid, `${node}'s record ${text(position)}`);
    },
    diskSetBack(_node, uid) {
      damaged.delete(uid);
    },
    boot({ node, status }) {
      const what = damaged.get(status.replicaUid);
      if (what === undefined) return;
      context.violate("I19", `${what} was damaged, ${node} came back as ${status.replicaUid}`);
    },
    called(name, node, request) {
      if (name !== "newTerm") return;
      const what = damaged.get((request as { readonly targetUid: string }).targetUid);
      if (what !== undefined) context.violate("I19", `${node} voted, though ${what} was damaged`);
    },
  };
}
