/**
 * Larger volumes: the claims are asked for more, and the StatefulSet, whose claim templates cannot
 * be changed, is made again while its pods go on.
 */
import { parseQuantity } from "../api/v1alpha1/quantity.ts";
import { objectNames } from "../specs/labels.ts";
import { claimName } from "../specs/stateful-set.ts";
import type { ApiClient } from "./api-client.ts";
import { ApiError } from "./api-error.ts";
import { PersonNeeded } from "./person-needed.ts";
import { KINDS } from "./resources.ts";
import type { StoreCaches } from "./store-caches.ts";
import type { StoreSight } from "./store-view.ts";

/** The size in a claim template, as `differences` names it. */
const SIZE = /^spec\.volumeClaimTemplates\[\w+\]\.spec\.resources\.requests\.storage$/u;

/**
 * Brings about what cannot be changed in the StatefulSet, when all of it is sizes. Throws
 * PersonNeeded.
 */
export async function growStorage(
  client: ApiClient,
  caches: StoreCaches,
  sight: StoreSight,
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
  const { namespace, name } = sight.store.metadata;
  for (const pod of sight.pods) {
    for (const volume of ["data", "wal"] as const) {
      await growClaim(client, caches, sight, claimName(volume, pod.name), volume, signal);
    }
  }
  const set = caches.get(KINDS.statefulSet, namespace, objectNames(name).statefulSet);
  const uid = set?.metadata.uid;
  if (uid === undefined) return;
  const options = { uid, propagation: "Orphan" } as const;
  await client.delete(KINDS.statefulSet, namespace, objectNames(name).statefulSet, options, {
    signal,
  });
}

async function growClaim(
  client: ApiClient,
  caches: StoreCaches,
  { store }: StoreSight,
  name: string,
  volume: "data" | "wal",
  signal: AbortSignal,
): Promise<void> {
  const { namespace } = store.metadata;
  const claim = caches.get(KINDS.claim, namespace, name);
  if (claim === undefined || claim.metadata.deletionTimestamp !== undefined) return;
  const { size } = store.spec.storage[volume];
  if ((parseQuantity(requested(claim["spec"])) ?? 0) >= (parseQuantity(size) ?? 0)) return;
  const patch = { spec: { resources: { requests: { storage: size } } } };
  try {
    await client.merge(KINDS.claim, { namespace, name }, patch, { signal });
  } catch (error) {
    if (!(error instanceof ApiError) || (error.status !== 403 && error.status !== 422)) throw error;
    throw new PersonNeeded(
      "StorageCannotGrow",
      `spec.storage.${volume}.size is ${size}; the claim ${name} cannot grow: ${error.message}. Set allowVolumeExpansion in its storage class, if its driver can`,
      { cause: error },
    );
  }
}

function requested(spec: unknown): string {
  const at = (value: unknown, key: string): unknown =>
    typeof value === "object" && value !== null ? Reflect.get(value, key) : undefined;
  const storage = at(at(at(spec, "resources"), "requests"), "storage");
  return typeof storage === "string" ? storage : "";
}
