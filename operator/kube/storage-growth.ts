/**
 * Larger volumes: the claims are asked for more, and the StatefulSet, whose claim templates cannot
 * be changed, is made again while its pods go on.
 */
import { DATA_VOLUMES } from "../api/v1alpha1/pod-template.ts";
import { parseQuantity } from "../api/v1alpha1/quantity.ts";
import { objectNames, podOrdinal } from "../specs/labels.ts";
import { claimName } from "../specs/stateful-set.ts";
import type { ApiClient } from "./api-client.ts";
import { ApiError } from "./api-error.ts";
import { PersonNeeded } from "./person-needed.ts";
import { KINDS, type KubeObject } from "./resources.ts";
import type { StoreCaches } from "./store-caches.ts";
import type { StoreSight } from "./store-view.ts";

/** The size in a claim template, as `differences` names it. */
const SIZE = /^spec\.volumeClaimTemplates\[\w+\]\.spec\.resources\.requests\.storage$/u;

type Volume = keyof typeof DATA_VOLUMES;

/**
 * Deletes the StatefulSet without its pods, to be made again with what cannot be changed in it,
 * when all of that is sizes. Throws PersonNeeded.
 */
export async function remakeStatefulSet(
  client: ApiClient,
  caches: Pick<StoreCaches, "get">,
  { store }: Pick<StoreSight, "store">,
  immutable: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  const other = immutable.filter((field) => !SIZE.test(field));
  if (other.length > 0) {
    throw new PersonNeeded(
      "StatefulSetImmutable",
      `the StatefulSet differs in ${other.join(", ")}, which cannot be changed; make a new store, or delete it with --cascade=orphan`,
    );
  }
  const { namespace, name } = store.metadata;
  const { statefulSet } = objectNames(name);
  const uid = caches.get(KINDS.statefulSet, namespace, statefulSet)?.metadata.uid;
  if (uid === undefined) return;
  const options = { uid, propagation: "Orphan" } as const;
  await client.delete(KINDS.statefulSet, namespace, statefulSet, options, { signal });
}

/**
 * Asks for what the store's claims lack in size, also those of pods that are not there now: the
 * StatefulSet does not tell of them. None is made smaller. Returns why one cannot grow; null: all
 * have what they should.
 */
export async function growClaims(
  client: ApiClient,
  caches: Pick<StoreCaches, "ofStore">,
  { store }: Pick<StoreSight, "store">,
  signal: AbortSignal,
): Promise<PersonNeeded | null> {
  const { namespace, name } = store.metadata;
  const refusals: PersonNeeded[] = [];
  /** One answer for all of a storage class is enough. */
  const refused = new Set<unknown>();
  for (const claim of caches.ofStore(KINDS.claim, namespace, name)) {
    const volume = volumeOf(claim, name);
    if (volume === null) continue;
    const storageClass = at(claim["spec"], "storageClassName");
    const { size } = store.spec.storage[volume];
    if (!isTooSmall(claim, size) || refused.has(storageClass)) continue;
    const refusal = await growClaim(client, claim, volume, size, signal);
    if (refusal === null) continue;
    refused.add(storageClass);
    refusals.push(refusal);
  }
  return refusals[0] ?? null;
}

async function growClaim(
  client: ApiClient,
  { metadata: { namespace, name } }: KubeObject,
  volume: Volume,
  size: string,
  signal: AbortSignal,
): Promise<PersonNeeded | null> {
  const patch = { spec: { resources: { requests: { storage: size } } } };
  try {
    await client.merge(KINDS.claim, { namespace, name }, patch, { signal });
    return null;
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    // Deleted since it was seen.
    if (error.status === 404) return null;
    if (error.status !== 403 && error.status !== 422) throw error;
    return new PersonNeeded(
      "StorageCannotGrow",
      `spec.storage.${volume}.size is ${size}; the claim ${name} cannot grow: ${error.message}. Set allowVolumeExpansion in its storage class, if its driver can`,
      { cause: error },
    );
  }
}

/** Which of a pod's volumes the claim is for; null: none of this store's. */
function volumeOf({ metadata: { name } }: KubeObject, storeName: string): Volume | null {
  const volumes = Object.keys(DATA_VOLUMES) as Volume[];
  const isFor = (volume: Volume): boolean => {
    const prefix = claimName(volume, "");
    return name.startsWith(prefix) && podOrdinal(storeName, name.slice(prefix.length)) !== null;
  };
  return volumes.find(isFor) ?? null;
}

/** Only a bound claim can grow; one that is not yet is told of again when it is. */
function isTooSmall(claim: KubeObject, size: string): boolean {
  const phase = at(claim["status"], "phase");
  if (claim.metadata.deletionTimestamp !== undefined) return false;
  if (phase === "Pending" || phase === "Lost") return false;
  const requested = at(at(at(claim["spec"], "resources"), "requests"), "storage");
  const bytes = typeof requested === "string" ? parseQuantity(requested) : null;
  return (bytes ?? 0) < (parseQuantity(size) ?? 0);
}

function at(value: unknown, key: string): unknown {
  return typeof value === "object" && value !== null ? Reflect.get(value, key) : undefined;
}
