/** Why a replica counts as wiped: the signals joined, as a name people and metrics can use. */
import { WipeReason, type ReplicaStatus } from "../../sidecar/protocol/gen/resilver.ts";
import type { RecordMember, RecoveryReason } from "./record.ts";

const reasons: Readonly<Record<number, RecoveryReason>> = {
  // Known to the record, yet no cookie anywhere: the whole volume is another one.
  [WipeReason.NEVER_FORMATTED]: "VolumeEmpty",
  [WipeReason.VOLUME_EMPTY]: "VolumeEmpty",
  [WipeReason.IDENTITY_MISMATCH]: "IdentityMismatch",
  [WipeReason.CORRUPT]: "Corrupt",
  [WipeReason.REQUESTED]: "Requested",
};

/** Signals about one member. `pvcReplaced` is false where there are no claims. */
export interface VerdictEvidence {
  readonly member: RecordMember;
  /** The node's own report. */
  readonly replica: ReplicaStatus;
  readonly pvcReplaced: boolean;
}

/** The reason of the recovery that `evidence` calls for. */
export function recoveryReason(evidence: VerdictEvidence): RecoveryReason {
  const { member, replica } = evidence;
  if (evidence.pvcReplaced) return "PVCReplaced";
  // The same replica, yet to be rebuilt: its term or head went back (R3).
  if (replica.replicaUid === member.replicaUid) return member.reason ?? "RolledBack";
  return reasons[replica.wipeReason] ?? "IdentityMismatch";
}
