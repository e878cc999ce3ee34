import { LIMITS } from "../limits.ts";
import { ProtocolError } from "../protocol/errors.ts";
import type { NodeStatus, ReplicaStatus, WatchStatusRequest } from "../protocol/gen/resilver.ts";
import { sameMessage } from "../protocol/same-message.ts";
import type { NodeRuntime } from "./ports.ts";

/**
 * Everything is told again after so many heartbeats without news: a coordinator whose shard is
 * quiet plans at least this often, whatever it may have missed.
 */
const QUIET_BEATS_MAX = 10;

/**
 * What one watcher of a node's status is told: everything first, then each change, and at each
 * heartbeat everything again, if anything differs, or nothing but a sign of life: a coordinator
 * follows thousands of nodes. A slow watcher gets the latest of each replica.
 */
export class StatusReports {
  readonly #runtime: NodeRuntime;
  readonly #changed = new Map<string, ReplicaStatus>();
  #full = true;
  /** What was sent last of everything, and for how many heartbeats it was the same. */
  #sent: readonly ReplicaStatus[] | null = null;
  #quietBeats = 0;

  constructor(runtime: NodeRuntime) {
    this.#runtime = runtime;
  }

  /** There is something to tell. */
  get pending(): boolean {
    return this.#full || this.#changed.size > 0;
  }

  /** These statuses are not what they were. */
  changed(statuses: readonly ReplicaStatus[]): void {
    for (const status of statuses) {
      this.#changed.set(`${status.shard} ${status.namespace}`, status);
    }
  }

  /** It is time for a sign of life. */
  beat(): void {
    this.#full = true;
  }

  /** The next report; to be sent. */
  next(): NodeStatus {
    const { node, bootId } = this.#runtime;
    const changed = [...this.#changed.values()];
    this.#changed.clear();
    if (!this.#full) {
      // The reader holds something else than it was sent as a whole.
      this.#sent = null;
      return { node, bootId, full: false, replicas: changed };
    }
    this.#full = false;
    const replicas = [...this.#runtime.status().replicas];
    const isQuiet =
      changed.length === 0 &&
      this.#quietBeats < QUIET_BEATS_MAX &&
      sameMessage(replicas, this.#sent);
    this.#quietBeats = isQuiet ? this.#quietBeats + 1 : 0;
    this.#sent = replicas;
    return { node, bootId, full: !isQuiet, replicas: isQuiet ? [] : replicas };
  }
}

/**
 * The longest silence, in milliseconds, that the caller of a WatchStatus stream wants. Throws
 * INVALID_ARGUMENT for one that is out of bounds.
 */
export function heartbeatMsOf({ heartbeatMs }: WatchStatusRequest): number {
  const { statusHeartbeatMs, statusHeartbeatMinMs, statusHeartbeatMaxMs } = LIMITS;
  if (heartbeatMs === 0) return statusHeartbeatMs;
  if (heartbeatMs >= statusHeartbeatMinMs && heartbeatMs <= statusHeartbeatMaxMs) {
    return heartbeatMs;
  }
  const allowed = `0 (${statusHeartbeatMs}), or ${statusHeartbeatMinMs} to ${statusHeartbeatMaxMs}`;
  throw new ProtocolError(
    "INVALID_ARGUMENT",
    `heartbeat_ms is ${heartbeatMs}; allowed: ${allowed}`,
    { field: "heartbeat_ms", value: String(heartbeatMs), allowed },
  );
}
