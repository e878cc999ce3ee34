/** The Services of a store: one for its pods among each other, one for clients. */
import type { ReplicatedStore } from "../api/v1alpha1/replicated-store.ts";
import { objectNames, ownedMetadata, selectorLabels } from "./labels.ts";
import type { Manifest } from "./manifest.ts";
import { PORTS } from "./ports.ts";

/** By number: ports of init containers, as native sidecars are, cannot be named everywhere. */
function port(name: keyof typeof PORTS) {
  return { name, port: PORTS[name], targetPort: PORTS[name], protocol: "TCP" };
}

/**
 * Gives each pod a name. Pods have it before they are ready: a replica is rebuilt, and elected,
 * while it is not.
 */
export function podService(store: ReplicatedStore): Manifest {
  return {
    apiVersion: "v1",
    kind: "Service",
    metadata: ownedMetadata(store, objectNames(store.metadata.name).podService),
    spec: {
      clusterIP: "None",
      publishNotReadyAddresses: true,
      selector: selectorLabels(store.metadata.name),
      ports: [port("public"), port("internal"), port("metrics")],
    },
  };
}

/** Where clients begin: any ready pod tells them who leads what. */
export function clientService(store: ReplicatedStore): Manifest {
  return {
    apiVersion: "v1",
    kind: "Service",
    metadata: ownedMetadata(store, objectNames(store.metadata.name).clientService),
    spec: {
      type: "ClusterIP",
      selector: selectorLabels(store.metadata.name),
      ports: [port("public")],
    },
  };
}

/** Host name of a pod inside the cluster, without its domain. */
export function podHost(storeName: string, namespace: string, pod: string): string {
  return `${pod}.${objectNames(storeName).podService}.${namespace}.svc`;
}
