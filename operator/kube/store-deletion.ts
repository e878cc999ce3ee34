/** What becomes of a store's data when the store is deleted. */
import type { ReplicatedStore } from "../api/v1alpha1/replicated-store.ts";
import { OWN_PREFIX } from "../api/v1alpha1/pod-template.ts";
import { objectNames, selectorLabels, selectorText, STORE_LABEL } from "../specs/labels.ts";
import type { ApiClient } from "./api-client.ts";
import { KINDS, type KubeObject, type ResourceKind } from "./resources.ts";

/** Keeps a store's object until its data is gone, where people want that. */
export const DELETE_DATA_FINALIZER = `${OWN_PREFIX}delete-data`;

/** Adds or removes the finalizer as the store's policy says. True when it had to. */
export async function settleFinalizer(
  client: ApiClient,
  store: ReplicatedStore,
  object: KubeObject,
  signal: AbortSignal,
): Promise<boolean> {
  const finalizers = object.metadata.finalizers ?? [];
  const has = finalizers.includes(DELETE_DATA_FINALIZER);
  const wants = store.spec.storage.deletionPolicy === "Delete";
  if (has === wants) return false;
  const next = wants
    ? [...finalizers, DELETE_DATA_FINALIZER]
    : finalizers.filter((name) => name !== DELETE_DATA_FINALIZER);
  await setFinalizers(client, object, next, signal);
  return true;
}

/**
 * One step of deleting everything: pods first, since a claim in use stays; then volumes, then the
 * records, last of all the store's own object. True when nothing is left to do.
 */
export async function deleteData(
  client: ApiClient,
  object: KubeObject,
  signal: AbortSignal,
): Promise<boolean> {
  const { namespace, name } = object.metadata;
  const { statefulSet } = objectNames(name);
  await client.delete(KINDS.statefulSet, namespace, statefulSet, {}, { signal });
  const pods = await listOf(client, KINDS.pod, object, signal);
  if (pods.length > 0) return false;
  for (const kind of [KINDS.claim, KINDS.shard]) {
    for (const { metadata } of await listOf(client, kind, object, signal)) {
      const { uid } = metadata;
      const options = uid === undefined ? {} : { uid };
      await client.delete(kind, namespace, metadata.name, options, { signal });
    }
  }
  const left = object.metadata.finalizers ?? [];
  const next = left.filter((finalizer) => finalizer !== DELETE_DATA_FINALIZER);
  await setFinalizers(client, object, next, signal);
  return true;
}

/** Asked of the API server itself: what is deleted cannot be had back. */
async function listOf(
  client: ApiClient,
  kind: ResourceKind,
  { metadata: { namespace, name } }: KubeObject,
  signal: AbortSignal,
): Promise<readonly KubeObject[]> {
  const labels = kind === KINDS.shard ? { [STORE_LABEL]: name } : selectorLabels(name);
  const scope = { namespace, labelSelector: selectorText(labels) };
  return (await client.list(kind, scope, { signal })).items;
}

async function setFinalizers(
  client: ApiClient,
  { metadata }: KubeObject,
  finalizers: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  // With the version: somebody else's finalizer must not be lost.
  const { resourceVersion, namespace, name } = metadata;
  const patch = { metadata: { resourceVersion, finalizers } };
  await client.merge(KINDS.store, { namespace, name }, patch, { signal });
}
