/** What becomes of a store's data when the store is deleted. */
import { OWN_PREFIX } from "../api/v1alpha1/pod-template.ts";
import { parseReplicatedStore, ResourceInvalid } from "../api/v1alpha1/validation.ts";
import type { StatusTrouble } from "../controller/store-status.ts";
import { objectNames, selectorLabels, selectorText, STORE_LABEL } from "../specs/labels.ts";
import type { ApiClient } from "./api-client.ts";
import { isOwnedBy } from "./applied-objects.ts";
import { PersonNeeded } from "./person-needed.ts";
import { KINDS, type KubeObject, type ResourceKind } from "./resources.ts";
import { apiTrouble } from "./store-objects.ts";
import type { StoreSight } from "./store-view.ts";

/** Keeps a store's object until its data is gone, where people want that. */
export const DELETE_DATA_FINALIZER = `${OWN_PREFIX}delete-data`;

/** What came of {@link settleFinalizer}. */
export interface FinalizerReport {
  /** The store's object is another one now, which is looked at in turn. */
  readonly changed: boolean;
  /** Why the finalizer is not as it should be; null: it is. */
  readonly trouble: StatusTrouble | null;
  /** Nothing may be made for the store yet that would outlive it against its policy. */
  readonly holdsUp: boolean;
}

/**
 * Adds or removes the finalizer as the store's policy says. A webhook that refuses this must not
 * keep a store that runs from being looked after; one that has no pod and no volume yet (not
 * `begun`) waits for it, or deleting it would leave data behind that it was told to delete. What is
 * to be kept depends on no finalizer: the policy is read when the store ends.
 */
export async function settleFinalizer(
  client: ApiClient,
  { store, object, begun }: Pick<StoreSight, "store" | "object"> & { readonly begun: boolean },
  signal: AbortSignal,
): Promise<FinalizerReport> {
  const finalizers = object.metadata.finalizers ?? [];
  const has = finalizers.includes(DELETE_DATA_FINALIZER);
  const wants = store.spec.storage.deletionPolicy === "Delete";
  if (has === wants) return { changed: false, trouble: null, holdsUp: false };
  const next = wants
    ? [...finalizers, DELETE_DATA_FINALIZER]
    : finalizers.filter((name) => name !== DELETE_DATA_FINALIZER);
  try {
    await setFinalizers(client, object, next, signal);
    return { changed: true, trouble: null, holdsUp: false };
  } catch (error) {
    const refused = apiTrouble(error);
    signal.throwIfAborted();
    if (refused === null) throw error;
    const holdsUp = wants && !begun;
    const meaning = holdsUp
      ? "no pod is made before, since its volumes would stay when the store is deleted"
      : wants
        ? "if the store is deleted now, its volumes stay"
        : "its volumes are kept all the same when the store is deleted";
    const what = `finalizer ${DELETE_DATA_FINALIZER} cannot be ${wants ? "added" : "removed"}`;
    const message = `${what}: ${refused.message}; ${meaning}`;
    return { changed: false, trouble: { reason: refused.reason, message }, holdsUp };
  }
}

/**
 * One step of the end of a store that is being deleted; `object` is it as cached. Whether its data
 * is deleted is asked of the API server each time, since a person may keep it up to the last
 * moment. Pods first, since a claim in use stays; then volumes, what was ordered for the store or
 * told of it, the records, last of all the store's own object. True when nothing is left to do.
 * Throws PersonNeeded.
 */
export async function endStore(
  client: ApiClient,
  object: KubeObject,
  signal: AbortSignal,
): Promise<boolean> {
  const before = await heldStore(client, object, signal);
  if (before === null) return true;
  if (!deletesData(before)) {
    await letGo(client, before, signal);
    return true;
  }
  const foreign = await deleteStatefulSet(client, before, signal);
  const pods = await listOf(client, KINDS.pod, object, signal);
  if (pods.length > 0) {
    if (foreign === null) return false;
    throw new PersonNeeded(
      "ObjectTaken",
      `StatefulSet ${foreign} does not belong to this store, whose pods are not gone; nothing of its data is deleted before. Delete it, or set spec.storage.deletionPolicy to Retain`,
    );
  }
  const claims = await listOf(client, KINDS.claim, object, signal);
  const recoveries = await recoveriesOf(client, object, signal);
  const shards = await listOf(client, KINDS.shard, object, signal);
  // Asked after the lists: while it is there, nothing in them is a namesake's that was made since.
  const now = await heldStore(client, object, signal);
  if (now === null) return true;
  if (!deletesData(now)) return false;
  for (const { metadata } of claims) await deleteExactly(client, KINDS.claim, metadata, signal);
  for (const { metadata } of recoveries) {
    await deleteExactly(client, KINDS.recovery, metadata, signal);
  }
  for (const { metadata } of shards) await deleteExactly(client, KINDS.shard, metadata, signal);
  await letGo(client, now, signal);
  return true;
}

/** The very store, as it is now, while it is being deleted and waits for us; else null. */
async function heldStore(
  client: ApiClient,
  { metadata: { namespace, name, uid } }: KubeObject,
  signal: AbortSignal,
): Promise<KubeObject | null> {
  const live = await client.get(KINDS.store, namespace, name, { signal });
  if (live === null || uid === undefined || live.metadata.uid !== uid) return null;
  const { deletionTimestamp, finalizers = [] } = live.metadata;
  const held = deletionTimestamp !== undefined && finalizers.includes(DELETE_DATA_FINALIZER);
  return held ? live : null;
}

/** Throws PersonNeeded where the policy cannot be read. */
function deletesData(live: KubeObject): boolean {
  // Whatever else is wrong with it: this one word lets the data be kept.
  const { storage } = (live["spec"] ?? {}) as { readonly storage?: { deletionPolicy?: unknown } };
  if (storage?.deletionPolicy === "Retain") return false;
  try {
    return parseReplicatedStore(live).spec.storage.deletionPolicy === "Delete";
  } catch (error) {
    if (!(error instanceof ResourceInvalid)) throw error;
    throw new PersonNeeded(
      "SpecInvalid",
      `${error.message}; nothing is deleted while the spec cannot be read. Mend it; to keep the data set spec.storage.deletionPolicy to Retain`,
      { cause: error },
    );
  }
}

/** The name of a StatefulSet in its place that is not the store's, and stays; null: none. */
async function deleteStatefulSet(
  client: ApiClient,
  store: KubeObject,
  signal: AbortSignal,
): Promise<string | null> {
  const { statefulSet } = objectNames(store.metadata.name);
  const sets = await listOf(client, KINDS.statefulSet, store, signal);
  const found = sets.find(({ metadata }) => metadata.name === statefulSet);
  if (found === undefined) return null;
  if (!isOwnedBy(found, store.metadata.uid)) return statefulSet;
  await deleteExactly(client, KINDS.statefulSet, found.metadata, signal);
  return null;
}

/** By its uid: one that was made since under the same name stays. */
async function deleteExactly(
  client: ApiClient,
  kind: ResourceKind,
  { namespace, name, uid }: KubeObject["metadata"],
  signal: AbortSignal,
): Promise<void> {
  if (uid === undefined) throw new Error(`${kind.kind} ${name} has no uid`);
  await client.delete(kind, namespace, name, { uid }, { signal });
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

/** Those that people made have no labels. */
async function recoveriesOf(
  client: ApiClient,
  { metadata: { namespace, name } }: KubeObject,
  signal: AbortSignal,
): Promise<readonly KubeObject[]> {
  const { items } = await client.list(KINDS.recovery, { namespace }, { signal });
  return items.filter(({ spec }) => {
    return typeof spec === "object" && spec !== null && Reflect.get(spec, "storeName") === name;
  });
}

async function letGo(client: ApiClient, live: KubeObject, signal: AbortSignal): Promise<void> {
  const finalizers = live.metadata.finalizers ?? [];
  const next = finalizers.filter((finalizer) => finalizer !== DELETE_DATA_FINALIZER);
  await setFinalizers(client, live, next, signal);
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
