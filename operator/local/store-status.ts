import type { ReplicaView, ShardView } from "../core/status.ts";
import type { PodStatus } from "./pod.ts";
import type { ReplicaEndpoint } from "./settings.ts";
import type { TransferRates } from "../controller/transfer-rate.ts";

/** One replica of a shard as `status --json` prints it. */
export interface ReplicaStatusView extends ReplicaView {
  readonly bytesPerSecond: number;
  /** Milliseconds; null when nothing is being transferred or it cannot be said. */
  readonly etaMs: number | null;
}

/** One shard as `status --json` prints it. */
export interface ShardStatusView extends Omit<ShardView, "replicas"> {
  readonly replicas: readonly ReplicaStatusView[];
}

/** One process as `status --json` prints it. */
export interface PodStatusView extends PodStatus {
  readonly publicAddress: string;
  readonly internalAddress: string;
  readonly metricsAddress: string;
}

/** What `status --json` prints. */
export interface StoreStatus {
  readonly storeId: string;
  readonly dir: string;
  /** Of the `up` process. */
  readonly pid: number;
  readonly coordinatorMetricsAddress: string;
  /** Replicas each shard ought to have. */
  readonly replicationFactor: number;
  readonly pods: readonly PodStatusView[];
  readonly shards: readonly ShardStatusView[];
}

/** What a status is put together from. */
export interface StoreStatusParts {
  readonly storeId: string;
  readonly dir: string;
  readonly pid: number;
  readonly coordinatorMetricsAddress: string;
  readonly replicationFactor: number;
  readonly endpoints: readonly ReplicaEndpoint[];
  readonly pods: readonly PodStatus[];
  readonly shards: readonly ShardView[];
  readonly rates: TransferRates;
  /** Monotonic milliseconds. */
  readonly nowMs: number;
}

/** Puts the status together; pure but for the memory of `rates`. */
export function storeStatus(parts: StoreStatusParts): StoreStatus {
  const { storeId, dir, pid, coordinatorMetricsAddress, replicationFactor } = parts;
  const transfers = new Set<string>();
  const shards = parts.shards.map((shard) => ({
    ...shard,
    replicas: shard.replicas.map((replica) => {
      const key = `${shard.namespace}/${shard.shard}/${replica.uid}`;
      if (!isTransferring(replica)) return { ...replica, bytesPerSecond: 0, etaMs: null };
      transfers.add(key);
      const { bytesDone, bytesTotal } = replica;
      return { ...replica, ...parts.rates.observe(key, bytesDone, bytesTotal, parts.nowMs) };
    }),
  }));
  parts.rates.retain(transfers);
  const addresses = new Map(parts.endpoints.map((endpoint) => [endpoint.node, endpoint]));
  const pods = parts.pods.map((pod) => ({
    ...pod,
    publicAddress: addresses.get(pod.name)?.publicAddress ?? "",
    internalAddress: addresses.get(pod.name)?.internalAddress ?? "",
    metricsAddress: addresses.get(pod.name)?.metricsAddress ?? "",
  }));
  return { storeId, dir, pid, coordinatorMetricsAddress, replicationFactor, pods, shards };
}

function isTransferring(replica: ReplicaView): boolean {
  return replica.role === "learner" && replica.bytesTotal > 0;
}

/** True when every replica of every shard votes right now and is without fault. */
export function isWhole(status: StoreStatus): boolean {
  return (
    status.shards.length > 0 &&
    status.shards.every(
      (shard) =>
        shard.serving &&
        shard.stop === null &&
        shard.ensemble.length === status.replicationFactor &&
        shard.replicas.length === shard.ensemble.length &&
        shard.replicas.every(({ voting, fault }) => voting && fault === ""),
    )
  );
}
