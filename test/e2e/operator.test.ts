/**
 * The whole operator with real sidecars: what it makes of a five-line store, of a replaced volume,
 * of another image, another size, a deletion. The API server and the kubelet are stand-ins; the
 * test on a real cluster is in test/cluster.
 */
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ReplicaRecoveryStatus } from "../../operator/api/v1alpha1/replica-recovery.ts";
import { Operator } from "../../operator/kube/operator.ts";
import { findFreePorts } from "../../operator/local/free-ports.ts";
import { systemClock } from "../../operator/local/system-clock.ts";
import { CoordinationClient } from "../../operator/sidecar-client/coordination-client.ts";
import { StoreClient } from "../../operator/sidecar-client/store-client.ts";
import { SILENT_LOGGER } from "../../sidecar/lib/ports/logger.ts";
import { parseAllDocuments } from "yaml";
import { rightsIn, rightsOf, type RoleRule } from "../support/access.ts";
import { skip } from "../support/skip.ts";
import { FakeApiServer, type Stored } from "../support/fake-api-server.ts";
import { FakeKubelet } from "../support/fake-kubelet.ts";

const NS = "/namespaces/prod";
const STORE = `/apis/resilver.io/v1alpha1${NS}/replicatedstores/demo`;
const RECOVERIES = `/apis/resilver.io/v1alpha1${NS}/replicarecoveries`;
const WAIT_MS = 60_000;

/** Rights that these lives have no use for, and what has. */
const ELSEWHERE: ReadonlySet<string> = new Set([
  // A forced quorum asks whether the others are gone (kube-platform).
  "/pods get",
  // Read right before it (recovery-objects).
  "resilver.io/replicarecoveries get",
  // A recovery's time to be kept runs out (recovery-objects).
  "resilver.io/replicarecoveries delete",
  // The same Event again (event-recorder).
  "events.k8s.io/events patch",
  // Asked for by clusters that guard owners from being held up by what they own.
  "resilver.io/replicatedstores/finalizers update",
]);
/** Rights that the chart gives where it is asked to: without them the operator does without. */
const OPTIONAL: ReadonlySet<string> = new Set(["/nodes get"]);
/** Tests that have to run before all rights were needed. */
const LIVES = 8;

interface Role {
  readonly metadata: { readonly name: string };
  readonly rules?: readonly RoleRule[];
}

interface Running {
  readonly operator: Operator;
  readonly stop: AbortController;
  readonly ended: Promise<string>;
}

describe("operator", () => {
  let server: FakeApiServer;
  let kubelet: FakeKubelet;
  let root: string;
  let operators: Running[];
  let sidecars: CoordinationClient;
  /** Rights that all the tests before needed together. */
  const used = new Set<string>();
  let lives = 0;

  beforeEach(async () => {
    root = mkdtempSync(join(tmpdir(), "resilver-operator-"));
    server = await FakeApiServer.start();
    kubelet = new FakeKubelet(server, root, await findFreePorts(15, Math.random));
    sidecars = new CoordinationClient();
    operators = [];
  });
  afterEach(async () => {
    for (const request of server.requests) for (const right of rightsOf(request)) used.add(right);
    lives += 1;
    await Promise.all(operators.map(end));
    await kubelet.close();
    await sidecars.close();
    await server.close();
    rmSync(root, { recursive: true, force: true });
  });

  function start(identity: string, metricsPort = 0): Running {
    const operator = new Operator({
      config: server.config(),
      clock: systemClock,
      logger: SILENT_LOGGER,
      random: Math.random,
      sidecars,
      version: "test",
      identity,
      namespaces: null,
      leaseNamespace: "system",
      leaseName: "resilver-operator",
      image: "resilver:test",
      healthPort: 0,
      metricsPort,
      workers: 2,
      endpoint: (_namespace, node) => kubelet.endpoint(node),
    });
    const stop = new AbortController();
    const running = { operator, stop, ended: operator.run(stop.signal) };
    operators.push(running);
    return running;
  }

  async function end({ stop, ended }: Running): Promise<void> {
    stop.abort(new Error("the test is over"));
    await ended;
  }

  function apply(spec: object): void {
    const before = server.get(STORE) ?? { metadata: {} };
    const of = { apiVersion: "resilver.io/v1alpha1", kind: "ReplicatedStore" };
    server.put(STORE, { ...of, ...before, spec });
  }

  const store = (): Stored => server.get(STORE) as Stored;
  const column = (name: string): unknown => (store()["status"] as Record<string, unknown>)?.[name];
  const recoveries = () =>
    server.list(RECOVERIES).map((object) => ({
      name: object.metadata.name,
      ...(object["status"] as ReplicaRecoveryStatus | undefined),
    }));
  const pod = (name: string): Stored | undefined => server.get(`/api/v1${NS}/pods/${name}`);

  async function whole(pods: number): Promise<void> {
    await server.until(
      `${pods} pods ready: ${JSON.stringify(store()["status"])}`,
      () => column("ready") === `${pods}/${pods}` && column("state") === "Available",
      WAIT_MS,
    );
  }

  async function write(count: number): Promise<void> {
    const client = new StoreClient({
      servers: ["demo-0", "demo-1", "demo-2"].map((n) => kubelet.endpoint(n).publicAddress),
      namespace: "default",
    });
    try {
      for (let i = 0; i < count; i += 1) await client.put(`key-${i}`, Buffer.alloc(1_000, i));
    } finally {
      await client.close();
    }
  }

  it("a five-line store; a replaced volume heals and says why", async () => {
    const metricsPort = await findFreePorts(1, Math.random);
    start("one", metricsPort);
    apply({});
    await whole(3);
    assert.equal(column("quorate"), "1/1");
    await write(50);
    const [follower = ""] = ["demo-0", "demo-1", "demo-2"].filter((n) => n !== column("leaders"));
    const old = server.get(`/api/v1${NS}/persistentvolumeclaims/data-${follower}`)?.metadata.uid;
    for (const volume of ["data", "wal"]) {
      server.remove(`/api/v1${NS}/persistentvolumeclaims/${volume}-${follower}`);
    }
    server.remove(`/api/v1${NS}/pods/${follower}`);
    const done = await server.until(
      "the recovery succeeded",
      () => recoveries().find(({ phase }) => phase === "Succeeded"),
      WAIT_MS,
    );
    assert.ok(done.name.startsWith(`${follower}-`));
    assert.equal(done.reason, "PVCReplaced", JSON.stringify(done));
    assert.equal(done.evidence?.oldDataClaimUid, old);
    assert.notEqual(done.evidence?.newDataClaimUid, old);
    assert.notEqual(done.evidence?.oldReplicaUid, done.evidence?.newReplicaUid);
    assert.equal(done.progress, "100%");
    await whole(3);
    assert.equal(recoveries().length, 1, "one object per recovery");
    const reasons = server
      .list("/apis/events.k8s.io/v1/events")
      .map((event) => String(event["reason"]));
    for (const reason of ["RecoveryStarted", "RecoveryCompleted", "LeaderElected"]) {
      assert.ok(reasons.includes(reason), `${reason} is not in ${reasons.join()}`);
    }
    const metrics = await (await fetch(`http://127.0.0.1:${metricsPort}/metrics`)).text();
    const shard = `store="${store().metadata.uid}",namespace="default",shard="0"`;
    const completed = `resilver_recovery_completed_total{${shard},pod="${follower}",reason=`;
    assert.ok(metrics.includes(completed), metrics);
    assert.ok(metrics.includes(`resilver_replica_voter{${shard},pod="${follower}"} 1`), metrics);
  });

  it("a killed operator's successor goes on", async () => {
    const first = start("one");
    apply({});
    await whole(3);
    const second = start("two");
    const before = server.requests.length;
    await end(first);
    await server.until("the second leads", () => second.operator.leads, WAIT_MS);
    server.remove(`/api/v1${NS}/persistentvolumeclaims/data-demo-1`);
    server.remove(`/api/v1${NS}/pods/demo-1`);
    await server.until(
      "the recovery succeeded",
      () => recoveries().some(({ phase }) => phase === "Succeeded"),
      WAIT_MS,
    );
    await whole(3);
    // That it knew nothing at first took no pod out of service.
    const gates = server.requests.slice(before).filter(({ method, path }) => {
      return method === "PATCH" && /\/pods\/demo-[02]\/status/u.test(path);
    });
    assert.deepEqual(gates, []);
  });

  it("another image: every pod is made anew, the leader last", async () => {
    start("one");
    apply({});
    await whole(3);
    const leader = String(column("leaders"));
    const evicted: string[] = [];
    server.allowEviction = (name) => {
      evicted.push(name);
      return true;
    };
    apply({ image: "resilver:next" });
    await server.until("three evictions", () => evicted.length === 3, WAIT_MS);
    assert.equal(evicted[2], leader);
    assert.equal(new Set(evicted).size, 3);
    await server.until("the last one is back", () => pod(leader) !== undefined, WAIT_MS);
    await whole(3);
    assert.equal(recoveries().length, 0, "nothing was copied");
  });

  it("scales up and down: shards move before pods go", async () => {
    start("one");
    apply({ replicas: 1, namespaces: [{ name: "default", shards: 1 }] });
    await whole(1);
    apply({ replicas: 3, namespaces: [{ name: "default", shards: 1 }] });
    await whole(3);
    const shard = () =>
      server.get(`/apis/resilver.io/v1alpha1${NS}/storeshards/demo.default.0`)?.["spec"] as {
        ensemble: readonly string[];
      };
    await server.until("three voters", () => shard().ensemble.length === 3, WAIT_MS);
    apply({ replicas: 1, namespaces: [{ name: "default", shards: 1 }] });
    await server.until("one voter", () => shard().ensemble.length === 1, WAIT_MS);
    await server.until(
      "one pod",
      () => pod("demo-2") === undefined && pod("demo-1") === undefined,
      WAIT_MS,
    );
    await whole(1);
  });

  it("larger volumes: claims grow, and the pods go on", async () => {
    start("one");
    apply({ replicas: 1 });
    await whole(1);
    const set = `/apis/apps/v1${NS}/statefulsets/demo`;
    const before = { pod: pod("demo-0")?.metadata.uid, set: server.get(set)?.metadata.uid };
    const kept = `/api/v1${NS}/persistentvolumeclaims/data-demo-4`;
    const own = server.get(`/api/v1${NS}/persistentvolumeclaims/data-demo-0`);
    // Of a pod that is not there: the store was larger once.
    server.put(kept, { metadata: { labels: own?.metadata.labels }, spec: own?.["spec"] });
    apply({ replicas: 1, storage: { data: { size: "20Gi" } } });
    const made = await server.until(
      "the StatefulSet is another one",
      () => {
        const uid = server.get(set)?.metadata.uid;
        return uid !== undefined && uid !== before.set;
      },
      WAIT_MS,
    );
    assert.ok(made);
    const claim = server.get(`/api/v1${NS}/persistentvolumeclaims/data-demo-0`);
    const spec = claim?.["spec"] as { resources: { requests: object } } | undefined;
    assert.deepEqual(spec?.resources.requests, { storage: "20Gi" });
    await whole(1);
    assert.equal(pod("demo-0")?.metadata.uid, before.pod);
    assert.deepEqual(server.get(kept)?.["spec"], claim?.["spec"]);
    // Seen only now, when the StatefulSet is as it ought to be.
    server.put(kept, { ...server.get(kept), spec: own?.["spec"] });
    await server.until(
      "it grows by itself",
      () => JSON.stringify(server.get(kept)?.["spec"]) === JSON.stringify(claim?.["spec"]),
      WAIT_MS,
    );
  });

  it("volumes that cannot grow are told of; elections and readiness go on", async () => {
    server.fault = ({ method, path }) =>
      method === "PATCH" && path.includes("/persistentvolumeclaims/")
        ? { kind: "status", status: 403 }
        : undefined;
    const first = start("one");
    apply({ replicas: 1 });
    await whole(1);
    apply({ replicas: 1, storage: { data: { size: "20Gi" } } });
    const told = () =>
      (column("conditions") as readonly { type: string; reason: string }[]).find(
        ({ type }) => type === "Progressing",
      )?.reason;
    await server.until("it is told", () => told() === "StorageCannotGrow", WAIT_MS);
    await end(first);
    const uid = pod("demo-0")?.metadata.uid;
    server.remove(`/api/v1${NS}/pods/demo-0`);
    start("two");
    await server.until("it is made anew", () => (pod("demo-0")?.metadata.uid ?? uid) !== uid);
    await server.until(
      "it is ready, and led",
      () => column("ready") === "1/1" && column("quorate") === "1/1",
      WAIT_MS,
    );
    assert.equal(column("leaders"), "demo-0");
    assert.equal(told(), "StorageCannotGrow");
  });

  it("deletion keeps data unless told otherwise", async () => {
    start("one");
    apply({ replicas: 1, storage: { deletionPolicy: "Delete" } });
    await whole(1);
    assert.deepEqual(store().metadata.finalizers, ["resilver.io/delete-data"]);
    const { metadata } = store();
    server.put(STORE, {
      ...store(),
      metadata: { ...metadata, deletionTimestamp: "2026-01-01T00:00:00Z" },
    });
    const left = () =>
      [
        ...server.list(`/api/v1${NS}/persistentvolumeclaims`),
        ...server.list(`/apis/resilver.io/v1alpha1${NS}/storeshards`),
        ...server.list(`/api/v1${NS}/pods`),
      ].map((object) => object.metadata.name);
    await server.until(`nothing is left: ${left().join()}`, () => left().length === 0, WAIT_MS);
    await server.until("let go", () => store().metadata.finalizers?.length === 0, WAIT_MS);
  });

  it("a store that cannot be right says what is wrong with it", async () => {
    start("one");
    apply({ replicas: 1, namespaces: [{ name: "default", replicationFactor: 3 }] });
    await server.until("it is refused", () => column("state") === "SpecInvalid", WAIT_MS);
    const [condition] = column("conditions") as readonly { message: string }[];
    assert.match(condition?.message ?? "", /spec\.replicas is 1; allowed: at least the largest/);
  });

  it("needs each right that the chart gives it, and no other", function () {
    if (lives < LIVES) skip(this, "some of the lives above were left out");
    const golden = readFileSync(new URL("../golden/chart-default.yaml", import.meta.url), "utf8");
    const roles = parseAllDocuments(golden).map((document) => document.toJS() as Role | null);
    const ours = roles.filter(
      (role) => role !== null && /^resilver(-leader-election)?$/u.test(role.metadata.name),
    );
    const given = rightsIn(ours.flatMap((role) => role?.rules ?? []));
    const missing = [...used].filter((right) => !given.includes(right) && !OPTIONAL.has(right));
    assert.deepEqual(missing, [], "needed, and not given");
    const idle = given.filter((right) => !used.has(right) && !ELSEWHERE.has(right));
    assert.deepEqual(idle, [], "given, and not needed");
  });
});
