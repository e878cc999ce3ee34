/**
 * What replicas count as it happens; what can be read from a status is collected from it instead.
 */
export interface NodeMetrics {
  /** A data call refused with NODE_IS_NOT_MEMBER, at the wiped replica (112 sent). */
  readonly notMemberRejections: { inc(): void };
  /** Snapshot content sent to or received from a peer. */
  snapshotBytes(direction: "sent" | "received", bytes: number): void;
  /** One fdatasync of the log. */
  walFsync(seconds: number): void;
  /** One append at the leader, from the call to the commit. */
  append(seconds: number): void;
  /** One finished client or coordinator request; `code` is OK or a reason of protocol/errors.ts. */
  request(rpc: string, code: string, seconds: number): void;
}

/** Counts nothing: for tests and the simulator. */
export const NO_METRICS: NodeMetrics = Object.freeze({
  notMemberRejections: Object.freeze({ inc(): void {} }),
  snapshotBytes(): void {},
  walFsync(): void {},
  append(): void {},
  request(): void {},
});
