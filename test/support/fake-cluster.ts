/** A fake API server and kubelet with one store, `demo` in `prod`, and what tests ask about it. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ReplicaRecoveryStatus } from "../../operator/api/v1alpha1/replica-recovery.ts";
import { findFreePorts } from "../../operator/local/free-ports.ts";
import { StoreClient } from "../../operator/sidecar-client/store-client.ts";
import { FakeApiServer, type Stored } from "./fake-api-server.ts";
import { FakeKubelet } from "./fake-kubelet.ts";

const NS = "/namespaces/prod";
const STORE = `/apis/resilver.io/v1alpha1${NS}/replicatedstores/demo`;
const RECOVERIES = `/apis/resilver.io/v1alpha1${NS}/replicarecoveries`;
const WAIT_MS = 120_000;
/** Three for each pod. */
const PORTS = 15;

/** See the file's header. */
export class FakeCluster {
  readonly server: FakeApiServer;
  readonly kubelet: FakeKubelet;
  /** What is kept here goes with the cluster. */
  readonly folder: string;
  readonly firstPort: number;

  private constructor(server: FakeApiServer, folder: string, firstPort: number) {
    this.server = server;
    this.folder = folder;
    this.firstPort = firstPort;
    this.kubelet = new FakeKubelet(server, folder, firstPort);
  }

  static async start(): Promise<FakeCluster> {
    const folder = mkdtempSync(join(tmpdir(), "resilver-operator-"));
    const firstPort = await findFreePorts(PORTS, Math.random);
    return new FakeCluster(await FakeApiServer.start(), folder, firstPort);
  }

  async close(): Promise<void> {
    await this.kubelet.close();
    await this.server.close();
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** What a person types: the store is to be so. */
  apply(spec: object): void {
    const before = this.server.get(STORE) ?? { metadata: {} };
    const of = { apiVersion: "resilver.io/v1alpha1", kind: "ReplicatedStore" };
    this.server.put(STORE, { ...of, ...before, spec });
  }

  /** What a person types: the store is to go. */
  deleteStore(): void {
    const store = this.store as Stored;
    const metadata = { ...store.metadata, deletionTimestamp: "2026-01-01T00:00:00Z" };
    this.server.put(STORE, { ...store, metadata });
  }

  get store(): Stored | undefined {
    return this.server.get(STORE);
  }

  /** A field of the store's status. */
  column(name: string): unknown {
    return (this.store?.["status"] as Record<string, unknown> | undefined)?.[name];
  }

  /** The reason of a condition of the store. */
  reason(type: string): string | undefined {
    const conditions = this.column("conditions") as
      | readonly { readonly type: string; readonly reason: string }[]
      | undefined;
    return conditions?.find((condition) => condition.type === type)?.reason;
  }

  recoveries(): readonly (ReplicaRecoveryStatus & { readonly name: string })[] {
    return this.server.list(RECOVERIES).map((object) => ({
      ...(object["status"] as ReplicaRecoveryStatus),
      name: object.metadata.name,
    }));
  }

  pod(name: string): Stored | undefined {
    return this.server.get(`/api/v1${NS}/pods/${name}`);
  }

  claim(name: string): Stored | undefined {
    return this.server.get(`/api/v1${NS}/persistentvolumeclaims/${name}`);
  }

  /** Deletes a pod and both its claims. */
  replaceVolumes(pod: string): void {
    for (const volume of ["data", "wal"]) {
      this.server.remove(`/api/v1${NS}/persistentvolumeclaims/${volume}-${pod}`);
    }
    this.server.remove(`/api/v1${NS}/pods/${pod}`);
  }

  /** A pod that leads nothing. */
  follower(): string {
    return this.column("leaders") === "demo-1" ? "demo-2" : "demo-1";
  }

  /** Names of all that holds or is the store's data, and of its pods. */
  left(): readonly string[] {
    return [
      ...this.server.list(`/api/v1${NS}/persistentvolumeclaims`),
      ...this.server.list(`/apis/resilver.io/v1alpha1${NS}/storeshards`),
      ...this.server.list(`/api/v1${NS}/pods`),
    ].map((object) => object.metadata.name);
  }

  /** Waits until every pod is ready and every shard serves. */
  async whole(pods: number): Promise<void> {
    await this.server.until(
      `${pods} pods ready: ${JSON.stringify(this.column("conditions"))}`,
      () => this.column("ready") === `${pods}/${pods}` && this.column("state") === "Available",
      WAIT_MS,
    );
  }

  /** Has `work` done with a client of the store. */
  async withClient(work: (client: StoreClient) => Promise<void>): Promise<void> {
    const client = new StoreClient({
      servers: ["demo-0", "demo-1", "demo-2"].map((n) => this.kubelet.endpoint(n).publicAddress),
      namespace: "default",
    });
    try {
      await work(client);
    } finally {
      await client.close();
    }
  }

  /** Writes `count` records. */
  async write(count: number): Promise<void> {
    await this.withClient(async (client) => {
      for (let n = 0; n < count; n += 1) await client.put(`key-${n}`, Buffer.alloc(1_000, n));
    });
  }
}
