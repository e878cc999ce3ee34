import type { LogPosition } from "../../../sidecar/protocol/entry.ts";
import type { ReplicaStatus } from "../../../sidecar/protocol/gen/resilver.ts";

const COMPARED = [
  "replicaUid",
  "status",
  "term",
  "bootCounter",
  "commitOffset",
  "appliedOffset",
  "durableOffset",
  "logFirstOffset",
  "serving",
  "wipeReason",
] as const;

/** What checkers may look at of a status: every part that tells two looks apart. */
export type SeenStatus = Readonly<
  Pick<ReplicaStatus, (typeof COMPARED)[number] | "head" | "commit" | "recovery">
>;

/** True when nothing that checkers look at has changed. */
export function sameStatus(a: SeenStatus, b: SeenStatus): boolean {
  for (const name of COMPARED) if (a[name] !== b[name]) return false;
  // Of a recovery only counts that there is one.
  if ((a.recovery === undefined) !== (b.recovery === undefined)) return false;
  return samePlace(a.head, b.head) && samePlace(a.commit, b.commit);
}

function samePlace(a: LogPosition | undefined, b: LogPosition | undefined): boolean {
  if (a === b) return true;
  if (a === undefined || b === undefined) return false;
  return a.offset === b.offset && a.term === b.term && a.crc === b.crc;
}
