/** How many pods a drain may take at once. */
import type { ReplicatedStore } from "../api/v1alpha1/replicated-store.ts";
import { objectNames, ownedMetadata, selectorLabels } from "./labels.ts";
import type { Manifest } from "./manifest.ts";

/**
 * One pod, and none while another is not ready: pods are ready when all their replicas vote. A pod
 * that is not ready itself can be moved as long as the others are.
 */
export function disruptionBudget(store: ReplicatedStore): Manifest {
  return {
    apiVersion: "policy/v1",
    kind: "PodDisruptionBudget",
    metadata: ownedMetadata(store, objectNames(store.metadata.name).disruptionBudget),
    spec: {
      maxUnavailable: 1,
      unhealthyPodEvictionPolicy: "IfHealthyBudget",
      selector: { matchLabels: selectorLabels(store.metadata.name) },
    },
  };
}
