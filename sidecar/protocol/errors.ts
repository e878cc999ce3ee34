/**
 * Every refusal a sidecar can answer with: one table, used in both directions (WIRE.md, "Errors").
 * `rpc/status-map.ts` adds the gRPC status; nothing else names gRPC codes.
 */
export const REASONS = {
  // Tested first when an error is mapped: a wiped replica is that before anything else.
  NODE_IS_NOT_MEMBER: { code: 112, status: "ABORTED", retry: true },
  NOT_INITIALIZED: { code: 100, status: "UNAVAILABLE", retry: true },
  INVALID_TERM: { code: 101, status: "FAILED_PRECONDITION", retry: false },
  INVALID_STATUS: { code: 102, status: "FAILED_PRECONDITION", retry: false },
  RESOURCE_CONFLICT: { code: 104, status: "FAILED_PRECONDITION", retry: false },
  NODE_IS_NOT_LEADER: { code: 106, status: "ABORTED", retry: true },
  NODE_IS_NOT_FOLLOWER: { code: 107, status: "FAILED_PRECONDITION", retry: false },
  SESSION_NOT_FOUND: { code: 108, status: "NOT_FOUND", retry: false },
  INVALID_SESSION_TIMEOUT: { code: 109, status: "INVALID_ARGUMENT", retry: false },
  NAMESPACE_NOT_FOUND: { code: 110, status: "NOT_FOUND", retry: false },
  NOTIFICATIONS_NOT_ENABLED: { code: 111, status: "FAILED_PRECONDITION", retry: false },
  RESOURCE_UNAVAILABLE: { code: null, status: "UNAVAILABLE", retry: true },
  // Ours.
  STALE_GENERATION: { code: 120, status: "FAILED_PRECONDITION", retry: false },
  WRONG_STORE: { code: 121, status: "FAILED_PRECONDITION", retry: false },
  SHARD_NOT_FOUND: { code: 122, status: "NOT_FOUND", retry: true },
  INVALID_ARGUMENT: { code: null, status: "INVALID_ARGUMENT", retry: false },
  UNIMPLEMENTED: { code: null, status: "UNIMPLEMENTED", retry: false },
  NO_SPACE: { code: null, status: "RESOURCE_EXHAUSTED", retry: true },
} as const satisfies Record<
  string,
  { readonly code: number | null; readonly status: string; readonly retry: boolean }
>;

/** Name of a refusal. */
export type Reason = keyof typeof REASONS;

/**
 * A refusal. `metadata` travels as ErrorInfo metadata: observedUid, expectedUid, term, leader,
 * shard, field, value, allowed, and `outcome` of a write where the reason does not tell: "unknown",
 * it may take effect; "none", it was refused at once, so neither it nor what follows it on its
 * stream was logged.
 */
export class ProtocolError extends Error {
  override readonly name = "ProtocolError";
  readonly reason: Reason;
  readonly metadata: Readonly<Record<string, string>>;
  constructor(reason: Reason, message: string, metadata: Readonly<Record<string, string>> = {}) {
    super(message);
    this.reason = reason;
    this.metadata = metadata;
  }
}
