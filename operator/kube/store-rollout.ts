/** Makes pods anew when their template has changed, one at a time, by eviction. */
import { rolloutShard, rolloutStep, type RolloutPod, type RolloutStep } from "../core/rollout.ts";
import type { ShardView } from "../core/status.ts";
import { IN_SYNC_GATE, selectorLabels, selectorText } from "../specs/labels.ts";
import type { ApiClient } from "./api-client.ts";
import { podFacts, type PodFacts } from "./pods.ts";
import type { KubeObject } from "./resources.ts";
import { KINDS } from "./resources.ts";
import { isClaimTerminating, type StoreSight } from "./store-view.ts";

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
  const step = stepOver(parts, parts.sight.pods, revision);
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
  const { items } = await client.list(KINDS.pod, { namespace, labelSelector }, { signal });
  const pods = items.map((item) => podFacts(item, IN_SYNC_GATE));
  const again = stepOver(parts, pods, revision);
  const pod = pods.find((other) => other.name === name);
  if (again.kind !== "evict" || again.pod !== name || pod === undefined) {
    return `${name} is to be made anew: looks again`;
  }
  const answer = await client.evict({ namespace, name, uid: pod.uid }, { signal });
  return answer === "refused"
    ? `${name} is to be made anew: a disruption budget forbids it now`
    : `${name} is being made anew`;
}

function stepOver(
  { sight, views, expectedPods }: RolloutParts,
  pods: readonly PodFacts[],
  revision: string,
): RolloutStep {
  const rolling = pods.map((pod): RolloutPod => {
    const { name, ready, terminating } = pod;
    const claimTerminating = isClaimTerminating(sight, name);
    const running = pod.sidecar === "running" || pod.sidecar === "unknown";
    const updated = pod.revision === revision;
    return { name, ready, running, terminating, claimTerminating, updated };
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
