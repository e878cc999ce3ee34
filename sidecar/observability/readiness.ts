/**
 * Whether this pod may be counted on: all its replicas vote (DESIGN.md section 7, "Pods say it
 * too").
 */
import { type ReplicaStatus, ServingStatus } from "../protocol/gen/resilver.ts";
import { statusName } from "../protocol/status.ts";

/** What readiness is judged by. */
export interface ReadinessInput {
  readonly replicas: readonly ReplicaStatus[];
  /** Why directories of shards are not this store's to open. */
  readonly leftAlone: readonly string[];
  readonly coordinatorReached: boolean;
}

/** Why the pod is not ready, naming the first replica that does not vote; null when it is ready. */
export function notReadyBecause(input: ReadinessInput): string | null {
  const { replicas, leftAlone, coordinatorReached } = input;
  // There ought to be a replica, or the directories are no business of this pod's.
  if (leftAlone[0] !== undefined) return leftAlone[0];
  for (const replica of replicas) {
    const why = refusal(replica);
    if (why !== null) {
      return `replica of shard ${replica.shard} of namespace ${replica.namespace} ${why}`;
    }
  }
  // A new pod without replicas must not look ready before the coordinator had a chance to give it
  // some.
  return replicas.length > 0 || coordinatorReached
    ? null
    : "no replica opened yet: waiting for the coordinator";
}

function refusal(replica: ReplicaStatus): string | null {
  if (replica.fault !== "") return `is faulty: ${replica.fault}`;
  const member =
    replica.status === ServingStatus.FOLLOWER || replica.status === ServingStatus.LEADER;
  if (!member) return `is ${statusName(replica.status)}`;
  if (replica.votes) return null;
  const phase = replica.recovery?.phase ?? "";
  return phase === "" ? "does not vote yet" : `is being rebuilt: ${phase}`;
}
