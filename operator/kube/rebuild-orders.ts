/** What people ordered to be rebuilt and is not done yet. Pure. */
import { isFinished, type ReplicaRecovery } from "../api/v1alpha1/replica-recovery.ts";
import { rebuildingUids } from "../controller/recovery-status.ts";
import { type RecordMember, shardKeyText, type ShardRecord } from "../core/record.ts";
import type { ShardView } from "../core/status.ts";
import { podName, podOrdinal } from "../specs/labels.ts";
import { podsNeeded, type StoreSight } from "./store-view.ts";

/** One replica that an order was admitted for. */
export interface AwaitedRebuild {
  readonly pod: string;
  /** `namespace/shard`. */
  readonly shard: string;
  readonly uid: string;
}

/** Orders to rebuild that have not ended. */
function openOrders(recoveries: readonly ReplicaRecovery[]): readonly ReplicaRecovery[] {
  return recoveries.filter(({ spec, status }) => {
    const ordered = spec.trigger === "Requested" && spec.rebuild !== undefined;
    return ordered && !isFinished(status?.phase);
  });
}

/**
 * Replicas whose rebuild was admitted and has not begun by the record, though nothing holds them
 * back any more: one that votes, on another claim or set back, looks like any voter from the moment
 * at which its order opens the gate to the moment at which the record has it learn.
 */
export function awaitedRebuilds(
  recoveries: readonly ReplicaRecovery[],
  views: readonly ShardView[],
  records: readonly ShardRecord[],
): readonly AwaitedRebuild[] {
  return openOrders(recoveries).flatMap(({ spec, status }) => {
    const { pod = "", shard: only } = spec.rebuild ?? {};
    const orderedMs = Date.parse(status?.startedAt ?? "");
    const admitted = (status?.shards ?? []).filter((told) => {
      const meant = only === undefined || shardKeyText(only) === shardKeyText(told);
      return meant && (told.phase === "Deferred" || told.phase === "Detected");
    });
    return admitted.flatMap((told) => {
      const shard = shardKeyText(told);
      const seen = views.find((view) => shardKeyText(view) === shard);
      const uid = seen?.replicas.find(({ node }) => node === pod)?.uid;
      if (told.newReplicaUid !== undefined && told.newReplicaUid !== uid) return [];
      const record = records.find((other) => shardKeyText(other) === shard);
      const member = record?.members.find(({ node }) => node === pod);
      if (member === undefined || member.replicaUid !== uid) return [];
      return hasBegun(member, orderedMs) ? [] : [{ pod, shard, uid }];
    });
  });
}

/** It learns, or it has learned since and votes again. */
function hasBegun({ role, lastRecoveryAtMs }: RecordMember, orderedMs: number): boolean {
  return role !== "voter" || (lastRecoveryAtMs ?? Number.NEGATIVE_INFINITY) >= orderedMs;
}

/** Uids of all replicas whose rebuild may begin by a person's order. */
export function orderedUids(
  recoveries: readonly ReplicaRecovery[],
  views: readonly ShardView[],
  awaited: readonly AwaitedRebuild[],
): ReadonlySet<string> {
  const waiting = openOrders(recoveries).flatMap(({ spec }) => {
    const { pod = "", shard } = spec.rebuild ?? {};
    return rebuildingUids(views, pod, shard);
  });
  return new Set([...waiting, ...awaited.map(({ uid }) => uid)]);
}

/** What to tell whoever names a pod that the store has not; null: it has. */
export function strangerText(
  sight: Pick<StoreSight, "store" | "records" | "pods">,
  views: readonly ShardView[],
  pod: string,
): string | null {
  const { name } = sight.store.metadata;
  const asked = Array.from({ length: podsNeeded(sight) }, (_, ordinal) => podName(name, ordinal));
  const seen = [
    ...sight.pods.map((one) => one.name),
    ...views.flatMap(({ replicas }) => replicas.map(({ node }) => node)),
  ];
  const pods = [...new Set([...asked, ...seen])].toSorted(
    (a, b) => (podOrdinal(name, a) ?? 0) - (podOrdinal(name, b) ?? 0),
  );
  if (pods.includes(pod)) return null;
  return `spec.rebuild.pod is ${pod}; allowed: a pod of store ${name}, which has ${pods.join(", ")}`;
}
