/**
 * Whether this pod may be counted on: all its replicas vote (DESIGN.md section 7, "Pods say it
 * too").
 */
import { type ReplicaStatus, ServingStatus } from "../protocol/gen/resilver.ts";
import { statusName } from "../protocol/status.ts";

/** Why the pod is not ready, naming the first replica that does not vote; null when it is ready. */
export function notReadyBecause(
  replicas: readonly ReplicaStatus[],
  coordinatorReached: boolean,
): string | null {
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
