/** Names and labels of everything that belongs to a store. */
import { API_VERSION } from "../api/v1alpha1/metadata.ts";
import type { ReplicatedStore } from "../api/v1alpha1/replicated-store.ts";
import { OWN_PREFIX } from "../api/v1alpha1/pod-template.ts";
import type { ManifestMetadata, OwnerReference } from "./manifest.ts";

/** The store an object belongs to. */
export const STORE_LABEL = `${OWN_PREFIX}store`;
/** The namespace of keys a StoreShard holds. */
export const NAMESPACE_LABEL = `${OWN_PREFIX}namespace`;
/** The pod a ReplicaRecovery is about. */
export const POD_LABEL = `${OWN_PREFIX}pod`;
/** Changes with the configuration, so that pods are made anew when it does. */
export const CONFIG_ANNOTATION = `${OWN_PREFIX}config`;
/** True on a pod while all its replicas vote. */
export const IN_SYNC_GATE = `${OWN_PREFIX}InSync`;

/** What pods of a store are told by; never changes. */
export function selectorLabels(storeName: string): Readonly<Record<string, string>> {
  return { "app.kubernetes.io/name": "resilver", [STORE_LABEL]: storeName };
}

/** The labels of every object of a store. */
export function storeLabels(storeName: string): Readonly<Record<string, string>> {
  return {
    ...selectorLabels(storeName),
    "app.kubernetes.io/instance": storeName,
    "app.kubernetes.io/managed-by": "resilver-operator",
  };
}

/** `a=b,c=d`, as a selector in a query. */
export function selectorText(labels: Readonly<Record<string, string>>): string {
  return Object.entries(labels)
    .map(([key, value]) => `${key}=${value}`)
    .join(",");
}

/** Names of a store's objects. */
export function objectNames(storeName: string) {
  return {
    statefulSet: storeName,
    clientService: storeName,
    podService: `${storeName}-pods`,
    disruptionBudget: storeName,
    config: `${storeName}-config`,
    serviceAccount: storeName,
  } as const;
}

/** Name of the pod with this ordinal. */
export function podName(storeName: string, ordinal: number): string {
  return `${storeName}-${ordinal}`;
}

/** The ordinal in a pod's name; null when it is not one of this store's. */
export function podOrdinal(storeName: string, name: string): number | null {
  if (!name.startsWith(`${storeName}-`)) return null;
  const digits = name.slice(storeName.length + 1);
  return /^(0|[1-9][0-9]*)$/u.test(digits) ? Number(digits) : null;
}

/** Metadata of an object that is deleted with its store. */
export function ownedMetadata(store: ReplicatedStore, name: string): ManifestMetadata {
  return {
    name,
    namespace: store.metadata.namespace,
    labels: storeLabels(store.metadata.name),
    ownerReferences: [ownerReference(store)],
  };
}

/** Throws for an object that did not come from the API server: it has no uid. */
function ownerReference({ metadata }: ReplicatedStore): OwnerReference {
  const { name, uid } = metadata;
  if (uid === undefined) throw new Error(`ReplicatedStore ${name} has no uid`);
  return {
    apiVersion: API_VERSION,
    kind: "ReplicatedStore",
    name,
    uid,
    controller: true,
    blockOwnerDeletion: true,
  };
}
