/** ReplicaRecovery objects: those that the operator makes of what it sees, and people's orders. */
import type { Clock } from "../../sidecar/lib/ports/clock.ts";
import {
  isFinished,
  type ReplicaRecovery,
  type ReplicaRecoveryStatus,
} from "../api/v1alpha1/replica-recovery.ts";
import type { ReplicatedStoreStatus } from "../api/v1alpha1/replicated-store.ts";
import { storeShardName } from "../api/v1alpha1/store-shard.ts";
import { parseReplicaRecovery, ResourceInvalid } from "../api/v1alpha1/validation.ts";
import {
  type ClaimEvidence,
  isAbout,
  isClaimReplaced,
  objectName,
  rebuildingUids,
  recoveryName,
  recoveryStatus,
} from "../controller/recovery-status.ts";
import { RecordInvalid, type ShardKey, shardKeyText } from "../core/record.ts";
import type { ShardView } from "../core/status.ts";
import { rebuildingPods } from "../controller/store-status.ts";
import { ownedMetadata, POD_LABEL, podOrdinal } from "../specs/labels.ts";
import type { ApiClient } from "./api-client.ts";
import { isStatus } from "./api-error.ts";
import { type BegunRecovery, isOfAnother, rebuiltUids, withBegun } from "./begun-recoveries.ts";
import { MadeRecoveries } from "./made-recoveries.ts";
import {
  type AwaitedRebuild,
  awaitedRebuilds,
  orderedUids,
  strangerText,
} from "./rebuild-orders.ts";
import { recordIn } from "./record-store.ts";
import { KINDS, type KubeObject } from "./resources.ts";
import { StatusWriter, timestamp } from "./status-writer.ts";
import type { StoreRuntime } from "./store-runtime.ts";
import { claimUids, podsNeeded, type StoreSight } from "./store-view.ts";

/** What one look goes by. */
interface Look {
  readonly sight: StoreSight;
  readonly runtime: StoreRuntime;
  readonly views: readonly ShardView[];
  /** Those of the store's objects that can be read. */
  readonly recoveries: readonly ReplicaRecovery[];
  readonly awaited: readonly AwaitedRebuild[];
  /** What began, and was in no object's status at the look before. */
  readonly begun: readonly BegunRecovery[];
}

/** An open object is looked at again after so long, whatever happens. */
const OPEN_MS = 1_000;

/** Keeps a store's ReplicaRecovery objects. */
export class RecoveryObjects {
  readonly #client: ApiClient;
  readonly #clock: Clock;
  readonly #statuses: StatusWriter;
  readonly #made: MadeRecoveries;

  constructor(client: ApiClient, clock: Clock) {
    this.#client = client;
    this.#clock = clock;
    this.#made = new MadeRecoveries(clock);
    this.#statuses = new StatusWriter(client, clock);
  }

  /**
   * Makes, updates and ends what there is to say, carries out orders, removes what is old. Returns
   * in how many milliseconds that is due again if nothing changes; Infinity: not at all.
   */
  async reconcile(sight: StoreSight, runtime: StoreRuntime, signal: AbortSignal): Promise<number> {
    const look = this.#look(sight, runtime);
    const { views, recoveries, awaited } = look;
    // From here on, what is written: objects are as they were cached.
    runtime.begun.forget((one) => isTold(one, recoveries));
    await this.#create(look, signal);
    runtime.coordinator.orderRebuilds(orderedUids(recoveries, views, awaited));
    const open = new Set<string>();
    let dueMs = Number.POSITIVE_INFINITY;
    for (const object of sight.recoveries) {
      const recovery = parsed(object);
      if (recovery === null || object.metadata.deletionTimestamp !== undefined) continue;
      if (isFinished(recovery.status?.phase)) {
        dueMs = Math.min(dueMs, await this.#expire(object, recovery, signal));
        continue;
      }
      dueMs = Math.min(dueMs, OPEN_MS);
      if (recovery.spec.rebuild !== undefined) open.add(recovery.spec.rebuild.pod);
      if (recovery.spec.trigger === "Detected") {
        await this.#update(look, object, recovery, signal);
      } else if (recovery.spec.rebuild !== undefined) {
        await this.#rebuild(look, object, recovery, signal);
      } else await this.#order(look, object, signal);
    }
    runtime.rates.retain(open);
    return dueMs;
  }

  /**
   * Only makes what there is to make: for what was seen while the rest of an earlier look was being
   * written down, which may take seconds where the API server has much to do.
   */
  async announce(sight: StoreSight, runtime: StoreRuntime, signal: AbortSignal): Promise<void> {
    await this.#create(this.#look(sight, runtime), signal);
  }

  #look(cached: StoreSight, runtime: StoreRuntime): Look {
    // Of one moment: what an order is admitted for no longer waits once it is ordered.
    const views = runtime.views();
    const sight = { ...cached, recoveries: this.#made.with(cached.storeId, cached.recoveries) };
    const recoveries = sight.recoveries.flatMap((object) => parsed(object) ?? []);
    const awaited = awaitedRebuilds(recoveries, views, sight.records);
    // Of what was wiped again only the last is told: who looks on sees nothing of the others.
    runtime.begun.forget((one) => isSuperseded(one, views));
    return { sight, runtime, views, recoveries, awaited, begun: runtime.begun.all() };
  }

  /**
   * Ends what is open of a store that is not there: nobody would ever answer it, and a store that
   * is made under that name must not carry out what was ordered for another. What the store owned
   * is deleted with it; people's orders have no owner, and those that a store carried out go here.
   * A rejection is kept for its time, for whoever ordered. Returns when it is due again, as
   * {@link reconcile} does.
   */
  async endWithoutStore(objects: readonly KubeObject[], signal: AbortSignal): Promise<number> {
    let dueMs = Number.POSITIVE_INFINITY;
    for (const object of objects) {
      const recovery = parsed(object);
      const goesByItself = isOwned(object) || object.metadata.deletionTimestamp !== undefined;
      if (recovery === null || goesByItself) continue;
      const { spec, status, metadata } = recovery;
      if (status?.phase === "Rejected") {
        dueMs = Math.min(dueMs, await this.#expire(object, recovery, signal));
        continue;
      }
      dueMs = Math.min(dueMs, OPEN_MS);
      const { namespace } = metadata;
      // A store that was made a moment before is told of by a watch of its own, which may be late.
      const store = await this.#client.get(KINDS.store, namespace, spec.storeName, { signal });
      if (store !== null) continue;
      if (isFinished(status?.phase)) {
        await this.#remove(object, signal);
        continue;
      }
      const message =
        `spec.storeName is ${spec.storeName}; allowed: the name of a ReplicatedStore in ` +
        `namespace ${namespace}, where there is none of this name. Make another one that names it`;
      const phase = spec.trigger === "Requested" ? "Rejected" : "Failed";
      const next = this.#ended(status, phase, message);
      await this.#statuses.write(KINDS.recovery, object, next, signal);
    }
    return dueMs;
  }

  /**
   * One for each pod that has replicas to rebuild, or other claims than it had, or had some rebuilt
   * since the last look, and none open yet.
   */
  async #create(look: Look, signal: AbortSignal): Promise<void> {
    const { sight, views } = look;
    const { name: storeName } = sight.store.metadata;
    const names = new Map(replacedPods(sight));
    for (const { node, newUid } of untoldRecoveries(look)) {
      names.set(node, objectName(node, newUid));
    }
    // What a pod has reported says more than its claims.
    for (const pod of rebuildingPods(views)) {
      const name = recoveryName(views, pod);
      if (name !== null) names.set(pod, name);
    }
    for (const [pod, name] of names) {
      const known = sight.recoveries.some((object) => {
        return object.metadata.name === name || isOpenFor(object, pod, views);
      });
      if (known) continue;
      const metadata = ownedMetadata(sight.store, name);
      const object: KubeObject = {
        metadata: { ...metadata, labels: { ...metadata.labels, [POD_LABEL]: pod } },
        spec: { storeName, rebuild: { pod }, trigger: "Detected" },
      };
      try {
        const made = await this.#client.create(KINDS.recovery, object, { signal });
        this.#made.note(sight.storeId, made);
        await this.#tell(look, pod, made, undefined, signal);
      } catch (error) {
        // Made before this process began; its event is on the way.
        if (!isStatus(error, 409)) throw error;
      }
    }
  }

  async #update(
    look: Look,
    object: KubeObject,
    { spec, status }: ReplicaRecovery,
    signal: AbortSignal,
  ): Promise<void> {
    const pod = spec.rebuild?.pod ?? "";
    const current = recoveryName(look.views, pod);
    const isOther = current !== null && current !== object.metadata.name;
    const superseded = isOther && !isAbout(status, look.views, pod);
    if (!superseded) return await this.#tell(look, pod, object, status, signal);
    const next = this.#ended(status, "Failed", `wiped again before it voted; ${current} goes on`);
    await this.#statuses.write(KINDS.recovery, object, next, signal);
  }

  /** Writes what there is to say of a pod, which said `before`. */
  async #tell(
    look: Look,
    pod: string,
    object: KubeObject,
    before: ReplicaRecoveryStatus | undefined,
    signal: AbortSignal,
  ): Promise<void> {
    const status = this.#status(look, pod, before);
    await this.#statuses.write(KINDS.recovery, object, status, signal);
  }

  #status(
    { sight, runtime, views, awaited, begun }: Look,
    pod: string,
    told: ReplicaRecoveryStatus | undefined,
  ): ReplicaRecoveryStatus {
    const own = begun.filter(({ node }) => node === pod);
    const before = withBegun(told, own);
    const input = {
      pod,
      views,
      awaited: new Set(awaited.flatMap((rebuild) => (rebuild.pod === pod ? rebuild.shard : []))),
      claims: before === told ? claimsOf(sight, pod) : claimsBefore(sight, pod, own),
      oldUids: runtime.votedUids(pod),
      storeName: sight.store.metadata.name,
      mode: sight.store.spec.recovery.mode,
      isWanted: (podOrdinal(sight.store.metadata.name, pod) ?? -1) < podsNeeded(sight),
      now: timestamp(this.#clock),
    };
    const { bytesDone = 0, bytesTotal = 0 } = recoveryStatus(
      { ...input, bytesPerSecond: null },
      before,
    );
    const nowMs = this.#clock.monotonicMs();
    const { bytesPerSecond } = runtime.rates.observe(pod, bytesDone, bytesTotal, nowMs);
    return recoveryStatus({ ...input, bytesPerSecond }, before);
  }

  /** A person lets a rebuild begin that waits for it; it is followed like any other. */
  async #rebuild(
    look: Look,
    object: KubeObject,
    recovery: ReplicaRecovery,
    signal: AbortSignal,
  ): Promise<void> {
    const { pod = "", shard } = recovery.spec.rebuild ?? {};
    const begun =
      (recovery.status?.shards ?? []).length > 0 ||
      look.begun.some((one) => {
        return (
          one.node === pod && (shard === undefined || shardKeyText(one) === shardKeyText(shard))
        );
      });
    if (begun || rebuildingUids(look.views, pod, shard).length > 0) {
      await this.#update(look, object, recovery, signal);
      return;
    }
    const stranger = strangerText(look.sight, look.views, pod);
    if (stranger !== null) {
      const next = this.#ended(recovery.status, "Rejected", stranger);
      await this.#statuses.write(KINDS.recovery, object, next, signal);
      return;
    }
    const own = look.views.flatMap(({ replicas }) => replicas);
    if (own.some(({ node, voting }) => node === pod && !voting)) {
      const message = "the pod has yet to say what it holds";
      const startedAt = recovery.status?.startedAt ?? timestamp(this.#clock);
      const waits = { phase: "Detected", message, startedAt } as const;
      await this.#statuses.write(KINDS.recovery, object, waits, signal);
      return;
    }
    const what = shard === undefined ? pod : `${shard.namespace}/${shard.shard} on ${pod}`;
    const message =
      `${what}: nothing of it waits to be rebuilt. To have it rebuilt though it votes: only while ` +
      "`kubectl get rshard` shows VOTERS n/n of at least 3 in each shard of the store, delete the " +
      "pod's claims, then the pod";
    const next = this.#ended(recovery.status, "Rejected", message);
    await this.#statuses.write(KINDS.recovery, object, next, signal);
  }

  /**
   * Goes by the object as it is now, not as it was cached: what is lost by an order cannot be had
   * back, and it may have been carried out, or taken back, since.
   */
  async #order({ sight, runtime }: Look, cached: KubeObject, signal: AbortSignal): Promise<void> {
    const object = await this.#standing(cached, signal);
    if (object === null) return;
    const { spec, status } = parsed(object) ?? {};
    if (spec?.forceQuorum === undefined || isFinished(status?.phase)) return;
    const { shard, survivor, acknowledgeDataLoss } = spec.forceQuorum;
    const begun = status?.phase === "Enrolled";
    if (!begun && !(await this.#begin(object, signal))) return;
    // An operator that was killed between the deed and its report finds the deed in the record.
    const done = begun && (await this.#isAlone(sight, shard, survivor, signal));
    const end = async (phase: "Succeeded" | "Rejected", message: string): Promise<void> => {
      const next = this.#ended(status, phase, message);
      await this.#statuses.write(KINDS.recovery, object, next, signal);
    };
    try {
      if (!done) await runtime.coordinator.forceQuorum(shard, { survivor, acknowledgeDataLoss });
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      await end("Rejected", error.message);
      return;
    }
    await end("Succeeded", `goes on with ${survivor}`);
  }

  /** The very object as it is now; null: it is gone, or is being deleted. */
  async #standing({ metadata }: KubeObject, signal: AbortSignal): Promise<KubeObject | null> {
    const { namespace, name, uid } = metadata;
    const live = await this.#client.get(KINDS.recovery, namespace, name, { signal });
    const stands = live?.metadata.uid === uid && live?.metadata.deletionTimestamp === undefined;
    return stands ? live : null;
  }

  /** False: somebody has changed the object since it was read. */
  async #begin(object: KubeObject, signal: AbortSignal): Promise<boolean> {
    const message = "is being carried out";
    const next = { phase: "Enrolled", message, startedAt: timestamp(this.#clock) } as const;
    try {
      await this.#statuses.write(KINDS.recovery, object, next, signal, "unchanged");
      return true;
    } catch (error) {
      if (isStatus(error, 409) || isStatus(error, 404)) return false;
      throw error;
    }
  }

  /** True when this node is all that the shard's ensemble is, by the record as it is now. */
  async #isAlone(
    { store }: StoreSight,
    shard: ShardKey,
    node: string,
    signal: AbortSignal,
  ): Promise<boolean> {
    const { namespace, name } = store.metadata;
    const key = storeShardName(name, shard.namespace, shard.shard);
    const object = await this.#client.get(KINDS.shard, namespace, key, { signal });
    if (object === null) return false;
    try {
      const { ensemble } = recordIn(object, name);
      return ensemble.length === 1 && ensemble[0] === node;
    } catch (error) {
      // The coordinator says what is wrong with it, and carries out nothing.
      if (error instanceof RecordInvalid) return false;
      throw error;
    }
  }

  #ended(
    before: ReplicaRecoveryStatus | undefined,
    phase: "Succeeded" | "Failed" | "Rejected",
    message: string,
  ): ReplicaRecoveryStatus {
    const now = timestamp(this.#clock);
    const { gate: _gate, rate: _rate, eta: _eta, ...kept } = before ?? {};
    return { ...kept, phase, message, startedAt: before?.startedAt ?? now, finishedAt: now };
  }

  /** For how many milliseconds it is still kept; Infinity: for good, or it is gone now. */
  async #expire(
    object: KubeObject,
    { spec, status }: ReplicaRecovery,
    signal: AbortSignal,
  ): Promise<number> {
    const endedMs = Date.parse(status?.finishedAt ?? "");
    if (Number.isNaN(endedMs)) return Number.POSITIVE_INFINITY;
    const leftMs = endedMs + spec.ttlSecondsAfterFinished * 1_000 - this.#clock.nowMs();
    if (leftMs > 0) return leftMs;
    await this.#remove(object, signal);
    return Number.POSITIVE_INFINITY;
  }

  async #remove({ metadata: { namespace, name, uid } }: KubeObject, signal: AbortSignal) {
    const options = uid === undefined ? {} : { uid };
    await this.#client.delete(KINDS.recovery, namespace, name, options, { signal });
  }
}

/** Deleted with its owner. */
function isOwned({ metadata }: KubeObject): boolean {
  const { ownerReferences } = metadata as { readonly ownerReferences?: unknown };
  return Array.isArray(ownerReferences) && ownerReferences.length > 0;
}

/** The claims that were noted while the pod voted, in the records first, and those it has now. */
function claimsOf(sight: StoreSight, pod: string): ClaimEvidence {
  const storeStatus = (sight.object["status"] ?? {}) as ReplicatedStoreStatus;
  const facts = sight.pods.find(({ name }) => name === pod);
  const recorded = sight.records
    .flatMap(({ members }) => members)
    .find((member) => member.node === pod && member.pvcUids !== undefined);
  const told = storeStatus.pods?.find(({ name }) => name === pod)?.claimUids;
  return {
    old: recorded?.pvcUids ?? told ?? null,
    now: facts === undefined ? null : claimUids(sight, facts),
  };
}

/**
 * The same for a rebuild that has begun: the records know the claims that are there now, and people
 * were told last of the old ones, or of the new ones already. Where those are known to be others,
 * and no others are known, nothing is said of them.
 */
function claimsBefore(
  sight: StoreSight,
  pod: string,
  begun: readonly BegunRecovery[],
): ClaimEvidence {
  const { pods = [] } = (sight.object["status"] ?? {}) as ReplicatedStoreStatus;
  const { now } = claimsOf(sight, pod);
  const old = pods.find(({ name }) => name === pod)?.claimUids ?? null;
  const isOther = begun.some(({ reason }) => reason === "PVCReplaced");
  return { old: isOther && !isClaimReplaced({ old, now }) ? null : old, now };
}

/** True when an object is about it, or has ended under its name. */
function isTold({ node, newUid }: BegunRecovery, recoveries: readonly ReplicaRecovery[]): boolean {
  return recoveries.some(({ metadata, status }) => {
    const ended = isFinished(status?.phase) && metadata.name === objectName(node, newUid);
    return ended || rebuiltUids(status).includes(newUid);
  });
}

/** True when another replica waits for its rebuild in that place by now. */
function isSuperseded(begun: BegunRecovery, views: readonly ShardView[]): boolean {
  const uids = rebuildingUids(views, begun.node, begun);
  return uids.length > 0 && !uids.includes(begun.newUid);
}

/** Those that need an object of their own: none is about them, or can be made so. */
function untoldRecoveries({ recoveries, begun }: Look): readonly BegunRecovery[] {
  return begun.filter((one) => {
    return !isTold(one, recoveries) && !recoveries.some((recovery) => hasRoomFor(recovery, one));
  });
}

/** True when it is open for the pod, and about no replica whose place the begun one took. */
function hasRoomFor({ spec, status }: ReplicaRecovery, begun: BegunRecovery): boolean {
  const isOpen = spec.trigger === "Detected" && !isFinished(status?.phase);
  if (!isOpen || spec.rebuild?.pod !== begun.node) return false;
  return !isOfAnother(status, begun);
}

/**
 * Pods whose data is on another claim, with a name for the object that says so: a pod tells what it
 * holds only once it runs, which takes a while.
 */
function replacedPods(sight: StoreSight): readonly (readonly [pod: string, name: string])[] {
  return sight.pods.flatMap(({ name: pod }) => {
    const claims = claimsOf(sight, pod);
    if (!isClaimReplaced(claims)) return [];
    const { old, now } = claims;
    const uid = (now?.data === old?.data ? now?.wal : now?.data) ?? "";
    const about = sight.recoveries.some((object) => {
      const evidence = parsed(object)?.status?.evidence;
      const same = evidence?.newDataClaimUid === now?.data && evidence?.newWalClaimUid === now?.wal;
      return object.metadata.labels?.[POD_LABEL] === pod && same;
    });
    return about ? [] : [[pod, objectName(pod, uid)] as const];
  });
}

/** True for an object that the operator made of the pod's present rebuild and has not ended. */
function isOpenFor(object: KubeObject, pod: string, views: readonly ShardView[]): boolean {
  const recovery = parsed(object);
  if (recovery === null || recovery.spec.trigger !== "Detected") return false;
  if (recovery.spec.rebuild?.pod !== pod || isFinished(recovery.status?.phase)) return false;
  return isAbout(recovery.status, views, pod);
}

/** The API server has checked it; one from an older definition is left alone. */
function parsed(object: KubeObject): ReplicaRecovery | null {
  try {
    return parseReplicaRecovery(object);
  } catch (error) {
    if (error instanceof ResourceInvalid) return null;
    throw error;
  }
}
