/** One store on a real cluster, in a namespace of its own, with writers that note every write. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ReplicaRecovery } from "../../operator/api/v1alpha1/replica-recovery.ts";
import type { StoreShard } from "../../operator/api/v1alpha1/store-shard.ts";
import type { ReplicatedStore } from "../../operator/api/v1alpha1/replicated-store.ts";
import { Ledger } from "../../operator/local/demo/ledger.ts";
import { seededRandom } from "../../operator/local/demo/seeded-random.ts";
import { readBack } from "../../operator/local/demo/verify.ts";
import { Writers } from "../../operator/local/demo/writers.ts";
import { replicaChecksum } from "../../operator/sidecar-client/checksum-client.ts";
import { StoreClient } from "../../operator/sidecar-client/store-client.ts";
import type { KubeCluster } from "./kube-cluster.ts";
import { KubeView } from "./kube-view.ts";
import { claimsByHand, lostVolume } from "./volume-manifests.ts";
import { NOT_SEEN, recoveryTimeLine } from "./recovery-time-line.ts";

const WAIT_MS = 120_000;
const NAME = "demo";
const REPLICAS = 3;

/** The parts of a pod that tests look at. */
interface Pod {
  readonly metadata: { readonly name: string; readonly uid?: string; deletionTimestamp?: string };
  readonly status?: {
    readonly podIP?: string;
    readonly conditions?: readonly { readonly type: string; readonly status: string }[];
  };
}

interface Claim {
  readonly metadata: { readonly uid?: string };
  readonly status?: { readonly phase?: string };
}

/** What a pod's volumes held once. */
export interface VolumesCopy {
  readonly folder: string;
}

/** How a store is made. */
export interface StoreOptions {
  readonly requestTimeoutMs?: number;
  /** What is waited for. */
  readonly made?: (store: KubeStore) => Promise<void>;
}

/** See the file's header. */
export class KubeStore {
  readonly view: KubeView;
  readonly ledger = new Ledger();
  readonly client: StoreClient;
  readonly namespace: string;
  private readonly cluster: KubeCluster;
  private readonly writers: Writers;
  private writeFailure: unknown = null;

  private constructor(cluster: KubeCluster, namespace: string, requestTimeoutMs: number) {
    this.cluster = cluster;
    this.namespace = namespace;
    this.view = new KubeView(cluster.client, namespace);
    this.client = new StoreClient({
      servers: Array.from({ length: REPLICAS }, (_, n) => `${NAME}-${n}:6648`),
      requestTimeoutMs,
      reachedAt: (address) => this.reachedAt(address),
    });
    this.writers = new Writers({
      client: this.client,
      ledger: this.ledger,
      random: seededRandom(1),
      writesPerSecond: 200,
      failed: (error) => {
        this.writeFailure ??= error;
      },
    });
  }

  /** Makes a store and waits until all its pods are ready, or for what is given instead. */
  static async create(
    cluster: KubeCluster,
    spec: object = {},
    options: StoreOptions = {},
  ): Promise<KubeStore> {
    const namespace = cluster.freshNamespace();
    cluster.namespace(namespace);
    const test = new KubeStore(cluster, namespace, options.requestTimeoutMs ?? WAIT_MS);
    await test.view.synced();
    test.apply({ recovery: { cooldown: "0s" }, ...spec });
    await (options.made ?? ((store) => store.whole()))(test);
    await test.client.ready(WAIT_MS);
    return test;
  }

  /** What a person types: applies the store. */
  apply(spec: object): void {
    const object = {
      apiVersion: "resilver.io/v1alpha1",
      kind: "ReplicatedStore",
      metadata: { name: NAME, namespace: this.namespace },
      spec,
    };
    this.cluster.kubectl(["apply", "-f", "-"], JSON.stringify(object));
  }

  kubectl(...args: readonly string[]): string {
    return this.cluster.kubectl(["-n", this.namespace, ...args]);
  }

  get store(): ReplicatedStore | undefined {
    return this.view.find("store", NAME) as ReplicatedStore | undefined;
  }

  /** The record and status of the store's only shard. */
  get shard(): StoreShard {
    const [shard] = this.view.all("shard") as readonly unknown[] as readonly StoreShard[];
    assert.ok(shard !== undefined, "a StoreShard");
    return shard;
  }

  /** Of one pod, oldest first. */
  recoveries(pod: string): readonly ReplicaRecovery[] {
    const all = this.view.all("recovery") as readonly unknown[] as readonly ReplicaRecovery[];
    return all
      .filter(({ spec }) => spec.rebuild?.pod === pod)
      .toSorted((a, b) => startOf(a) - startOf(b));
  }

  pod(name: string): Pod | undefined {
    return this.view.find("pod", name) as Pod | undefined;
  }

  leader(): string {
    const { leader } = this.shard.spec;
    assert.ok(leader !== null, "a leader");
    return leader.node;
  }

  followers(): readonly string[] {
    return this.shard.spec.ensemble.filter((node) => node !== this.leader());
  }

  follower(): string {
    const [follower] = this.followers();
    assert.ok(follower !== undefined, "a follower");
    return follower;
  }

  /** The replica that the record knows on a pod. */
  replicaUid(pod: string): string {
    const uid = this.shard.spec.members.find(({ node }) => node === pod)?.replicaUid;
    assert.ok(uid !== undefined, `a replica on ${pod}`);
    return uid;
  }

  /** Waits; a failure shows what people would look at. */
  async until<T>(what: string, probe: () => T | null | undefined | false, timeoutMs = WAIT_MS) {
    const found = await this.view.when(() => probe() || null, timeoutMs);
    if (found !== null) return found;
    const all = this.kubectl("get", "rstore,rshard,rrec,pod,pvc", "-o", "wide");
    const events = this.kubectl("get", "events", "--sort-by=.metadata.creationTimestamp");
    const log = this.cluster.operatorLog();
    throw new Error(`${what}: not within ${timeoutMs} ms\n${all}\n${events}\n${log}`);
  }

  /** Every pod is ready, every replica votes. */
  async whole(replicas = 3): Promise<void> {
    await this.until("the store is whole", () => {
      const { ready, state } = this.store?.status ?? {};
      if (ready !== `${replicas}/${replicas}` || state !== "Available") return false;
      const { ensemble, members, leader } = this.shard.spec;
      const votes = members.every(({ role }) => role === "voter") && leader !== null;
      return votes && ensemble.length === replicas;
    });
  }

  /** All replicas vote, and no pod is ready. */
  async servesUnready(replicas: number): Promise<void> {
    await this.until("all replicas vote, no pod is ready", () => {
      const [shard] = this.view.all("shard") as readonly unknown[] as readonly StoreShard[];
      const votes = shard?.status?.voters === `${replicas}/${replicas}`;
      return votes && this.store?.status?.ready === `0/${replicas}`;
    });
  }

  /** Writes `count` records of `bytes` bytes, all acknowledged. */
  async load(count: number, bytes: number): Promise<void> {
    const random = seededRandom(count + bytes);
    const tasks: Promise<void>[] = [];
    for (let n = 0; n < count; n += 1) {
      const key = `load/${String(n).padStart(6, "0")}`;
      const value = Buffer.alloc(bytes, `${key} ${random()} `);
      tasks.push(this.client.put(key, value).then(() => this.ledger.acknowledge(key, value)));
      if (tasks.length >= 32) await Promise.all(tasks.splice(0));
    }
    await Promise.all(tasks);
  }

  startWriting(): void {
    this.writers.start();
  }

  /** Writes that the client gave up after its ordinary retries. */
  get givenUpWrites(): number {
    return this.writers.givenUp;
  }

  /** Claims first: a pod that is made while its old claims are there would be bound to those. */
  deleteVolumes(pod: string): void {
    this.kubectl("delete", "pvc", `data-${pod}`, `wal-${pod}`, "--wait=false");
    this.kubectl("delete", "pod", pod, "--wait=false");
  }

  /** Empties the volumes of a pod under its claims, and makes the pod anew. */
  emptyVolumes(pod: string): void {
    for (const folder of this.volumeFolders(pod)) {
      for (const name of readdirSync(folder)) rmSync(join(folder, name), { recursive: true });
    }
    this.kubectl("delete", "pod", pod, "--grace-period=0", "--force");
  }

  /** Orders a forced quorum, as a person would; resolves with what came of it. */
  async forceQuorum(survivor: string, acknowledgeDataLoss: string): Promise<ReplicaRecovery> {
    const name = `force-${Date.now()}`;
    const shard = { namespace: this.shard.spec.namespace, shard: this.shard.spec.shard };
    const object = {
      apiVersion: "resilver.io/v1alpha1",
      kind: "ReplicaRecovery",
      metadata: { name, namespace: this.namespace },
      spec: { storeName: NAME, forceQuorum: { shard, survivor, acknowledgeDataLoss } },
    };
    this.cluster.kubectl(["apply", "-f", "-"], JSON.stringify(object));
    return await this.until("the order ended", () => {
      const found = this.view.find("recovery", name) as ReplicaRecovery | undefined;
      return ["Succeeded", "Rejected"].includes(found?.status?.phase ?? "") ? found : null;
    });
  }

  /** Deletes pods where none can start: each is made anew and waits for a node. */
  async holdBack(pods: readonly string[]): Promise<void> {
    for (const pod of pods) {
      const { uid } = this.pod(pod)?.metadata ?? {};
      this.kubectl("delete", "pod", pod, "--wait=false");
      await this.until(`${pod} waits for a node`, () => this.isMadeAnew(pod, uid));
    }
  }

  /** A copy of what a pod's volumes hold, taken while the pod is away. */
  async copyVolumes(pod: string): Promise<VolumesCopy> {
    const copy = mkdtempSync(join(tmpdir(), "resilver-volumes-"));
    const folders = this.volumeFolders(pod);
    await this.withoutPods(async () => {
      await this.holdBack([pod]);
      for (const [index, folder] of folders.entries()) {
        copyFolder(folder, join(copy, String(index)));
      }
    });
    return { folder: copy };
  }

  /**
   * Replaces a pod's claims by new ones whose volumes hold something already: the copy, or what the
   * old volumes held. A person's have no labels; the StatefulSet makes the others.
   */
  async replaceClaimsUnder(
    pod: string,
    copy: VolumesCopy | null,
    by: "StatefulSet" | "person" = "StatefulSet",
  ): Promise<void> {
    const old = this.volumeFolders(pod);
    const kept = mkdtempSync(join(tmpdir(), "resilver-volumes-"));
    await this.withoutPods(async () => {
      const claims = ["data", "wal"].map((volume) => `${volume}-${pod}`);
      const before = claims.map((claim) => this.view.find("claim", claim)?.metadata.uid);
      await this.holdBack([pod]);
      for (const [index, folder] of old.entries()) {
        copyFolder(folder, join(kept, String(index)));
      }
      if (by === "StatefulSet") this.deleteVolumes(pod);
      else {
        const found = claims.flatMap((name) => this.view.find("claim", name) ?? []);
        this.cluster.kubectl(["replace", "--force", "-f", "-"], claimsByHand(found));
        // A pod that is older than its claim may be on the one before.
        await this.holdBack([pod]);
      }
      await this.until("the new claims are bound", () =>
        claims.every((claim, index) => {
          const found = this.view.find("claim", claim) as Claim | undefined;
          return found?.metadata.uid !== before[index] && found?.status?.phase === "Bound";
        }),
      );
      for (const [index, folder] of this.volumeFolders(pod).entries()) {
        copyFolder(join(copy?.folder ?? kept, String(index)), folder);
      }
    });
    for (const folder of [kept, copy?.folder ?? kept])
      rmSync(folder, { recursive: true, force: true });
  }

  /**
   * As if a pod's machine had gone for good with its volumes: new claims, bound to volumes that can
   * be reached from a machine that does not exist. The returned function clears these away.
   */
  async loseMachineUnder(pod: string): Promise<() => void> {
    const claims = ["data", "wal"].map((volume) => `${volume}-${pod}`);
    const uids = claims.map((claim) => this.view.find("claim", claim)?.metadata.uid);
    const volumes = claims.map((claim) => `${this.namespace}-${claim}`);
    const phases = (wanted: string): boolean =>
      claims.every((claim, index) => {
        const found = this.view.find("claim", claim) as Claim | undefined;
        return found?.metadata.uid !== uids[index] && found?.status?.phase === wanted;
      });
    await this.withoutPods(async () => {
      this.deleteVolumes(pod);
      await this.until("new claims wait for a node", () => phases("Pending"));
      for (const [index, claim] of claims.entries()) {
        const volume = lostVolume(volumes[index] ?? "", {
          claim,
          namespace: this.namespace,
          storageClassName: this.storageClass(claim),
        });
        this.cluster.kubectl(["apply", "-f", "-"], JSON.stringify(volume));
      }
      await this.until("they are bound to what is lost", () => phases("Bound"));
    });
    return () => {
      this.cluster.kubectl(["delete", "pv", ...volumes, "--ignore-not-found", "--wait=false"]);
    };
  }

  private storageClass(claim: string): string {
    return this.kubectl("get", "pvc", claim, "-o", "jsonpath={.spec.storageClassName}");
  }

  /** While `work` goes on pods are made and started nowhere. */
  async withoutPods(work: () => Promise<void>): Promise<void> {
    const nodes = this.cluster.kubectl(["get", "nodes", "-o", "name"]).trim().split("\n");
    for (const node of nodes) this.cluster.kubectl(["cordon", node]);
    try {
      await work();
    } finally {
      for (const node of nodes) this.cluster.kubectl(["uncordon", node]);
    }
  }

  /** While `work` goes on `pods` wait for a node that there is not, as the runbook has it. */
  async onHold(pods: readonly string[], work: () => Promise<void>): Promise<void> {
    const select = (hold: string | null): void => {
      const patch = JSON.stringify({ spec: { template: { spec: { nodeSelector: { hold } } } } });
      this.kubectl("patch", "rstore", NAME, "--type=merge", "--patch", patch);
    };
    select(NAME);
    const wanted = `--for=jsonpath={.spec.template.spec.nodeSelector.hold}=${NAME}`;
    this.kubectl("wait", `statefulset/${NAME}`, wanted);
    await this.holdBack(pods);
    await work();
    select(null);
    const selector = "jsonpath={.spec.template.spec.nodeSelector.hold}";
    await this.until("new pods are let go", () => {
      return this.kubectl("get", "statefulset", NAME, "-o", selector) === "";
    });
    // The rollout may be at one of them itself.
    this.kubectl("delete", "pod", ...pods, "--ignore-not-found", "--wait=false");
  }

  private isMadeAnew(pod: string, uid: string | undefined): boolean {
    const found = this.pod(pod);
    return found !== undefined && found.metadata.uid !== uid && found.status?.podIP === undefined;
  }

  /** Where a pod's volumes are on this machine; throws where they are elsewhere. */
  volumeFolders(pod: string): readonly string[] {
    return ["data", "wal"].map((volume) => {
      const name = this.kubectl(
        ...["get", "pvc", `${volume}-${pod}`, "-o", "jsonpath={.spec.volumeName}"],
      );
      const path = this.kubectl("get", "pv", name, "-o", "jsonpath={.spec.hostPath.path}");
      assert.match(path, /^\/.+/, `${name} is no folder of this machine`);
      return path;
    });
  }

  /** Resolves when another replica than `oldUid` votes on the pod and the pod is ready. */
  async rebuilt(pod: string, oldUid: string): Promise<void> {
    await this.until(`${pod} votes again`, () => {
      const member = this.shard.spec.members.find(({ node }) => node === pod);
      const conditions = this.pod(pod)?.status?.conditions ?? [];
      const ready = conditions.some(({ type, status }) => type === "Ready" && status === "True");
      return member?.role === "voter" && member.replicaUid !== oldUid && ready;
    });
  }

  /** Replaces a pod's claims; resolves with the recovery when the pod votes again. */
  async replaceVolumes(pod: string): Promise<ReplicaRecovery> {
    const uid = this.replicaUid(pod);
    const known = new Set(this.recoveries(pod).map(({ metadata }) => metadata.name));
    const from = this.view.told.length;
    const deletedAtMs = Date.now();
    this.deleteVolumes(pod);
    await this.rebuilt(pod, uid);
    const recovery = await this.until("the recovery says that it succeeded", () =>
      this.recoveries(pod).find(
        ({ metadata, status }) => !known.has(metadata.name) && status?.phase === "Succeeded",
      ),
    );
    const told = this.view.told.slice(from);
    const line = recoveryTimeLine({ pod, deletedAtMs, oldReplicaUid: uid, told });
    process.stdout.write(line);
    assert.ok(!line.includes(NOT_SEEN), "each step is told");
    return recovery;
  }

  /** A pod may lose its place now: "evicted", or "refused" by its PodDisruptionBudget. */
  async evict(pod: string): Promise<string> {
    const uid = this.pod(pod)?.metadata.uid;
    assert.ok(uid !== undefined, pod);
    const { signal } = new AbortController();
    return await this.cluster.client.evict(
      { namespace: this.namespace, name: pod, uid },
      { signal },
    );
  }

  /** Reasons of the Events that are about a pod. */
  eventReasons(pod: string): readonly string[] {
    const selector = `--field-selector=involvedObject.name=${pod}`;
    return this.kubectl("get", "events", selector, "-o", "jsonpath={.items[*].reason}").split(" ");
  }

  /**
   * Stops writing; nothing acknowledged is lost, and all replicas hold the same. Resolves with the
   * offset up to which they do.
   */
  async proveNothingLost(): Promise<number> {
    await this.writers.stop();
    if (this.writeFailure !== null) throw this.writeFailure;
    await this.whole(this.store?.spec.replicas);
    const { lost, examples, read } = await readBack(this.client, this.ledger, () => undefined);
    assert.equal(lost, 0, `lost ${lost} of ${read}: ${examples.join(", ")}`);
    assert.equal(read, this.ledger.records);
    const { namespace, shard, ensemble } = this.shard.spec;
    const ask = async (node: string, atLeastOffset: number) =>
      await replicaChecksum({
        internalAddress: this.reachedAt(`${node}:6649`),
        namespace,
        shard,
        atLeastOffset,
        timeoutMs: WAIT_MS,
      });
    const { appliedOffset } = await ask(this.leader(), -1);
    const all = await Promise.all(ensemble.map(async (node) => await ask(node, appliedOffset)));
    const states = new Set(all.map(({ records, checksum }) => `${records} ${checksum}`));
    assert.equal(states.size, 1, `replicas differ: ${[...states].join(", ")}`);
    process.stdout.write(`      ${this.ledger.acknowledged} writes acknowledged, lost ${lost}\n`);
    return appliedOffset;
  }

  /** Resolves when `count` further writes were acknowledged. */
  async written(count: number): Promise<void> {
    const target = this.ledger.acknowledged + count;
    for (const endMs = Date.now() + WAIT_MS; this.ledger.acknowledged < target; ) {
      assert.ok(Date.now() < endMs, `${count} writes: only to ${this.ledger.acknowledged}`);
      // A write of ours comes after theirs: no clock is waited for.
      const key = `tick/${this.ledger.acknowledged}`;
      await this.client.put(key, Buffer.from(key));
    }
  }

  /** Ends all that the test began; the namespace is deleted in the background. */
  async close(): Promise<void> {
    await this.client.close();
    await this.writers.stop();
    await this.view.close();
    this.cluster.kubectl(["delete", "namespace", this.namespace, "--wait=false"]);
  }

  /** By the pod's address: only pods can look up the names that sidecars give. */
  private reachedAt(address: string): string {
    const [host = "", port = ""] = address.split(":");
    const pod = this.pod(host.split(".", 1)[0] ?? "");
    const ip = pod?.status?.podIP;
    // A connection to an address that nobody has any more hangs; a name that is not known fails.
    const gone = ip === undefined || pod?.metadata.deletionTimestamp !== undefined;
    return gone ? address : `${ip}:${port}`;
  }
}

/** With owners and modes: the pod's process is not root. */
function copyFolder(from: string, to: string): void {
  mkdirSync(to, { recursive: true });
  execFileSync("cp", ["-a", `${from}/.`, to]);
}

function startOf({ status, metadata }: ReplicaRecovery): number {
  return Date.parse(status?.startedAt ?? metadata.creationTimestamp ?? "") || Infinity;
}
