/** The cluster of a scale run: fake nodes, stores, and what the API server tells of them. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { ApiClient } from "../../operator/kube/api-client.ts";
import { ApiTransport } from "../../operator/kube/api-transport.ts";
import { loadKubeConfig } from "../../operator/kube/kubeconfig.ts";
import { ListWatch, type ObjectChange } from "../../operator/kube/list-watch.ts";
import { KINDS, type KubeObject } from "../../operator/kube/resources.ts";
import { systemClock } from "../../operator/local/system-clock.ts";
import { DATA_VOLUMES } from "../../operator/api/v1alpha1/pod-template.ts";
import { claimName } from "../../operator/specs/stateful-set.ts";
import { SILENT_LOGGER } from "../../sidecar/lib/ports/logger.ts";
import { storeName } from "./address-map.ts";

/** All stores of the run are here. */
export const NAMESPACE = "resilver-scale";
/** Pods of each store. */
export const REPLICAS = 3;
/** What is told of while a run waits. */
const FOLLOWED = ["store", "recovery", "claim"] as const;
const root = fileURLToPath(new URL("../..", import.meta.url));
const FAKE = "kwok.x-k8s.io/node";
const PODS_PER_NODE = 100;
/** Objects that are made at the same time. */
const CREATORS = 16;

/** An object was told of, at this time of this process. */
export interface Told extends ObjectChange {
  readonly kind: (typeof FOLLOWED)[number] | "pod";
  readonly atMs: number;
}

/** See the file's header. */
export class ScaleCluster {
  private readonly transport: ApiTransport;
  private readonly client: ApiClient;
  private readonly stop = new AbortController();
  private readonly running: Promise<void>[] = [];
  private pods: ListWatch | null = null;
  private readonly listeners = new Set<(told: Told) => void>();
  private readonly available = new Set<string>();

  constructor() {
    const config = loadKubeConfig({ env: process.env });
    this.transport = new ApiTransport({ config, clock: systemClock, userAgent: "resilver-scale" });
    this.client = new ApiClient(this.transport, "resilver-scale");
    for (const kind of FOLLOWED) this.follow(kind);
  }

  /** Definitions, namespace and machines for so many pods. */
  prepare(pods: number): void {
    kubectl(["apply", "--server-side", "-f", "crds/"]);
    apply([{ apiVersion: "v1", kind: "Namespace", metadata: { name: NAMESPACE } }]);
    const nodes = Array.from({ length: Math.ceil(pods / PODS_PER_NODE) }, (_, index) => ({
      apiVersion: "v1",
      kind: "Node",
      metadata: {
        name: `fake-${index}`,
        annotations: { [FAKE]: "fake" },
        labels: { type: "kwok", "kubernetes.io/hostname": `fake-${index}` },
      },
      spec: { taints: [{ key: FAKE, value: "fake", effect: "NoSchedule" }] },
    }));
    apply(nodes);
  }

  /** Makes the stores from one number up to another. */
  async create(from: number, to: number): Promise<void> {
    let next = from;
    const work = async (): Promise<void> => {
      while (next < to) {
        const name = storeName(next);
        next += 1;
        await this.client.create(KINDS.store, storeObject(name), { signal: this.stop.signal });
      }
    };
    await Promise.all(Array.from({ length: CREATORS }, work));
  }

  /** Has pods told of from now on: while stores are made, their thousands of changes are a load. */
  async followPods(): Promise<void> {
    this.pods ??= this.follow("pod");
    await this.pods.whenSynced(this.stop.signal);
  }

  /** How many stores say that they are available. */
  get availableStores(): number {
    return this.available.size;
  }

  /** Deletes a pod with its claims. */
  async replaceVolumes(pod: string): Promise<void> {
    const call = { signal: this.stop.signal };
    for (const volume of Object.keys(DATA_VOLUMES) as (keyof typeof DATA_VOLUMES)[]) {
      await this.client.delete(KINDS.claim, NAMESPACE, claimName(volume, pod), {}, call);
    }
    await this.client.delete(KINDS.pod, NAMESPACE, pod, {}, call);
  }

  /** Has each object told to `listener`; returns what ends that. */
  listen(listener: (told: Told) => void): () => void {
    this.listeners.add(listener);
    return () => void this.listeners.delete(listener);
  }

  async close(): Promise<void> {
    this.stop.abort(new Error("the run has ended"));
    await Promise.allSettled(this.running);
    this.transport.close();
  }

  private follow(kind: Told["kind"]): ListWatch {
    const watch = new ListWatch({
      client: this.client,
      kind: KINDS[kind],
      scope: { namespace: NAMESPACE },
      clock: systemClock,
      random: Math.random,
      logger: SILENT_LOGGER,
      changed: (change) => this.changed({ ...change, kind, atMs: performance.now() }),
    });
    this.running.push(watch.run(this.stop.signal));
    return watch;
  }

  private changed(told: Told): void {
    if (told.kind === "store") {
      if (isAvailable(told.object)) this.available.add(told.key);
      else this.available.delete(told.key);
    }
    for (const listener of this.listeners) listener(told);
  }
}

function storeObject(name: string): KubeObject {
  return {
    metadata: { name, namespace: NAMESPACE },
    spec: {
      replicas: REPLICAS,
      storage: { data: { size: "1Gi" }, wal: { size: "1Gi" } },
      recovery: { cooldown: "0s" },
      template: {
        spec: {
          nodeSelector: { type: "kwok" },
          tolerations: [{ key: FAKE, operator: "Exists" }],
        },
      },
    },
  };
}

function isAvailable(object: KubeObject | null): boolean {
  const status = object?.["status"] as
    | { readonly conditions?: readonly { readonly type: string; readonly status: string }[] }
    | undefined;
  return status?.conditions?.find(({ type }) => type === "Available")?.status === "True";
}

function apply(items: readonly object[]): void {
  kubectl(["apply", "-f", "-"], JSON.stringify({ apiVersion: "v1", kind: "List", items }));
}

function kubectl(args: readonly string[], input = ""): void {
  const { status, stderr } = spawnSync("kubectl", args, { cwd: root, encoding: "utf8", input });
  assert.equal(status, 0, `kubectl ${args.join(" ")}: ${stderr}`);
}
