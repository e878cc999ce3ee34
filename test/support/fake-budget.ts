/**
 * What disruption budgets say to an eviction, by the rules of the real API server
 * (pkg/registry/core/pod/storage/eviction.go) and of its disruption controller, which here is
 * never behind.
 */
import type { Stored } from "./fake-api-server.ts";

/** What there is in a pod's namespace. */
export interface Disrupted {
  readonly budgets: readonly Stored[];
  readonly pods: readonly Stored[];
  readonly statefulSets: readonly Stored[];
}

interface BudgetSpec {
  readonly maxUnavailable: number;
  readonly unhealthyPodEvictionPolicy?: string;
  readonly selector: { readonly matchLabels: Readonly<Record<string, string>> };
}

/** Why the pod must not be evicted; null: it may. */
export function evictionRefusal(
  pod: Stored,
  { budgets, pods, statefulSets }: Disrupted,
): { readonly status: 429 | 500; readonly message: string } | null {
  // What does not run, or is on its way, is no budget's business.
  if (pod.metadata.deletionTimestamp !== undefined) return null;
  if (["Pending", "Succeeded", "Failed"].includes(phaseOf(pod))) return null;
  const own = budgets.filter((budget) => matches(pod.metadata.labels, specOf(budget)));
  const [budget] = own;
  if (budget === undefined) return null;
  if (own.length > 1) {
    const message = "This pod has more than one PodDisruptionBudget, which is not supported.";
    return { status: 500, message };
  }
  const spec = specOf(budget);
  const expected = statefulSets
    .filter((set) => matches(templateLabels(set), spec))
    .reduce((sum, set) => sum + Number((set["spec"] as { replicas: number }).replicas), 0);
  const desiredHealthy = Math.max(0, expected - spec.maxUnavailable);
  const healthy = pods.filter((other) => matches(other.metadata.labels, spec) && isHealthy(other));
  if (!isReady(pod)) {
    if (spec.unhealthyPodEvictionPolicy === "AlwaysAllow") return null;
    if (healthy.length >= desiredHealthy && desiredHealthy > 0) return null;
  }
  if (healthy.length > desiredHealthy) return null;
  const message =
    `Cannot evict pod as it would violate the pod's disruption budget: ${budget.metadata.name} ` +
    `needs ${desiredHealthy} healthy pods and has ${healthy.length} currently`;
  return { status: 429, message };
}

function isHealthy(pod: Stored): boolean {
  return pod.metadata.deletionTimestamp === undefined && isReady(pod);
}

function isReady(pod: Stored): boolean {
  const { conditions = [] } = (pod["status"] ?? {}) as {
    conditions?: readonly { readonly type: string; readonly status: string }[];
  };
  return conditions.some(({ type, status }) => type === "Ready" && status === "True");
}

function phaseOf(pod: Stored): string {
  // As the API server has it for a pod that no kubelet has spoken of yet.
  return (pod["status"] as { readonly phase?: string } | undefined)?.phase ?? "Pending";
}

function specOf(budget: Stored): BudgetSpec {
  return budget["spec"] as BudgetSpec;
}

function templateLabels(set: Stored): Readonly<Record<string, string>> | undefined {
  type Spec = { template?: { metadata?: { labels?: Record<string, string> } } };
  return (set["spec"] as Spec | undefined)?.template?.metadata?.labels;
}

function matches(
  labels: Readonly<Record<string, string>> | undefined,
  { selector }: BudgetSpec,
): boolean {
  return Object.entries(selector.matchLabels).every(([key, value]) => labels?.[key] === value);
}
