/** Everything that one look at a store goes by. */
import { podOrdinal } from "../specs/labels.ts";
import type { ReplicatedStore } from "../api/v1alpha1/replicated-store.ts";
import type { ShardRecord } from "../core/record.ts";
import type { ShardView } from "../core/status.ts";
import { distrustsRecord } from "../core/stops.ts";
import { DATA_VOLUMES } from "../api/v1alpha1/pod-template.ts";
import { IN_SYNC_GATE } from "../specs/labels.ts";
import { claimName } from "../specs/stateful-set.ts";
import { perObject } from "./per-object.ts";
import { claimFacts, type ClaimFacts, claimUidUnder, podFacts, type PodFacts } from "./pods.ts";
import { recordIn } from "./record-store.ts";
import { KINDS, type KubeObject } from "./resources.ts";
import type { StoreCaches } from "./store-caches.ts";

/** See the file's header. From the caches: older than the truth, if only by a moment. */
export interface StoreSight {
  readonly store: ReplicatedStore;
  readonly object: KubeObject;
  readonly storeId: string;
  /** Records that can be believed. */
  readonly records: readonly ShardRecord[];
  readonly shards: readonly KubeObject[];
  readonly recoveries: readonly KubeObject[];
  readonly pods: readonly PodFacts[];
  readonly podObjects: readonly KubeObject[];
  readonly claims: ReadonlyMap<string, ClaimFacts>;
}

/** What can be seen of a store whatever its manifest says. */
export type StoreParts = Pick<StoreSight, "shards" | "podObjects" | "pods" | "claims">;

/** Gathers a store's objects. */
export function storeSight(
  caches: StoreCaches,
  store: ReplicatedStore,
  object: KubeObject,
  storeId: string,
): StoreSight {
  const { namespace, name } = store.metadata;
  const parts = storeParts(caches, namespace, name);
  return {
    ...parts,
    store,
    object,
    storeId,
    records: parts.shards.flatMap((shard) => believed(shard, name)),
    recoveries: caches.ofStore(KINDS.recovery, namespace, name),
  };
}

/** Gathers records, pods and claims of the store of that name. */
export function storeParts(caches: StoreCaches, namespace: string, name: string): StoreParts {
  const of = (kind: (typeof KINDS)[keyof typeof KINDS]) => caches.ofStore(kind, namespace, name);
  const podObjects = of(KINDS.pod).filter((pod) => podOrdinal(name, pod.metadata.name) !== null);
  return {
    shards: of(KINDS.shard),
    podObjects,
    pods: podsInOrder(name, podObjects),
    claims: claimsByName(of(KINDS.claim)),
  };
}

/** What is known of each pod of a store, by ordinal; `demo-10` comes after `demo-9`. */
export function podsInOrder(name: string, pods: readonly KubeObject[]): readonly PodFacts[] {
  return pods
    .filter((pod) => podOrdinal(name, pod.metadata.name) !== null)
    .map(podFactsOf)
    .toSorted((a, b) => (podOrdinal(name, a.name) ?? 0) - (podOrdinal(name, b.name) ?? 0));
}

/** What is known of each claim. */
export function claimsByName(claims: readonly KubeObject[]): ReadonlyMap<string, ClaimFacts> {
  return new Map(claims.map((claim) => [claim.metadata.name, claimFacts(claim)]));
}

const podFactsOf = perObject((pod) => podFacts(pod, IN_SYNC_GATE));

/** By the name of the store whose record it is to be. */
const recordsOf = perObject(() => new Map<string, readonly ShardRecord[]>());

/** The coordinator says what is wrong with the others. */
function believed(shard: KubeObject, storeName: string): readonly ShardRecord[] {
  const known = recordsOf(shard);
  const records = known.get(storeName) ?? readable(shard, storeName);
  known.set(storeName, records);
  return records;
}

function readable(shard: KubeObject, storeName: string): readonly ShardRecord[] {
  try {
    return [recordIn(shard, storeName)];
  } catch {
    return [];
  }
}

/** Pods there have to be: those asked for, and those that still hold replicas. */
export function podsNeeded({ store, records }: Pick<StoreSight, "store" | "records">): number {
  const holders = records.flatMap((record) => [
    ...record.ensemble,
    ...record.desired,
    ...(record.next?.ensemble ?? []),
    ...record.members.map(({ node }) => node),
  ]);
  return Math.max(store.spec.replicas, podsUpTo(store, holders));
}

/** As many pods as it takes for these to be among them. */
function podsUpTo({ metadata }: ReplicatedStore, nodes: readonly string[]): number {
  return Math.max(0, ...nodes.map((node) => (podOrdinal(metadata.name, node) ?? -1) + 1));
}

/**
 * Pods there are to be. Fewer than `now` only by the word of a coordinator that has looked (`views`
 * null: it has not): while a record is lost, cannot be read or is an old one, nothing tells which
 * pods hold replicas.
 */
export function podsToBe(
  sight: Pick<StoreSight, "store" | "records" | "shards">,
  now: number,
  views: readonly ShardView[] | null,
): number {
  const needed = podsNeeded(sight);
  const unread = sight.shards.length > sight.records.length;
  if (needed >= now || views === null || unread) return Math.max(needed, now);
  if (views.some(({ stop }) => distrustsRecord(stop))) return now;
  // What the coordinator has is at times newer than the caches, at times older.
  const nodes = views
    .filter(({ initialized }) => initialized)
    .flatMap(({ replicas }) => replicas.map(({ node }) => node));
  return Math.max(needed, podsUpTo(sight.store, nodes));
}

/** Uids of the claims under a pod, where they can be said. */
export function claimUids(
  { claims }: Pick<StoreSight, "claims">,
  pod: PodFacts,
): { readonly data?: string; readonly wal?: string } {
  const uids: { data?: string; wal?: string } = {};
  for (const volume of ["data", "wal"] as const) {
    const uid = claimUidUnder(pod, claims.get(claimName(volume, pod.name)) ?? null);
    if (uid !== null) uids[volume] = uid;
  }
  return uids;
}

/**
 * True when a claim of the pod is being deleted, or is not there as far as is known: what the pod
 * holds goes with it.
 */
export function isClaimGoing({ claims }: Pick<StoreSight, "claims">, pod: string): boolean {
  return claimNames(pod).some((name) => claims.get(name)?.terminating !== false);
}

/** Names of a pod's claims. */
export function claimNames(pod: string): readonly string[] {
  return (Object.keys(DATA_VOLUMES) as (keyof typeof DATA_VOLUMES)[]).map((volume) =>
    claimName(volume, pod),
  );
}
