/** The kinds of object the operator deals with, and their paths. */
import { API_VERSION, type ObjectMetadata } from "../api/v1alpha1/metadata.ts";

/** A kind of object as the API server names it. */
export interface ResourceKind {
  readonly apiVersion: string;
  readonly kind: string;
  readonly plural: string;
}

/** An object as it came: plain JSON. Times are text, and no field is dropped. */
export interface KubeObject {
  readonly apiVersion?: string;
  readonly kind?: string;
  readonly metadata: ObjectMetadata;
  readonly [field: string]: unknown;
}

function resource(apiVersion: string, kind: string, plural: string): ResourceKind {
  return Object.freeze({ apiVersion, kind, plural });
}

/** All kinds, by a short name. */
export const KINDS = Object.freeze({
  store: resource(API_VERSION, "ReplicatedStore", "replicatedstores"),
  shard: resource(API_VERSION, "StoreShard", "storeshards"),
  recovery: resource(API_VERSION, "ReplicaRecovery", "replicarecoveries"),
  statefulSet: resource("apps/v1", "StatefulSet", "statefulsets"),
  service: resource("v1", "Service", "services"),
  configMap: resource("v1", "ConfigMap", "configmaps"),
  serviceAccount: resource("v1", "ServiceAccount", "serviceaccounts"),
  pod: resource("v1", "Pod", "pods"),
  claim: resource("v1", "PersistentVolumeClaim", "persistentvolumeclaims"),
  /** These two belong to no namespace. */
  node: resource("v1", "Node", "nodes"),
  volume: resource("v1", "PersistentVolume", "persistentvolumes"),
  disruptionBudget: resource("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets"),
  lease: resource("coordination.k8s.io/v1", "Lease", "leases"),
  event: resource("events.k8s.io/v1", "Event", "events"),
});

/**
 * Path of a collection (`name` absent), an object, or a subresource of it. `namespace` null: all
 * namespaces.
 */
export function resourcePath(
  kind: ResourceKind,
  namespace: string | null,
  name?: string,
  subresource?: string,
): string {
  const root = kind.apiVersion.includes("/") ? "/apis/" : "/api/";
  const parts = [
    ...(namespace === null ? [] : ["namespaces", namespace]),
    kind.plural,
    ...(name === undefined ? [] : [name]),
    ...(subresource === undefined ? [] : [subresource]),
  ];
  return `${root}${kind.apiVersion}/${parts.map(encodeURIComponent).join("/")}`;
}

/** `namespace/name`: what queues and caches know an object by. */
export function objectKey({ metadata }: KubeObject): string {
  return `${metadata.namespace}/${metadata.name}`;
}
