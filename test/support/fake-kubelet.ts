/**
 * The StatefulSet controller and the kubelet for a fake API server: makes claims and pods, and runs
 * each pod's sidecar as a real process with the directories of its claims.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { NodeEndpoint } from "../../operator/controller/ports.ts";
import { Pod } from "../../operator/local/pod.ts";
import { sidecarProgram, sidecarEnvironment } from "../../operator/local/sidecar-process.ts";
import { IN_SYNC_GATE } from "../../operator/specs/labels.ts";
import type { FakeApiServer, Stored } from "./fake-api-server.ts";

interface Process {
  readonly podUid: string;
  readonly process: Pod;
  ready: boolean;
  /** Since when its probes have failed; null: the last one did not. */
  failingSince: number | null;
}

/** Between two readiness probes. */
const PROBE_MS = 100;
/** A pod that was ready is so until its probes have failed for as long (see sidecar-container). */
const UNREADY_MS = 4_000;

const PORTS_PER_POD = 3;

export class FakeKubelet {
  /** Asked for each pod: true when a container beside the sidecar fails: the pod is not ready. */
  fails: (pod: Stored) => boolean = () => false;
  readonly #server: FakeApiServer;
  readonly #root: string;
  readonly #firstPort: number;
  readonly #processes = new Map<string, Process>();
  /** Pods whose volumes cannot be had: their processes wait. */
  readonly #held = new Set<string>();
  readonly #unsubscribe: () => void;
  #busy = false;
  #again = false;
  #closed = false;
  #work: Promise<void> = Promise.resolve();
  readonly #prober: NodeJS.Timeout;

  /** Pods have the ports `firstPort` + 3 * ordinal, and the two after it. */
  constructor(server: FakeApiServer, root: string, firstPort: number) {
    this.#server = server;
    this.#root = root;
    this.#firstPort = firstPort;
    this.#unsubscribe = server.onChange(() => this.#look());
    server.deleted = (object, propagation) => {
      if (object.kind === "StatefulSet" && propagation !== "Orphan") this.#collect(object);
    };
    this.#prober = setInterval(() => this.#look(), PROBE_MS);
  }

  endpoint(node: string): NodeEndpoint {
    return fakeEndpoint(this.#firstPort, node);
  }

  /** Processes that there are. */
  get running(): number {
    return this.#processes.size;
  }

  /** From now on a new pod of this name waits for its volumes, and its process does not start. */
  hold(pod: string): void {
    this.#held.add(pod);
  }

  /** Ends what {@link hold} began. */
  release(pod: string): void {
    this.#held.delete(pod);
    this.#look();
  }

  /** Ends all processes. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#unsubscribe();
    clearInterval(this.#prober);
    await this.#work;
    await Promise.all([...this.#processes.values()].map(({ process }) => process.kill()));
  }

  #look(): void {
    if (this.#busy) {
      this.#again = true;
      return;
    }
    this.#busy = true;
    this.#work = this.#sync().finally(() => {
      this.#busy = false;
      if (!this.#again || this.#closed) return;
      this.#again = false;
      this.#look();
    });
  }

  async #sync(): Promise<void> {
    const sets = this.#server.list("/apis/apps/v1/statefulsets");
    for (const set of sets) this.#syncSet(set);
    const pods = this.#server.list("/api/v1/pods");
    for (const [name, { podUid, process }] of [...this.#processes]) {
      if (pods.some(({ metadata }) => metadata.uid === podUid)) continue;
      this.#processes.delete(name);
      await process.kill();
    }
    for (const [name, process] of this.#processes) {
      const nowMs = performance.now();
      const passed = await this.#probe(name);
      process.failingSince = passed ? null : (process.failingSince ?? nowMs);
      const failing = process.failingSince !== null && nowMs - process.failingSince >= UNREADY_MS;
      process.ready = passed || (process.ready && !failing);
    }
    for (const { metadata } of pods) {
      // It may have gone, or changed, meanwhile.
      const pod = this.#server.get(
        `/api/v1/namespaces/${metadata.namespace}/pods/${metadata.name}`,
      );
      if (pod?.metadata.uid === metadata.uid) this.#syncPod(pod);
    }
  }

  async #probe(name: string): Promise<boolean> {
    const internal = Number(this.endpoint(name).internalAddress.split(":")[1]);
    const answer = await fetch(`http://127.0.0.1:${internal + 1}/readyz`).catch(() => null);
    return answer?.ok === true;
  }

  /** What a deleted StatefulSet leaves behind. */
  #collect({ metadata: { namespace, name } }: Stored): void {
    for (const pod of this.#server.list(`/api/v1/namespaces/${namespace}/pods`)) {
      if (pod.metadata.labels?.["resilver.io/store"] !== name) continue;
      this.#server.remove(`/api/v1/namespaces/${namespace}/pods/${pod.metadata.name}`);
    }
  }

  #syncSet(set: Stored): void {
    const { namespace, name, generation } = set.metadata;
    const spec = set["spec"] as {
      replicas: number;
      template: { metadata: { labels: object } };
      volumeClaimTemplates: readonly { metadata: { name: string } }[];
    };
    const updateRevision = `${name}-${revisionOf(spec.template)}`;
    const status = { observedGeneration: generation, updateRevision };
    if (JSON.stringify(set["status"]) !== JSON.stringify(status)) {
      this.#server.put(`/apis/apps/v1/namespaces/${namespace}/statefulsets/${name}`, {
        ...set,
        status,
      });
    }
    const labels = { ...spec.template.metadata.labels };
    for (let ordinal = 0; ordinal < spec.replicas; ordinal += 1) {
      const pod = `${name}-${ordinal}`;
      const path = `/api/v1/namespaces/${namespace}/pods/${pod}`;
      if (this.#server.get(path) !== undefined || this.#processes.has(pod)) continue;
      const creationTimestamp = new Date().toISOString();
      for (const template of spec.volumeClaimTemplates) {
        const claim = `/api/v1/namespaces/${namespace}/persistentvolumeclaims/${template.metadata.name}-${pod}`;
        if (this.#server.get(claim) !== undefined) continue;
        this.#server.put(claim, { ...template, metadata: { labels, creationTimestamp } });
      }
      this.#server.put(path, {
        metadata: {
          labels: { ...labels, "controller-revision-hash": updateRevision },
          creationTimestamp,
        },
        spec: { nodeName: "machine" },
      });
    }
    for (const { metadata } of this.#server.list(`/api/v1/namespaces/${namespace}/pods`)) {
      const ordinal = Number(metadata.name.slice(name.length + 1));
      if (metadata.name.startsWith(`${name}-`) && ordinal >= spec.replicas) {
        this.#server.remove(`/api/v1/namespaces/${namespace}/pods/${metadata.name}`);
      }
    }
  }

  #syncPod(pod: Stored): void {
    const { namespace, name, uid } = pod.metadata;
    this.#writeConfig(pod);
    const waits = !this.#processes.has(name) && this.#held.has(name);
    if (!waits && !this.#processes.has(name)) {
      const process = this.#start(pod);
      if (process === null) return;
      this.#processes.set(name, { podUid: uid, process, ready: false, failingSince: null });
    }
    const sidecarReady = this.#processes.get(name)?.ready === true;
    const { conditions = [] } = (pod["status"] ?? {}) as {
      conditions?: readonly { type: string; status: string }[];
    };
    const gate = conditions.find(({ type }) => type === IN_SYNC_GATE);
    const isReady = sidecarReady && gate?.status === "True" && !this.fails(pod);
    const ready = { type: "Ready", status: isReady ? "True" : "False" };
    const status = {
      podIP: "127.0.0.1",
      phase: waits ? "Pending" : "Running",
      containerStatuses: [
        {
          name: "resilver",
          ready: sidecarReady,
          restartCount: 0,
          state: waits ? { waiting: { reason: "ContainerCreating" } } : { running: {} },
        },
      ],
      conditions: [...(gate === undefined ? [] : [gate]), ready],
    };
    if (JSON.stringify(pod["status"]) === JSON.stringify(status)) return;
    this.#server.put(`/api/v1/namespaces/${namespace}/pods/${name}`, { ...pod, status });
  }

  /** A pod's file follows the ConfigMap while it runs. Null while there is none. */
  #writeConfig({ metadata: { namespace, name, labels = {} } }: Stored): string | null {
    const store = labels["resilver.io/store"] ?? "";
    const config = this.#server.get(`/api/v1/namespaces/${namespace}/configmaps/${store}-config`);
    if (config === undefined) return null;
    const dir = join(this.#root, name);
    mkdirSync(dir, { recursive: true });
    const file = join(dir, "sidecar.json");
    writeFileSync(file, (config["data"] as Record<string, string>)["sidecar.json"] ?? "");
    return file;
  }

  /** Null while the configuration or a claim is missing. */
  #start(pod: Stored): Pod | null {
    const { namespace, name } = pod.metadata;
    const path = `/api/v1/namespaces/${namespace}`;
    const claims = ["data", "wal"].map((volume) =>
      this.#server.get(`${path}/persistentvolumeclaims/${volume}-${name}`),
    );
    const [data, wal] = claims.map((claim) => claim?.metadata.uid);
    const file = this.#writeConfig(pod);
    if (file === null || data === undefined || wal === undefined) return null;
    const { internalAddress, publicAddress } = this.endpoint(name);
    const metrics = Number(internalAddress.split(":")[1]) + 1;
    const flags = {
      config: file,
      node: name,
      "public-address": publicAddress,
      "internal-address": internalAddress,
      "metrics-address": `127.0.0.1:${metrics}`,
      "state-dir": join(this.#root, data, "state"),
      "wal-dir": join(this.#root, wal, "log"),
    };
    const process_ = new Pod(
      {
        name,
        command: [
          ...sidecarProgram(),
          ...Object.entries(flags).flatMap(([flag, value]) => [`--${flag}`, value]),
        ],
        env: sidecarEnvironment(process.env),
        logFile: join(this.#root, name, "sidecar.log"),
      },
      () => undefined,
    );
    process_.start();
    return process_;
  }
}

/** Differs when the template does. */
function revisionOf(template: object): string {
  let hash = 5_381;
  for (const character of JSON.stringify(template)) {
    hash = (hash * 33 + (character.codePointAt(0) ?? 0)) % 0xffff_ffff;
  }
  return hash.toString(16);
}

/** Where the sidecar of a pod listens whose kubelet was given `firstPort`. */
export function fakeEndpoint(firstPort: number, node: string): NodeEndpoint {
  const first = firstPort + PORTS_PER_POD * Number(node.split("-").at(-1));
  return {
    node,
    publicAddress: `127.0.0.1:${first}`,
    internalAddress: `127.0.0.1:${first + 1}`,
  };
}
