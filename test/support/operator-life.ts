import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ReplicaRecoveryStatus } from "../../operator/api/v1alpha1/replica-recovery.ts";
import { Operator, type OperatorOptions } from "../../operator/kube/operator.ts";
import { findFreePorts } from "../../operator/local/free-ports.ts";
import { systemClock } from "../../operator/local/system-clock.ts";
import { CoordinationClient } from "../../operator/sidecar-client/coordination-client.ts";
import { StoreClient } from "../../operator/sidecar-client/store-client.ts";
import { SILENT_LOGGER } from "../../sidecar/lib/ports/logger.ts";
import { FakeApiServer, type Stored } from "./fake-api-server.ts";
import { FakeKubelet } from "./fake-kubelet.ts";

/** How long a store has for what is waited for. */
export const WAIT_MS = 60_000;

/** Pods that a store of these tests may have. */
const PODS_MAX = 5;

/** An operator that runs. */
export interface RunningOperator {
  readonly operator: Operator;
  readonly stop: AbortController;
  readonly ended: Promise<string>;
}

/** What a StoreShard holds, as far as tests look. */
export interface RecordSpec {
  readonly storeId: string;
  readonly ensemble: readonly string[];
  readonly members: readonly { readonly node: string; readonly role: string }[];
}

/**
 * A store called `demo` with real sidecars, and the operators that look after it. The API server
 * and the kubelet are stand-ins.
 */
export class OperatorLife {
  readonly server: FakeApiServer;
  readonly kubelet: FakeKubelet;
  readonly namespace: string;
  /** What is kept here goes with it. */
  readonly folder: string;
  readonly firstPort: number;
  readonly #sidecars = new CoordinationClient({ clock: systemClock });
  readonly #operators: RunningOperator[] = [];

  private constructor(server: FakeApiServer, namespace: string, root: string, port: number) {
    this.server = server;
    this.namespace = namespace;
    this.folder = root;
    this.firstPort = port;
    this.kubelet = new FakeKubelet(server, root, port);
  }

  static async begin(namespace = "prod"): Promise<OperatorLife> {
    const root = mkdtempSync(join(tmpdir(), "resilver-operator-"));
    const port = await findFreePorts(3 * PODS_MAX, Math.random);
    return new OperatorLife(await FakeApiServer.start(), namespace, root, port);
  }

  /** Ends everything. */
  async close(): Promise<void> {
    await this.endAll();
    await this.kubelet.close();
    await this.#sidecars.close();
    await this.server.close();
    rmSync(this.folder, { recursive: true, force: true });
  }

  start(identity: string, change: Partial<OperatorOptions> = {}): RunningOperator {
    const operator = new Operator({
      config: this.server.config(),
      clock: systemClock,
      logger: SILENT_LOGGER,
      random: Math.random,
      sidecars: this.#sidecars,
      version: "test",
      identity,
      namespaces: null,
      leaseNamespace: "system",
      leaseName: "resilver-operator",
      image: "resilver:test",
      healthPort: 0,
      metricsPort: 0,
      workers: 2,
      endpoint: (_namespace, node) => this.kubelet.endpoint(node),
      ...change,
    });
    const stop = new AbortController();
    const running = { operator, stop, ended: operator.run(stop.signal) };
    this.#operators.push(running);
    return running;
  }

  /** Ends all operators; what they made goes on. */
  async endAll(): Promise<void> {
    await Promise.all(this.#operators.map((running) => this.end(running)));
  }

  async end({ stop, ended }: RunningOperator): Promise<void> {
    stop.abort(new Error("the test is over"));
    await ended;
  }

  /** Path of an object of the store's namespace; of a collection without a name. */
  path(group: "v1" | "apps/v1" | "policy/v1" | "resilver.io/v1alpha1", plural: string, name = "") {
    const root = group === "v1" ? "/api/v1" : `/apis/${group}`;
    return `${root}/namespaces/${this.namespace}/${plural}${name === "" ? "" : `/${name}`}`;
  }

  get storePath(): string {
    return this.path("resilver.io/v1alpha1", "replicatedstores", "demo");
  }

  /** Writes the store's spec, as `kubectl apply` would. */
  apply(spec: object): void {
    const before = this.server.get(this.storePath) ?? { metadata: {} };
    const of = { apiVersion: "resilver.io/v1alpha1", kind: "ReplicatedStore" };
    this.server.put(this.storePath, { ...of, ...before, spec });
  }

  store(): Stored {
    const store = this.server.get(this.storePath);
    if (store === undefined) throw new Error("there is no store");
    return store;
  }

  /** A field of the store's status. */
  column(name: string): unknown {
    const status = this.server.get(this.storePath)?.["status"] as Record<string, unknown>;
    return status?.[name];
  }

  /** One of the store's conditions. */
  condition(type: string): { readonly reason: string; readonly message: string } | undefined {
    const all = this.column("conditions") as readonly {
      readonly type: string;
      readonly reason: string;
      readonly message: string;
    }[];
    return all?.find((condition) => condition.type === type);
  }

  /** A pod that leads nothing. */
  follower(): string {
    return this.column("leaders") === "demo-1" ? "demo-2" : "demo-1";
  }

  recoveries() {
    const path = this.path("resilver.io/v1alpha1", "replicarecoveries");
    return this.server.list(path).map((object) => ({
      name: object.metadata.name,
      ...(object["status"] as ReplicaRecoveryStatus | undefined),
    }));
  }

  /** A person's ReplicaRecovery. */
  order(name: string, spec: object): void {
    this.server.put(this.path("resilver.io/v1alpha1", "replicarecoveries", name), {
      apiVersion: "resilver.io/v1alpha1",
      kind: "ReplicaRecovery",
      metadata: { creationTimestamp: "2026-01-01T00:00:00Z" },
      spec,
    });
  }

  pod(name: string): Stored | undefined {
    return this.server.get(this.path("v1", "pods", name));
  }

  /** Takes the volumes of a pod away, and the pod. */
  replaceVolumes(pod: string): void {
    for (const volume of ["data", "wal"]) {
      this.server.remove(this.path("v1", "persistentvolumeclaims", `${volume}-${pod}`));
    }
    this.server.remove(this.path("v1", "pods", pod));
  }

  /**
   * As from a backup: the pod comes back on claims that a person made, without a label, whose
   * volumes hold what its own held.
   */
  async copyVolumes(pod: string): Promise<void> {
    this.kubelet.hold(pod);
    this.server.remove(this.path("v1", "pods", pod));
    await this.server.until(
      "its process has ended",
      () => JSON.stringify(this.pod(pod)?.["status"] ?? {}).includes("waiting"),
      WAIT_MS,
    );
    for (const volume of ["data", "wal"]) {
      const path = this.path("v1", "persistentvolumeclaims", `${volume}-${pod}`);
      const old = this.server.get(path);
      if (old === undefined) throw new Error(`there is no claim ${path}`);
      this.server.remove(path);
      const { creationTimestamp, uid } = old.metadata;
      const made = this.server.put(path, { metadata: { creationTimestamp }, spec: old["spec"] });
      cpSync(join(this.folder, uid), join(this.folder, made.metadata.uid), { recursive: true });
    }
    this.kubelet.release(pod);
  }

  /** The store goes, and what it owns with it, as the garbage collector has it. */
  deleteStore(): void {
    const { uid } = this.store().metadata;
    const collections = [
      this.path("apps/v1", "statefulsets"),
      this.path("policy/v1", "poddisruptionbudgets"),
      ...["configmaps", "serviceaccounts", "services"].map((plural) => this.path("v1", plural)),
      this.path("resilver.io/v1alpha1", "replicarecoveries"),
    ];
    this.server.remove(this.storePath);
    for (const collection of collections) {
      for (const { metadata } of this.server.list(collection)) {
        const owners = metadata["ownerReferences"] as readonly { uid: string }[] | undefined;
        const owned = owners?.some((owner) => owner.uid === uid) === true;
        if (owned) this.server.remove(`${collection}/${metadata.name}`);
      }
    }
    const pods = this.path("v1", "pods");
    for (const { metadata } of this.server.list(pods)) {
      this.server.remove(`${pods}/${metadata.name}`);
    }
  }

  /** A shard's record; undefined: there is none. */
  record(shard = "default.0"): RecordSpec | undefined {
    const path = this.path("resilver.io/v1alpha1", "storeshards", `demo.${shard}`);
    return this.server.get(path)?.["spec"] as RecordSpec | undefined;
  }

  /** Resolves when the store has as many pods, and all of it serves and votes. */
  async whole(pods: number): Promise<void> {
    await this.server.until(
      `${pods} pods ready: ${JSON.stringify(this.server.get(this.storePath)?.["status"])}`,
      () => this.column("ready") === `${pods}/${pods}` && this.column("state") === "Available",
      WAIT_MS,
    );
  }

  /** Runs `work` with a client of one of the store's namespaces of keys. */
  async client<T>(work: (client: StoreClient) => Promise<T>, namespace = "default"): Promise<T> {
    const pods = this.server.list(this.path("v1", "pods")).map(({ metadata }) => metadata.name);
    const servers = pods.map((name) => this.kubelet.endpoint(name).publicAddress);
    const client = new StoreClient({ servers, namespace });
    try {
      return await work(client);
    } finally {
      await client.close();
    }
  }

  /** Writes `count` records whose keys begin so. */
  async write(count: number, prefix = "key", namespace = "default"): Promise<void> {
    await this.client(async (client) => {
      for (let i = 0; i < count; i += 1) await client.put(`${prefix}-${i}`, Buffer.alloc(1_000, i));
    }, namespace);
  }
}
