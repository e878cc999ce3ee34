import { type LogPosition, samePosition } from "../../../sidecar/protocol/entry.ts";
import type { CheckContext, Checker } from "./checker.ts";

/** I3: equal (term, offset) means equal log up to there, which the chained crc says. */
export function logMatching(context: CheckContext): Checker {
  /** By term and offset. */
  const crcs = new Map<number, Map<number, number>>();
  const see = (who: string, term: number, offset: number, crc: number): void => {
    const ofTerm = crcs.get(term) ?? new Map<number, number>();
    if (ofTerm.size === 0) crcs.set(term, ofTerm);
    const known = ofTerm.get(offset);
    if (known === undefined) ofTerm.set(offset, crc);
    if (known === undefined || known === crc) return;
    context.violate(
      "I3",
      `${who} has another history at (${term}, ${offset}) than was seen before`,
    );
  };
  /** What did not move since the look before was seen there. */
  const seeMoved = (who: string, now?: LogPosition, before?: LogPosition): void => {
    if (now === undefined || (before !== undefined && samePosition(now, before))) return;
    see(who, now.term, now.offset, now.crc);
  };
  return {
    invariant: "I3",
    sample({ node, status, before }) {
      seeMoved(node, status.head, before?.head);
      seeMoved(node, status.commit, before?.commit);
    },
    appendSent(peer, { entry, entryCrc, previous }) {
      const who = peer.leaderUid;
      if (previous !== undefined) see(who, previous.term, previous.offset, previous.crc);
      if (entry !== undefined) see(who, entry.term, entry.offset, entryCrc);
    },
  };
}
