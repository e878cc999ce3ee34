import type { ReplicaView, ShardView } from "../../../operator/core/status.ts";
import type { StoreStatusParts } from "../../../operator/local/store-status.ts";
import { replicaEndpoints } from "../../../operator/local/settings.ts";
import { TransferRates } from "../../../operator/controller/transfer-rate.ts";

/** A healthy voter, with changes. */
export function replicaView(node: string, change: Partial<ReplicaView> = {}): ReplicaView {
  return {
    node,
    uid: `uid-of-${node}`,
    reach: "up",
    role: "voter",
    voting: true,
    holdsCommitted: change.voting ?? true,
    lacksEntries: (change.voting ?? true) ? 0 : null,
    status: "FOLLOWER",
    term: 3,
    headTerm: 3,
    headOffset: 1_000,
    commitOffset: 1_000,
    lagEntries: 0,
    phase: "",
    reason: "",
    bytesDone: 0,
    bytesTotal: 0,
    startedMs: 0,
    firstByteMs: 0,
    installedMs: 0,
    attempts: 0,
    lastErrors: [],
    fault: "",
    ...change,
  };
}

/** A healthy shard of three, with changes. */
export function shardViewOf(
  replicas: readonly ReplicaView[],
  change: Partial<ShardView> = {},
): ShardView {
  return {
    namespace: "default",
    shard: 0,
    term: 3,
    generation: 7,
    lossEpoch: 0,
    leader: "resilver-0",
    serving: true,
    commitFloor: { term: 3, offset: 0 },
    ensemble: ["resilver-0", "resilver-1", "resilver-2"],
    desired: change.ensemble ?? ["resilver-0", "resilver-1", "resilver-2"],
    replicas,
    conditions: [],
    stop: null,
    initialized: true,
    changing: false,
    ...change,
  };
}

/** Three replicas, the first of which leads. */
export function wholeShard(): ShardView {
  return shardViewOf([
    replicaView("resilver-0", { role: "leader", status: "LEADER" }),
    replicaView("resilver-1"),
    replicaView("resilver-2"),
  ]);
}

/** Everything a status is put together from. */
export function statusParts(shards: readonly ShardView[]): StoreStatusParts {
  const settings = { storeId: "store-1", replicas: 3, shards: 1, port: 6_648 };
  return {
    storeId: settings.storeId,
    dir: "/data/store",
    pid: 42,
    coordinatorMetricsAddress: "127.0.0.1:6657",
    replicationFactor: 3,
    endpoints: replicaEndpoints(settings),
    pods: ["resilver-0", "resilver-1", "resilver-2"].map((name) => ({
      name,
      state: "running" as const,
      pid: 1,
      restarts: 0,
      lastExit: null,
    })),
    shards,
    rates: new TransferRates(),
    nowMs: 0,
  };
}
