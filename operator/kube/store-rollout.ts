/**
 * Makes pods anew when their template has changed, one at a time: by eviction, and where a budget
 * keeps pods that are not ready for ever, by deletion.
 */
import { rolloutShard, rolloutStep, type RolloutPod, type RolloutStep } from "../core/rollout.ts";
import type { ShardView } from "../core/status.ts";
import { selectorLabels, selectorText } from "../specs/labels.ts";
import type { ApiClient } from "./api-client.ts";
import { ApiError, isStatus } from "./api-error.ts";
import type { PodFacts } from "./pods.ts";
import type { KubeObject } from "./resources.ts";
import { KINDS } from "./resources.ts";
import { claimsByName, isClaimGoing, podsInOrder, type StoreSight } from "./store-view.ts";

/** What a rollout acts through. */
export interface RolloutParts {
  readonly client: ApiClient;
  readonly sight: StoreSight;
  readonly statefulSet: KubeObject | undefined;
  readonly views: () => readonly ShardView[];
  readonly expectedPods: number;
  /** Has a shard (`namespace/shard`) led by a node, if it may. */
  readonly preferLeader: (shard: string, node: string) => void;
}

/** One step. What it does or waits for, for people; null: nothing to roll. */
export async function rollOut(parts: RolloutParts, signal: AbortSignal): Promise<string | null> {
  const revision = updateRevision(parts.statefulSet);
  // The StatefulSet has not looked at its newest template yet.
  if (revision === null) return null;
  const step = stepOver(parts, parts.sight.pods, parts.sight.claims, revision);
  if (step.kind === "done") return null;
  if (step.kind === "wait") return step.why;
  if (step.kind === "handOver") {
    for (const { name, to } of step.shards) parts.preferLeader(name, to);
    return `${step.pod} is to be made anew: its shards are handed over`;
  }
  return await evict(parts, step.pod, revision, signal);
}

/** What was concluded from the cache must still be so by the API server itself. */
async function evict(
  parts: RolloutParts,
  name: string,
  revision: string,
  signal: AbortSignal,
): Promise<string> {
  const { client, sight } = parts;
  const { namespace } = sight.store.metadata;
  const labelSelector = selectorText(selectorLabels(sight.store.metadata.name));
  const claims = await client.list(KINDS.claim, { namespace, labelSelector }, { signal });
  const { items } = await client.list(KINDS.pod, { namespace, labelSelector }, { signal });
  const pods = podsInOrder(sight.store.metadata.name, items);
  const again = stepOver(parts, pods, claimsByName(claims.items), revision);
  const object = items.find(({ metadata }) => metadata.name === name);
  const pod = pods.find((other) => other.name === name);
  if (again.kind !== "evict" || again.pod !== name || pod === undefined || object === undefined) {
    return `${name} is to be made anew: looks again`;
  }
  const answer = await askToEvict(client, pod, namespace, signal);
  if (answer instanceof ApiError) return `${name} is to be made anew: ${answer.message}`;
  if (answer !== "refused") return `${name} is being made anew`;
  if (pod.ready) return `${name} is to be made anew: a disruption budget forbids it now`;
  return await deleteUnready(client, object, signal);
}

/** An error with which the API server answers is told, and keeps nothing else from being done. */
async function askToEvict(
  client: ApiClient,
  { name, uid }: PodFacts,
  namespace: string,
  signal: AbortSignal,
): Promise<"evicted" | "refused" | "gone" | ApiError> {
  try {
    return await client.evict({ namespace, name, uid }, { signal });
  } catch (error) {
    // 500: a person's budget selects the pod as well, and Kubernetes allows one for each pod.
    if (error instanceof ApiError) return error;
    throw error;
  }
}

/**
 * A budget counts pods that are not ready against each other and lets none of them go, ever: what
 * would mend them is their new template. That a majority votes without this one has been settled
 * above; here it must still be the pod that was seen, in the state in which it was seen.
 */
async function deleteUnready(
  client: ApiClient,
  { metadata }: KubeObject,
  signal: AbortSignal,
): Promise<string> {
  const { namespace, name, uid, resourceVersion } = metadata;
  if (uid === undefined || resourceVersion === undefined) {
    throw new Error(`Pod ${name} has no uid or no resourceVersion`);
  }
  try {
    await client.delete(KINDS.pod, namespace, name, { uid, resourceVersion }, { signal });
    return `${name} is being made anew`;
  } catch (error) {
    if (!isStatus(error, 409)) throw error;
    return `${name} is to be made anew: looks again`;
  }
}

function stepOver(
  { views, expectedPods }: RolloutParts,
  pods: readonly PodFacts[],
  claims: StoreSight["claims"],
  revision: string,
): RolloutStep {
  const rolling = pods.map((pod): RolloutPod => {
    const { name, ready, terminating, waiting } = pod;
    const claimTerminating = isClaimGoing({ claims }, name);
    const running = pod.sidecar === "running" || pod.sidecar === "unknown";
    const updated = pod.revision === revision;
    return { name, ready, waiting, running, terminating, claimTerminating, updated };
  });
  const shards = views().map(rolloutShard);
  return rolloutStep(rolling, shards, expectedPods);
}

function updateRevision(statefulSet: KubeObject | undefined): string | null {
  const status = statefulSet?.["status"];
  if (typeof status !== "object" || status === null) return null;
  const observed: unknown = Reflect.get(status, "observedGeneration");
  const revision: unknown = Reflect.get(status, "updateRevision");
  if (observed !== statefulSet?.metadata.generation || typeof revision !== "string") return null;
  return revision;
}
