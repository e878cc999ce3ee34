import { newRecord, type ShardRecord } from "../../../../operator/core/record.ts";

/** The frame of a resource around its spec. */
export function resource(
  kind: string,
  spec: Record<string, unknown>,
  name = "demo",
): Record<string, unknown> {
  return {
    apiVersion: "resilver.io/v1alpha1",
    kind,
    metadata: { name, namespace: "default" },
    spec,
  };
}

/** A record with everything in it. */
export const RECORD: ShardRecord = {
  ...newRecord({
    storeId: "7d8f4f0e-5a0c-4f0e-9d7e-0c5a4f0e9d7e",
    namespace: "default",
    shard: 0,
    ensemble: ["demo-0", "demo-1", "demo-2"],
    replicationFactor: 3,
    keySorting: "hierarchical",
    notifications: false,
  }),
  initialized: true,
  generation: 7,
  lossEpoch: 0,
  term: 4,
  leader: { node: "demo-0", uid: "uid-0", bootCounter: 2 },
  members: [
    { node: "demo-0", replicaUid: "uid-0", role: "voter", ackedTerm: 4 },
    {
      node: "demo-1",
      replicaUid: "uid-1",
      role: "learner",
      ackedTerm: 4,
      enrolTerm: 4,
      target: { term: 4, offset: 812, crc: 0xffff_ffff },
      reason: "PVCReplaced",
      recoveries: 2,
      lastRecoveryAtMs: 1_767_225_600_000,
      pvcUids: { data: "claim-1", wal: "claim-2" },
    },
    { node: "demo-2", replicaUid: "uid-2", role: "leaving", ackedTerm: -1 },
  ],
  next: { ensemble: ["demo-0", "demo-1"], joint: true },
  ensembleTerm: 3,
  commitFloor: { term: 4, offset: 811 },
};
