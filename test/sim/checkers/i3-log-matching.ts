import type { LogPosition } from "../../../sidecar/protocol/entry.ts";
import type { CheckContext, Checker } from "./checker.ts";

/** I3: equal (term, offset) means equal log up to there, which the chained crc says. */
export function logMatching(context: CheckContext): Checker {
  const crcs = new Map<string, number>();
  const see = (who: string, { term, offset, crc }: LogPosition): void => {
    const name = `${term}/${offset}`;
    const known = crcs.get(name) ?? crc;
    crcs.set(name, known);
    if (known === crc) return;
    context.violate(
      "I3",
      `${who} has another history at (${term}, ${offset}) than was seen before`,
    );
  };
  return {
    invariant: "I3",
    sample({ node, status }) {
      if (status.head !== undefined) see(node, status.head);
      if (status.commit !== undefined) see(node, status.commit);
    },
    appendSent(peer, { entry, entryCrc, previous }) {
      if (previous !== undefined) see(peer.leaderUid, previous);
      if (entry !== undefined) see(peer.leaderUid, { ...entry, crc: entryCrc });
    },
  };
}
