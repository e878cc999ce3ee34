/** What the tests of ReplicaRecovery objects look with. */
import type { ReplicatedStore } from "../../../operator/api/v1alpha1/replicated-store.ts";
import type { ReplicaRecoveryStatus } from "../../../operator/api/v1alpha1/replica-recovery.ts";
import type { ShardRecord } from "../../../operator/core/record.ts";
import type { ReplicaView, ShardView } from "../../../operator/core/status.ts";
import { TransferRates } from "../../../operator/controller/transfer-rate.ts";
import { IN_SYNC_GATE } from "../../../operator/specs/labels.ts";
import { BegunRecoveries } from "../../../operator/kube/begun-recoveries.ts";
import { claimFacts, podFacts } from "../../../operator/kube/pods.ts";
import { RecoveryObjects } from "../../../operator/kube/recovery-objects.ts";
import { KINDS, type KubeObject, resourcePath } from "../../../operator/kube/resources.ts";
import type { StoreRuntime } from "../../../operator/kube/store-runtime.ts";
import type { StoreSight } from "../../../operator/kube/store-view.ts";
import { FakeApiServer } from "../../support/fake-api-server.ts";
import { replicaView, shardViewOf } from "../local/status-fixture.ts";
import { call } from "./kube-fixture.ts";

/** The pod in question. */
export const POD = "demo-1";
/** The claims that were noted while it voted. */
export const OLD = { data: "old-data-claim", wal: "old-wal-claim" };

/** One look of the operator at a store of which `demo-1` is the pod in question. */
export class Look {
  readonly server: FakeApiServer;
  readonly #recoveries: RecoveryObjects;
  readonly #rates = new TransferRates();
  /** What the coordinator told of since. */
  readonly begun = new BegunRecoveries();
  /** What people were told of the pod's claims. */
  toldClaims = OLD;
  /** When it said it is to look again. */
  dueMs = 0;
  /** Pods that the store asks for. */
  replicas = 3;
  mode: ReplicatedStore["spec"]["recovery"]["mode"] = "Automatic";
  /** False: the pod is away. */
  isThere = true;
  readonly orders: unknown[] = [];
  /** Uids of replicas whose rebuild is ordered now. */
  ordered: readonly string[] = [];
  claims = OLD;
  /** Uids that voted before, by shard. */
  voted: ReadonlyMap<string, string> = new Map();
  views: readonly ShardView[] = shards({});
  records: readonly ShardRecord[] = [];
  /** What the views are once a rebuild is ordered; null: the same. */
  opened: readonly ShardView[] | null = null;
  /** What the coordinator answers to an order. */
  refusal: RangeError | null = null;
  /** The objects as a watch that has fallen behind tells them; null: as they are. */
  stale: readonly KubeObject[] | null = null;

  constructor(server: FakeApiServer, recoveries: RecoveryObjects) {
    this.server = server;
    this.#recoveries = recoveries;
  }

  async reconcile(): Promise<readonly KubeObject[]> {
    this.dueMs = await this.#recoveries.reconcile(this.#sight(), this.#runtime(), call().signal);
    return this.objects();
  }

  /** What is done while the rest of a look is written down. */
  async announce(): Promise<readonly KubeObject[]> {
    await this.#recoveries.announce(this.#sight(), this.#runtime(), call().signal);
    return this.objects();
  }

  /** One look while there is no such store, as far as its watch has told. */
  async withoutStore(): Promise<readonly KubeObject[]> {
    this.dueMs = await this.#recoveries.endWithoutStore(this.objects(), call().signal);
    return this.objects();
  }

  objects(): readonly KubeObject[] {
    return this.server.list(resourcePath(KINDS.recovery, "ns")) as unknown as readonly KubeObject[];
  }

  #sight(): StoreSight {
    const created = "2026-01-01T00:00:00Z";
    const claim = (volume: "data" | "wal") =>
      claimFacts({
        metadata: {
          name: `${volume}-${POD}`,
          namespace: "ns",
          uid: this.claims[volume],
          creationTimestamp: created,
        },
      });
    const pod: KubeObject = {
      metadata: { name: POD, namespace: "ns", creationTimestamp: "2026-01-01T00:00:01Z" },
    };
    const store = {
      metadata: { name: "demo", namespace: "ns", uid: "u" },
      spec: { replicas: this.replicas, recovery: { mode: this.mode } },
    } as ReplicatedStore;
    return {
      store,
      object: {
        metadata: { name: "demo", namespace: "ns" },
        status: { pods: [{ name: POD, claimUids: this.toldClaims }] },
      },
      storeId: "u",
      records: this.records,
      shards: [],
      recoveries: this.stale ?? this.objects(),
      podObjects: this.isThere ? [pod] : [],
      pods: this.isThere ? [podFacts(pod, IN_SYNC_GATE)] : [],
      claims: new Map([
        [`data-${POD}`, claim("data")],
        [`wal-${POD}`, claim("wal")],
      ]),
    };
  }

  #runtime(): StoreRuntime {
    return {
      views: () => this.views,
      rates: this.#rates,
      begun: this.begun,
      votedUids: () => this.voted,
      coordinator: {
        orderRebuilds: (uids: ReadonlySet<string>) => {
          this.ordered = [...uids];
          if (uids.size > 0 && this.opened !== null) this.views = this.opened;
        },
        forceQuorum: async (...order: readonly unknown[]) => {
          this.orders.push(order);
          if (this.refusal !== null) throw this.refusal;
        },
      },
    } as unknown as StoreRuntime;
  }
}

/** A shard for each replica of the pod. */
export function shards(...replicas: readonly Partial<ReplicaView>[]): readonly ShardView[] {
  return replicas.map((replica, shard) => shardViewOf([replicaView(POD, replica)], { shard }));
}

/** Its status, as it was written. */
export const statusOf = (object: KubeObject | undefined): ReplicaRecoveryStatus =>
  (object?.["status"] ?? {}) as ReplicaRecoveryStatus;
