import type { LogPosition } from "../../../sidecar/protocol/entry.ts";
import type { ReplicaStatus } from "../../../sidecar/protocol/gen/resilver.ts";

/** What checkers may look at of a status: every part that tells two looks apart. */
export type SeenStatus = Readonly<
  Pick<
    ReplicaStatus,
    | "replicaUid"
    | "status"
    | "term"
    | "bootCounter"
    | "commitOffset"
    | "appliedOffset"
    | "durableOffset"
    | "logFirstOffset"
    | "serving"
    | "wipeReason"
    | "head"
    | "commit"
    | "recovery"
  >
>;

/**
 * True when nothing that checkers look at has changed. Asked after each event, so name by name: a
 * list of names costs ten times as much.
 */
export function sameStatus(a: SeenStatus, b: SeenStatus): boolean {
  return sameOffsets(a, b) && sameIdentity(a, b) && samePlace(a.head, b.head);
}

function sameOffsets(a: SeenStatus, b: SeenStatus): boolean {
  return (
    a.commitOffset === b.commitOffset &&
    a.appliedOffset === b.appliedOffset &&
    a.durableOffset === b.durableOffset &&
    a.logFirstOffset === b.logFirstOffset &&
    samePlace(a.commit, b.commit)
  );
}

function sameIdentity(a: SeenStatus, b: SeenStatus): boolean {
  return (
    a.replicaUid === b.replicaUid &&
    a.status === b.status &&
    a.term === b.term &&
    a.bootCounter === b.bootCounter &&
    a.serving === b.serving &&
    a.wipeReason === b.wipeReason &&
    // Of a recovery only counts how far it has come.
    a.recovery?.phase === b.recovery?.phase
  );
}

function samePlace(a: LogPosition | undefined, b: LogPosition | undefined): boolean {
  if (a === b) return true;
  if (a === undefined || b === undefined) return false;
  return a.offset === b.offset && a.term === b.term && a.crc === b.crc;
}
