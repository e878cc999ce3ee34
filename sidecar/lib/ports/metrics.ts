/** Which replica of this pod the series are of. */
export interface ReplicaName {
  readonly storeId: string;
  readonly namespace: string;
  readonly shard: number;
}

/**
 * What one replica counts as it happens; what can be read from a status is collected from it
 * instead.
 */
export interface ReplicaMetrics {
  /** A data call refused with NODE_IS_NOT_MEMBER, at the wiped replica (112 sent). */
  readonly notMemberRejections: { inc(): void };
  /** A new identity, made because the cookies of the directories differ. */
  readonly identityMismatches: { inc(): void };
  /** Snapshot content sent to or received from a peer. */
  snapshotBytes(direction: "sent" | "received", bytes: number): void;
  /** One fdatasync of the log. */
  walFsync(seconds: number): void;
  /** One append at the leader, from the call until it was applied. */
  append(seconds: number): void;
  /** The shard is gone from this pod, and its series with it. */
  end(): void;
}

/** What a sidecar counts as it happens. */
export interface NodeMetrics {
  /** Series of one replica; the same until they end. */
  replica(name: ReplicaName): ReplicaMetrics;
  /** One finished client or coordinator request; `code` is OK or a reason of protocol/errors.ts. */
  request(rpc: string, code: string, seconds: number): void;
}

const NO_REPLICA_METRICS: ReplicaMetrics = Object.freeze({
  notMemberRejections: Object.freeze({ inc(): void {} }),
  identityMismatches: Object.freeze({ inc(): void {} }),
  snapshotBytes(): void {},
  walFsync(): void {},
  append(): void {},
  end(): void {},
});

/** Counts nothing: for tests and the simulator. */
export const NO_METRICS: NodeMetrics = Object.freeze({
  replica: () => NO_REPLICA_METRICS,
  request(): void {},
});
