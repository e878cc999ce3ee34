/**
 * Brings one store to what its ReplicatedStore asks for, one look at a time: its objects, its
 * coordinator, where its shards are, what people see, its rollout. Level-based: nothing depends on
 * having seen what happened before.
 */
import type { Clock } from "../../sidecar/lib/ports/clock.ts";
import type { Logger } from "../../sidecar/lib/ports/logger.ts";
import type { ReplicatedStore, ReplicatedStoreStatus } from "../api/v1alpha1/replicated-store.ts";
import { storeShardName } from "../api/v1alpha1/store-shard.ts";
import { parseReplicatedStore } from "../api/v1alpha1/validation.ts";
import type { NodeEndpoint, SidecarClient } from "../controller/ports.ts";
import type { CoordinatorMetrics, StoreViews } from "../controller/coordinator-metrics.ts";
import type { StatusTrouble } from "../controller/store-status.ts";
import type { CoordinatorEvent } from "../core/events.ts";
import { defaultReplicationFactor } from "../core/placement.ts";
import { wantedEnsemble } from "../core/scale.ts";
import { objectNames, podName } from "../specs/labels.ts";
import { PORTS } from "../specs/ports.ts";
import { podHost } from "../specs/services.ts";
import { distrustsRecord } from "../core/stops.ts";
import { addressedSidecars } from "./addressed-sidecars.ts";
import type { ApiClient } from "./api-client.ts";
import { CallSlots } from "./call-slots.ts";
import { ClaimLabels } from "./claim-labels.ts";
import { eventNote } from "./event-notes.ts";
import type { EventRecorder } from "./event-recorder.ts";
import { firstFailure } from "./first-failure.ts";
import { KubePlatform, podAddressResolver, type ResolveAddress } from "./kube-platform.ts";
import { KUBE_LIMITS, type KubeLimits } from "./limits.ts";
import { LostNodes } from "./lost-nodes.ts";
import { perObject } from "./per-object.ts";
import { refusalOf } from "./person-needed.ts";
import type { ReconcileResult } from "./reconcile-loop.ts";
import { KubeRecordStore } from "./record-store.ts";
import { RecoveryObjects } from "./recovery-objects.ts";
import { KINDS, type KubeObject } from "./resources.ts";
import { RetainedShards } from "./retained-shards.ts";
import { StatusWriter } from "./status-writer.ts";
import type { StoreCaches } from "./store-caches.ts";
import { DELETE_DATA_FINALIZER, endStore, settleFinalizer } from "./store-deletion.ts";
import { apiTrouble, bringAbout, type ObjectsReport } from "./store-objects.ts";
import { StoreOwner, type LeasePlace } from "./store-owner.ts";
import { rollOut } from "./store-rollout.ts";
import {
  coordinatorSpec,
  recoveryPolicy,
  runtimeSignature,
  StoreRuntime,
} from "./store-runtime.ts";
import { podsToBe, storeParts, storeSight, type StoreSight } from "./store-view.ts";

/** What the reconciler is made of. */
export interface StoreReconcilerOptions {
  readonly client: ApiClient;
  readonly caches: StoreCaches;
  readonly sidecars: SidecarClient;
  readonly clock: Clock;
  readonly events: EventRecorder;
  readonly metrics: CoordinatorMetrics;
  readonly logger: Logger;
  /** Image of the sidecar where a store names none. */
  readonly image: string;
  /** This operator's Lease: what its stores are known by as its own. */
  readonly lease: LeasePlace;
  /** Has a store (`namespace/name`) looked at again soon. */
  readonly touched: (key: string) => void;
  /** True when something happened since the present look at the store began. */
  readonly hasNews: (key: string) => boolean;
  /** An invariant broke in a store's coordinator: the process must end. */
  readonly broken: (error: unknown) => void;
  /** Where pods are reached, when that is not by their names and addresses in the cluster. */
  readonly endpoint?: (namespace: string, node: string) => NodeEndpoint;
  readonly limits?: Partial<KubeLimits>;
}

/** Looked at anew this often, even if nothing was seen to change. */
const RESYNC_MS = 60_000;
/** While something is under way. */
const BUSY_MS = 1_000;
/** A record that cannot be read for so long is told of. */
const UNREAD_MS = 15_000;
/** While everything serves, and an object could not be brought about. */
const TROUBLE_MS = 10_000;

const storeIn = perObject(parseReplicatedStore);

/** See the file's header. */
export class StoreReconciler {
  readonly #options: StoreReconcilerOptions;
  readonly #statuses: StatusWriter;
  readonly #owner: StoreOwner;
  readonly #recoveries: RecoveryObjects;
  readonly #retained: RetainedShards;
  readonly #lostNodes: LostNodes;
  readonly #claimLabels: ClaimLabels;
  readonly #runtimes = new Map<string, StoreRuntime>();
  readonly #starts = new CallSlots(KUBE_LIMITS.startsAtOnceMax);

  constructor(options: StoreReconcilerOptions) {
    this.#options = options;
    const statuses = new StatusWriter(options.client, options.clock);
    this.#statuses = statuses;
    this.#owner = new StoreOwner({ ...options, statuses, leave: (key) => this.#forget(key) });
    this.#recoveries = new RecoveryObjects(options.client, options.clock);
    this.#retained = new RetainedShards(options.client, options.clock);
    this.#lostNodes = new LostNodes(options.client, options.clock);
    this.#claimLabels = new ClaimLabels(options.client, options.clock);
  }

  /** One look at the store `namespace/name`. */
  async reconcile(key: string, signal: AbortSignal): Promise<ReconcileResult> {
    const [namespace = "", name = ""] = key.split("/");
    const { caches } = this.#options;
    const object = caches.get(KINDS.store, namespace, name);
    if (object === undefined) {
      await this.#forget(key);
      this.#owner.forget(key);
      const shards = caches.ofStore(KINDS.shard, namespace, name);
      await this.#retained.reconcile(namespace, name, shards, signal);
      const recoveries = caches.ofStore(KINDS.recovery, namespace, name);
      return after(await this.#recoveries.endWithoutStore(recoveries, signal));
    }
    const owner = await this.#owner.settle(key, object, signal);
    if (owner !== "ours") return owner;
    // Whatever is wrong with a manifest: what runs goes on.
    this.#runtimes.get(key)?.saw(storeParts(caches, namespace, name));
    try {
      return await this.#look(key, object, signal);
    } catch (error) {
      const refusal = refusalOf(error);
      if (refusal === null) throw error;
      const { reason, message } = refusal;
      if (!(await this.#statuses.refuse(object, reason, message, signal))) {
        return { requeueAfterMs: BUSY_MS };
      }
      this.#note(object, "Warning", reason, message);
      return { requeueAfterMs: RESYNC_MS, routine: true };
    }
  }

  /** The stores that are looked after, as their coordinators see them. */
  stores(): readonly StoreViews[] {
    return [...this.#runtimes].map(([key, runtime]) => {
      const [namespace = "", name = ""] = key.split("/");
      return { storeId: runtime.storeId, views: runtime.views(), called: { namespace, name } };
    });
  }

  /** Ends all coordinators; the stores serve on. */
  async close(): Promise<void> {
    await Promise.all([...this.#runtimes.keys()].map((key) => this.#drop(key)));
  }

  async #look(key: string, object: KubeObject, signal: AbortSignal): Promise<ReconcileResult> {
    const { caches } = this.#options;
    if (object.metadata.deletionTimestamp !== undefined)
      return await this.#end(key, object, signal);
    const store = storeIn(object);
    const storeId = await this.#storeId(store, signal);
    const sight = storeSight(caches, store, object, storeId);
    const replicas = this.#pods(key, sight);
    // Before anything that may be refused: whatever is wrong with a manifest, a leader that dies
    // needs an election, and a pod that was made again its readiness.
    const unlabelled = await this.#claimLabels.reconcile(sight, signal);
    const runtime = await this.#runtime(key, sight, replicas);
    const { changed, ...objects } = await this.#bringAbout(sight, replicas, signal);
    if (changed) return null;
    this.#warn(sight, objects.trouble);
    // A new coordinator knows nothing for a moment; that is no news about the store, and must not
    // take its pods out of service.
    if (!runtime.coordinator.hasLooked) return await this.#sayUnread(object, runtime, signal);
    const moving = this.#steer(sight, runtime);
    let dueMs: number | null = null;
    // What was refused a moment ago is not tried again in the same look.
    const announce = async (): Promise<void> => {
      if (dueMs !== null) await this.#announceNews(key, sight, runtime, signal);
    };
    const failure = await firstFailure(signal, [
      async () => {
        dueMs = await this.#recoveries.reconcile(sight, runtime, signal);
      },
      () => this.#statuses.gates(sight, runtime.settledViews(), signal),
      announce,
    ]);
    // Nothing is taken away while what went before could not be written down.
    const nodeLoss = failure === null ? await this.#replaceLost(sight, runtime, signal) : null;
    // What the pods are to be made from is known when it is there again.
    const rollout = objects.remade
      ? "the StatefulSet is made anew, for larger volumes"
      : failure === null
        ? await this.#roll(sight, runtime, replicas, signal)
        : null;
    // A rollout hands a pod's shards over, and may wait long for leave to make it anew. Said before
    // statuses are written: that may fail at each look.
    const still = [failure, rollout, nodeLoss].every((why) => why === null) && !moving;
    runtime.podsSettled = still && sight.pods.every(({ terminating }) => !terminating);
    const late = await firstFailure(signal, [
      () => this.#statuses.shards(sight, runtime.views(), signal),
      announce,
    ]);
    const first = failure ?? late;
    const trouble = objects.trouble ?? unlabelled ?? apiTrouble(first);
    const under = { settled: runtime.settledViews(), rollout, nodeLoss, trouble };
    const told = await this.#statuses.store(sight, runtime.views(), replicas, under, signal);
    if (first !== null) throw first;
    const whole = runtime.views().every(({ replicas: all }) => all.every(({ voting }) => voting));
    const idle = [told, whole, !moving, rollout === null, nodeLoss === null].every(Boolean);
    return idle ? resting(trouble, dueMs ?? RESYNC_MS) : { requeueAfterMs: BUSY_MS };
  }

  /** What happened while the look was written down is not to wait for the next one. */
  async #announceNews(key: string, sight: StoreSight, runtime: StoreRuntime, signal: AbortSignal) {
    const { caches, hasNews } = this.#options;
    if (!hasNews(key)) return;
    const now = storeSight(caches, sight.store, sight.object, sight.storeId);
    await this.#recoveries.announce(now, runtime, signal);
  }

  /** The store's finalizer, then its objects. `changed`: there is another version of the store. */
  async #bringAbout(
    sight: StoreSight,
    replicas: number,
    signal: AbortSignal,
  ): Promise<ObjectsReport & { readonly changed: boolean }> {
    const { client, caches, image } = this.#options;
    const { store, object, pods, claims } = sight;
    const begun = this.#statefulSet(store) !== undefined || pods.length > 0 || claims.size > 0;
    const finalizer = await settleFinalizer(client, { store, object, begun }, signal);
    const { changed, trouble, holdsUp } = finalizer;
    if (changed || holdsUp) return { changed, trouble, remade: false };
    const objects = await bringAbout({ client, caches, sight, image, replicas }, signal);
    return { changed, trouble: trouble ?? objects.trouble, remade: objects.remade };
  }

  /** Read again by its loop every few seconds; one that stays unread must be known of. */
  async #sayUnread(
    object: KubeObject,
    runtime: StoreRuntime,
    signal: AbortSignal,
  ): Promise<ReconcileResult> {
    const { unread } = runtime.coordinator;
    if (unread.length > 0 && runtime.ageMs > UNREAD_MS) {
      const message = `records that cannot be read: ${unread.join("; ")}`;
      await this.#statuses.refuse(object, "RecordUnread", message, signal);
    }
    return { requeueAfterMs: BUSY_MS };
  }

  /** Once for each trouble: it is looked at every second while pods are away. */
  #warn({ object }: StoreSight, trouble: StatusTrouble | null): void {
    if (trouble === null) return;
    const { conditions = [] } = (object["status"] ?? {}) as ReplicatedStoreStatus;
    const { reason, message } = trouble;
    if (conditions.some((told) => told.reason === reason && told.message === message)) return;
    this.#note(object, "Warning", reason, message);
  }

  /** The coordinator goes before the pods do: what they report then means nothing. */
  async #end(key: string, object: KubeObject, signal: AbortSignal): Promise<ReconcileResult> {
    await this.#forget(key);
    const finalizers = object.metadata.finalizers ?? [];
    if (!finalizers.includes(DELETE_DATA_FINALIZER)) return null;
    const done = await endStore(this.#options.client, object, signal);
    return done ? null : { requeueAfterMs: BUSY_MS };
  }

  /**
   * That of the records, which outlive their store; else the store's own. The first time its
   * records are asked for by name, since the cache may be behind: data must never be taken for
   * another store's. (A list of a namespace costs the API server time by all that is in it.)
   */
  async #storeId(store: ReplicatedStore, signal: AbortSignal): Promise<string> {
    const { client, caches } = this.#options;
    const { namespace, name, uid } = store.metadata;
    const cached = caches.ofStore(KINDS.shard, namespace, name).flatMap(storeIdOf)[0];
    const known = cached ?? store.status?.storeId;
    if (known !== undefined) return known;
    const names = store.spec.namespaces.flatMap((of) =>
      Array.from({ length: of.shards }, (_, shard) => storeShardName(name, of.name, shard)),
    );
    const records = await Promise.all(
      names.map((record) => client.get(KINDS.shard, namespace, record, { signal })),
    );
    const kept = records.flatMap((record) => (record === null ? [] : storeIdOf(record)))[0] ?? uid;
    if (kept === undefined) throw new Error(`ReplicatedStore ${name} has no uid`);
    return kept;
  }

  #statefulSet({ metadata: { namespace, name } }: StoreSight["store"]): KubeObject | undefined {
    return this.#options.caches.get(KINDS.statefulSet, namespace, objectNames(name).statefulSet);
  }

  #pods(key: string, sight: StoreSight): number {
    const runtime = this.#runtimes.get(key);
    // A process that starts finds what the one before it made.
    const made = this.#statefulSet(sight.store);
    if (runtime?.storeId !== sight.storeId) return podsToBe(sight, replicasOf(made), null);
    const views = runtime.coordinator.hasLooked ? runtime.views() : null;
    return podsToBe(sight, runtime.pods, views);
  }

  async #runtime(key: string, sight: StoreSight, replicas: number): Promise<StoreRuntime> {
    const { sidecars, clock, touched, broken, client, caches, metrics, logger } = this.#options;
    const { namespace, name } = sight.store.metadata;
    const nodes = Array.from({ length: replicas }, (_, ordinal) =>
      this.#endpoint(sight.store.metadata, ordinal),
    );
    const spec = coordinatorSpec(sight.store.spec, sight.storeId, nodes);
    const policy = recoveryPolicy(sight.store.spec);
    const running = this.#runtimes.get(key);
    if (running?.signature === runtimeSignature(spec, policy)) return running;
    if (running?.storeId === sight.storeId) await this.#drop(key);
    else await this.#forget(key);
    const runtime = new StoreRuntime({
      spec,
      policy,
      records: new KubeRecordStore(client, namespace, name),
      sidecars: addressedSidecars(sidecars, this.#resolver(namespace)),
      platform: new KubePlatform(
        client,
        namespace,
        (claim) => caches.get(KINDS.claim, namespace, claim),
        (pod) => caches.get(KINDS.pod, namespace, pod),
      ),
      clock,
      starts: this.#starts,
      changed: () => touched(key),
      told: (event) => {
        metrics.count(sight.storeId, event);
        this.#told(key, event);
      },
      notMoved: (shard, error) => {
        const message = error instanceof Error ? error.message : String(error);
        logger.warn("the wish for another ensemble was not noted", { store: key, shard, message });
      },
      broken,
    });
    this.#runtimes.set(key, runtime);
    return runtime;
  }

  #endpoint({ namespace, name }: ReplicatedStore["metadata"], ordinal: number): NodeEndpoint {
    const node = podName(name, ordinal);
    const given = this.#options.endpoint?.(namespace, node);
    if (given !== undefined) return given;
    // By name: it stays when the pod is made again, so peers and clients find it by themselves.
    const host = podHost(name, namespace, node);
    return {
      node,
      publicAddress: `${host}:${PORTS.public}`,
      internalAddress: `${host}:${PORTS.internal}`,
    };
  }

  #resolver(namespace: string): ResolveAddress {
    const { caches, endpoint } = this.#options;
    if (endpoint !== undefined) return (node) => endpoint(namespace, node).internalAddress;
    return podAddressResolver((node) => caches.get(KINDS.pod, namespace, node), PORTS.internal);
  }

  /**
   * Asks for other ensembles where the number of pods or of copies has changed; true: for some. A
   * shard that is busy takes its time to note the wish, and nothing here waits for that.
   */
  #steer({ store, records }: StoreSight, runtime: StoreRuntime): boolean {
    let asked = false;
    const { replicas, namespaces } = store.spec;
    const nodes = Array.from({ length: replicas }, (_, ordinal) =>
      podName(store.metadata.name, ordinal),
    );
    const views = runtime.views();
    for (const { initialized, desired, shard, namespace } of records) {
      const wish = namespaces.find(({ name }) => name === namespace);
      const view = views.find((one) => one.namespace === namespace && one.shard === shard);
      // It would be refused; the stop says what a person has to do first.
      if (!initialized || wish === undefined || distrustsRecord(view?.stop ?? null)) continue;
      const replicationFactor = wish.replicationFactor ?? defaultReplicationFactor(replicas);
      const ensemble = wantedEnsemble({ desired, nodes, shard, replicationFactor });
      if (ensemble === null) continue;
      runtime.moveTo({ namespace, shard }, ensemble);
      asked = true;
    }
    return asked;
  }

  /** What is said of a pod whose machine is lost; null: there is none. */
  async #replaceLost(
    sight: StoreSight,
    runtime: StoreRuntime,
    signal: AbortSignal,
  ): Promise<string | null> {
    const { caches } = this.#options;
    const { namespace } = sight.store.metadata;
    const claims = (name: string): KubeObject | undefined =>
      caches.get(KINDS.claim, namespace, name);
    const answers = (node: string, stop: AbortSignal): Promise<boolean> =>
      runtime.coordinator.answers(node, stop);
    const look = { sight, views: runtime.views(), claims, answers };
    const report = await this.#lostNodes.reconcile(look, signal);
    if (report === null) return null;
    const text = `${report.pod}: ${report.message}`;
    if (report.deleted.length > 0) this.#note(sight.object, "Warning", "ClaimsReplaced", text);
    return text;
  }

  async #roll(
    sight: StoreSight,
    runtime: StoreRuntime,
    expectedPods: number,
    signal: AbortSignal,
  ): Promise<string | null> {
    const parts = {
      client: this.#options.client,
      sight,
      expectedPods,
      statefulSet: this.#statefulSet(sight.store),
      views: () => runtime.views(),
      preferLeader: (shard: string, node: string) => runtime.handOver(shard, node),
    };
    return await rollOut(parts, signal);
  }

  #told(key: string, event: CoordinatorEvent): void {
    const { caches, events, logger, touched } = this.#options;
    const { kind, ...fields } = event;
    logger.info(kind, { store: key, ...flat(fields) });
    touched(key);
    const note = eventNote(event);
    if (note === null) return;
    const [namespace = "", name = ""] = key.split("/");
    const { pod, ...told } = note;
    for (const regarding of [
      caches.get(KINDS.store, namespace, name),
      pod === undefined ? undefined : caches.get(KINDS.pod, namespace, pod),
    ]) {
      if (regarding === undefined) continue;
      const about =
        regarding.kind === "Pod" || pod === undefined ? told.note : `${pod}: ${told.note}`;
      events.record({ ...told, note: about, regarding });
    }
  }

  #note(regarding: KubeObject, type: "Normal" | "Warning", reason: string, note: string): void {
    this.#options.events.record({ regarding, type, reason, action: "Reconcile", note });
  }

  /** The store is gone, another one, or another's: what was counted and noted of it ends too. */
  async #forget(key: string): Promise<void> {
    const storeId = this.#runtimes.get(key)?.storeId;
    await this.#drop(key);
    if (storeId === undefined) return;
    this.#options.metrics.forget(storeId);
    this.#lostNodes.forget(storeId);
    this.#claimLabels.forget(storeId);
  }

  async #drop(key: string): Promise<void> {
    const runtime = this.#runtimes.get(key);
    this.#runtimes.delete(key);
    await runtime?.close();
  }
}

/** Infinity: only when something changes. */
function after(dueMs: number): ReconcileResult {
  return dueMs === Number.POSITIVE_INFINITY ? null : resting(null, dueMs);
}

/** When a store is looked at again where nothing is under way. */
function resting(trouble: StatusTrouble | null, dueMs: number): ReconcileResult {
  if (trouble !== null) return { requeueAfterMs: Math.min(TROUBLE_MS, dueMs) };
  return { requeueAfterMs: Math.min(RESYNC_MS, dueMs), routine: dueMs >= RESYNC_MS };
}

function replicasOf(statefulSet: KubeObject | undefined): number {
  const spec: unknown = statefulSet?.["spec"];
  const replicas: unknown =
    typeof spec === "object" && spec !== null ? Reflect.get(spec, "replicas") : 0;
  return typeof replicas === "number" ? replicas : 0;
}

function storeIdOf({ spec }: KubeObject): readonly string[] {
  const id: unknown = typeof spec === "object" && spec !== null ? Reflect.get(spec, "storeId") : "";
  return typeof id === "string" && id !== "" ? [id] : [];
}

/** Fields of a log line are flat. */
function flat(fields: object): Record<string, string | number | boolean> {
  const entries = Object.entries(fields).map(([key, value]: [string, unknown]) => {
    const plain =
      typeof value === "string" || typeof value === "number" || typeof value === "boolean";
    return [key, plain ? value : JSON.stringify(value)] as const;
  });
  return Object.fromEntries(entries);
}
