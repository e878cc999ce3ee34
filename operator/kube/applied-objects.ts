/** Brings a store's objects to what they ought to be; no request for one that is so already. */
import { crcOf } from "../../sidecar/lib/crc.ts";
import type { ReplicatedStore } from "../api/v1alpha1/replicated-store.ts";
import { OWN_PREFIX } from "../api/v1alpha1/pod-template.ts";
import { configMap } from "../specs/config-map.ts";
import { differences, statefulSetDifference } from "../specs/differences.ts";
import { disruptionBudget } from "../specs/disruption-budget.ts";
import type { Manifest } from "../specs/manifest.ts";
import { serviceAccount } from "../specs/service-account.ts";
import { clientService, podService } from "../specs/services.ts";
import { statefulSet, type StatefulSetInput } from "../specs/stateful-set.ts";
import type { ApiClient } from "./api-client.ts";
import { PersonNeeded } from "./person-needed.ts";
import { KINDS, type KubeObject, type ResourceKind } from "./resources.ts";

/** Says what was applied last: a field that is no longer wanted shows by it alone. */
const APPLIED_ANNOTATION = `${OWN_PREFIX}applied`;

/** Looks an object up in a cache. */
export type CachedObject = (
  kind: ResourceKind,
  namespace: string,
  name: string,
) => KubeObject | undefined;

/** The objects of a store in the order in which they are made: the StatefulSet last. */
function ownedObjects(
  input: StatefulSetInput,
): readonly { readonly kind: ResourceKind; readonly manifest: Manifest }[] {
  const { store, storeId } = input;
  return [
    { kind: KINDS.serviceAccount, manifest: serviceAccount(store) },
    { kind: KINDS.configMap, manifest: configMap(store, storeId) },
    { kind: KINDS.service, manifest: podService(store) },
    { kind: KINDS.service, manifest: clientService(store) },
    { kind: KINDS.disruptionBudget, manifest: disruptionBudget(store) },
    { kind: KINDS.statefulSet, manifest: statefulSet(input) },
  ].map(({ kind, manifest }) => ({ kind, manifest: withDigest(manifest) }));
}

/**
 * Applies what differs. Fields of the StatefulSet that cannot be changed are given back instead;
 * it is left alone then. Throws PersonNeeded, or what the client throws.
 */
export async function applyOwned(
  client: ApiClient,
  input: StatefulSetInput,
  cached: CachedObject,
  signal: AbortSignal,
): Promise<readonly string[]> {
  for (const { kind, manifest } of ownedObjects(input)) {
    const { namespace, name } = manifest.metadata;
    const live = cached(kind, namespace, name);
    if (live !== undefined) {
      refuseForeign(live, kind, input.store);
      if (differences(manifest, live).length === 0) continue;
      const { immutable } = statefulSetDifference(manifest, live);
      if (kind === KINDS.statefulSet && immutable.length > 0) return immutable;
    }
    await client.apply(kind, manifest, { signal });
  }
  return [];
}

/** What has another owner, or none, was not made for this store: it is not taken over. */
function refuseForeign(live: KubeObject, kind: ResourceKind, store: ReplicatedStore): void {
  if (isOwnedBy(live, store.metadata.uid)) return;
  throw new PersonNeeded(
    "ObjectTaken",
    `${kind.kind} ${live.metadata.name} exists and does not belong to this store; delete it, or give the store another name`,
  );
}

/** True when one of the object's owners has this uid. */
export function isOwnedBy(object: KubeObject, uid: string | undefined): boolean {
  const { ownerReferences } = object.metadata as { ownerReferences?: unknown };
  const owners = Array.isArray(ownerReferences) ? ownerReferences : [];
  return owners.some((owner: unknown) => {
    const same = typeof owner === "object" && owner !== null && Reflect.get(owner, "uid") === uid;
    return same && uid !== undefined;
  });
}

function withDigest(manifest: Manifest): Manifest {
  const bytes = new TextEncoder().encode(JSON.stringify(manifest));
  const digest = crcOf(bytes).toString(16).padStart(8, "0");
  const annotations = { ...manifest.metadata.annotations, [APPLIED_ANNOTATION]: digest };
  return { ...manifest, metadata: { ...manifest.metadata, annotations } };
}
