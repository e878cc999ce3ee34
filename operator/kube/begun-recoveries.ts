/**
 * Recoveries that began and that no object tells of yet. One of little data is over before the next
 * look at its store: by what is there to be seen then, it never was.
 */
import type { ReplicaRecoveryStatus } from "../api/v1alpha1/replica-recovery.ts";
import type { CoordinatorEvent } from "../core/events.ts";
import { shardKeyText } from "../core/record.ts";

/** As the coordinator told of it. */
export type BegunRecovery = CoordinatorEvent & { readonly kind: "recoveryStarted" };

/** See the file's header. One for each pod and shard at most: the last. */
export class BegunRecoveries {
  readonly #begun = new Map<string, BegunRecovery>();

  /** Takes note of what begins, of all that happens. */
  saw(event: CoordinatorEvent): void {
    if (event.kind !== "recoveryStarted") return;
    this.#begun.set(`${event.node} ${shardKeyText(event)}`, event);
  }

  /** Those that are untold. */
  all(): readonly BegunRecovery[] {
    return [...this.#begun.values()];
  }

  /** Of these nothing is left to tell. */
  forget(isOver: (begun: BegunRecovery) => boolean): void {
    for (const [key, begun] of this.#begun) if (isOver(begun)) this.#begun.delete(key);
  }
}

/** Uids of the replicas that an object's status is about. */
export function rebuiltUids(status: ReplicaRecoveryStatus | undefined): readonly string[] {
  return (status?.shards ?? []).flatMap(({ newReplicaUid }) => newReplicaUid ?? []);
}

/** True when an object that says this is about a replica whose place the begun one takes. */
export function isOfAnother(
  status: ReplicaRecoveryStatus | undefined,
  begun: BegunRecovery,
): boolean {
  return (status?.shards ?? []).some(
    ({ namespace, shard, newReplicaUid = begun.newUid }) =>
      namespace === begun.namespace && shard === begun.shard && newReplicaUid !== begun.newUid,
  );
}

/**
 * What an object says, with what began since: as enrolled, since no look has seen how far it is.
 * The same object when there is nothing to add.
 */
export function withBegun(
  before: ReplicaRecoveryStatus | undefined,
  begun: readonly BegunRecovery[],
): ReplicaRecoveryStatus | undefined {
  const known = before?.shards ?? [];
  const told = new Set(rebuiltUids(before));
  const added = begun.filter((one) => !told.has(one.newUid) && !isOfAnother(before, one));
  const [first] = added;
  if (first === undefined) return before;
  const stays = known.filter(({ namespace, shard }) => {
    return !added.some((other) => other.namespace === namespace && other.shard === shard);
  });
  const shards = added.map(({ namespace, shard, newUid }) => {
    return { namespace, shard, phase: "Enrolled", newReplicaUid: newUid } as const;
  });
  return {
    ...before,
    reason: before?.reason ?? first.reason,
    evidence: {
      ...(first.oldUid === "" ? {} : { oldReplicaUid: first.oldUid }),
      newReplicaUid: first.newUid,
      reportedBy: first.node,
      ...before?.evidence,
    },
    shards: [...stays, ...shards],
  };
}
