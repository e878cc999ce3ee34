/** The StatefulSet of a store. */
import type { ReplicatedStore } from "../api/v1alpha1/replicated-store.ts";
import { DATA_VOLUMES } from "../api/v1alpha1/pod-template.ts";
import { configDigest } from "./config-map.ts";
import {
  CONFIG_ANNOTATION,
  IN_SYNC_GATE,
  objectNames,
  ownedMetadata,
  selectorLabels,
  storeLabels,
} from "./labels.ts";
import type { Manifest } from "./manifest.ts";
import { RUN_AS, sidecarContainer } from "./sidecar-container.ts";

/** What a StatefulSet follows from beside its store. */
export interface StatefulSetInput {
  readonly store: ReplicatedStore;
  readonly storeId: string;
  /** Image of the sidecar where the store names none. */
  readonly image: string;
  /**
   * Pods there are to be. Not the store's wish: when scaled down, replicas leave before their pods
   * do.
   */
  readonly replicas: number;
}

/**
 * Parallel and OnDelete: pods start together, and the operator decides which is made anew when.
 * Claims are never deleted with it: what they hold is the store.
 */
export function statefulSet({ store, storeId, image, replicas }: StatefulSetInput): Manifest {
  const { name } = store.metadata;
  return {
    apiVersion: "apps/v1",
    kind: "StatefulSet",
    metadata: ownedMetadata(store, objectNames(name).statefulSet),
    spec: {
      replicas,
      serviceName: objectNames(name).podService,
      podManagementPolicy: "Parallel",
      updateStrategy: { type: "OnDelete" },
      persistentVolumeClaimRetentionPolicy: { whenDeleted: "Retain", whenScaled: "Retain" },
      revisionHistoryLimit: 3,
      selector: { matchLabels: selectorLabels(name) },
      template: podTemplate(store, storeId, image),
      volumeClaimTemplates: [
        claimTemplate(store, DATA_VOLUMES.data, store.spec.storage.data),
        claimTemplate(store, DATA_VOLUMES.wal, store.spec.storage.wal),
      ],
    },
  };
}

function podTemplate(store: ReplicatedStore, storeId: string, image: string) {
  const { template } = store.spec;
  return {
    metadata: {
      labels: { ...template?.metadata?.labels, ...storeLabels(store.metadata.name) },
      annotations: {
        ...template?.metadata?.annotations,
        [CONFIG_ANNOTATION]: configDigest(store, storeId),
        "kubectl.kubernetes.io/default-container":
          template?.spec?.containers?.[0]?.name ?? "resilver",
      },
    },
    spec: podSpec(store, image),
  };
}

function podSpec(store: ReplicatedStore, image: string) {
  const { containers, initContainers, volumes, ...scheduling } = store.spec.template?.spec ?? {};
  const { name } = store.metadata;
  return {
    serviceAccountName: objectNames(name).serviceAccount,
    automountServiceAccountToken: false,
    // Else the kubelet sets a variable for each Service of the namespace.
    enableServiceLinks: false,
    terminationGracePeriodSeconds: 30,
    topologySpreadConstraints: [spreadOverNodes(name)],
    ...scheduling,
    readinessGates: [{ conditionType: IN_SYNC_GATE }],
    securityContext: {
      runAsNonRoot: true,
      fsGroup: RUN_AS,
      // Else every start walks through all files of the volumes.
      fsGroupChangePolicy: "OnRootMismatch",
      seccompProfile: { type: "RuntimeDefault" },
    },
    ...placed(sidecarContainer(store, image), containers ?? [], initContainers ?? []),
    volumes: [
      ...(volumes ?? []),
      { name: "config", configMap: { name: objectNames(name).config } },
      { name: "tmp", emptyDir: { sizeLimit: "64Mi" } },
    ],
  };
}

/**
 * Beside people's containers the sidecar is a native one: it starts before them, ends after them,
 * and is restarted by itself.
 */
function placed(
  sidecar: Readonly<Record<string, unknown>>,
  containers: readonly object[],
  initContainers: readonly object[],
) {
  if (containers.length === 0) {
    return initContainers.length === 0
      ? { containers: [sidecar] }
      : { initContainers, containers: [sidecar] };
  }
  return {
    initContainers: [...initContainers, { ...sidecar, restartPolicy: "Always" }],
    containers,
  };
}

function spreadOverNodes(storeName: string) {
  return {
    maxSkew: 1,
    topologyKey: "kubernetes.io/hostname",
    whenUnsatisfiable: "ScheduleAnyway",
    labelSelector: { matchLabels: selectorLabels(storeName) },
  };
}

function claimTemplate(
  store: ReplicatedStore,
  name: string,
  volume: { readonly size: string; readonly storageClassName?: string | undefined },
) {
  const { storageClassName } = volume;
  return {
    metadata: { name, labels: selectorLabels(store.metadata.name) },
    spec: {
      accessModes: ["ReadWriteOnce"],
      resources: { requests: { storage: volume.size } },
      ...(storageClassName === undefined ? {} : { storageClassName }),
    },
  };
}

/** Name of the claim that a pod's volume is on. */
export function claimName(volume: keyof typeof DATA_VOLUMES, pod: string): string {
  return `${DATA_VOLUMES[volume]}-${pod}`;
}
