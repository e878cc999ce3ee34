import type { NewTermRequest, NewTermResponse } from "../../../sidecar/protocol/gen/resilver.ts";
import type { CheckContext, Checker } from "./checker.ts";
import { DurableClaims } from "./durable-claims.ts";

/**
 * I10: the head reported at fencing is the durable last entry (R8). A replica that comes back,
 * after losing whatever it had not synced, still holds the head it was fenced with, unless a newer
 * leader cut it.
 */
export function fencedHeadIsDurable(context: CheckContext): Checker {
  const heads = new DurableClaims(context.committed);
  return {
    invariant: "I10",
    called(name, _node, request, answer) {
      if (name !== "newTerm") return;
      const { targetUid } = request as NewTermRequest;
      const { headEntryId, headCrc } = answer as NewTermResponse;
      if (headEntryId === undefined) return;
      heads.claimPosition(targetUid, { ...headEntryId, crc: headCrc });
    },
    diskSetBack(_node, uid) {
      heads.setBack(uid);
    },
    sample({ status }) {
      heads.look(status);
    },
    boot({ node, status }) {
      const missing = heads.missing(status);
      if (missing !== null) context.violate("I10", `${node}, when it was fenced, ${missing}`);
    },
  };
}
