import type { LogIndex } from "../../../sidecar/core/log-index.ts";
import { Replica } from "../../../sidecar/core/replica.ts";
import { MemberRole } from "../../../sidecar/protocol/gen/resilver.ts";
import { CORE_OPTIONS } from "./core-options.ts";

const SHARD = { namespace: "default", shard: 0, storeId: "store", generation: 1 };

/**
 * Replica `a`, which begins to lead term 1 on this log, with a voter `b` that has not answered yet
 * (its cursor is 1). Its barrier is appended and not durable.
 */
export function leadingReplica(log: LogIndex, leaderReads = false): Replica {
  const promised = {
    term: 0,
    previousTerm: 0,
    rolledBack: false,
    generation: 0,
    lossEpoch: 0,
    member: true,
    enrolled: null,
  };
  const options = { ...CORE_OPTIONS, leaderReads };
  const names = { node: "a", storeId: "store", uid: "a1", bootCounter: 1, formattedBefore: true };
  const core = new Replica({ ...names, promised, log, applied: -1 }, options);
  const to = { ...SHARD, term: 1, targetUid: "a1" };
  const newTerm = { ...to, bootstrap: false, options: undefined };
  for (const effect of core.step({ kind: "newTerm", id: 1, request: newTerm })) {
    if (effect.kind === "persistMeta") core.step({ kind: "metaPersisted", token: effect.token });
  }
  const b = {
    node: "b",
    replicaUid: "b1",
    role: MemberRole.VOTER,
    internalAddress: "b",
    publicAddress: "b",
    head: undefined,
    target: undefined,
  };
  const request = { ...to, bootCounter: 1, members: [b], lossEpoch: 0, replicationFactor: 2 };
  const sets = { followerMaps: {}, voterSets: [{ nodes: ["a", "b"] }] };
  core.step({ kind: "becomeLeader", id: 2, nowMs: 0, request: { ...request, ...sets } });
  return core;
}
