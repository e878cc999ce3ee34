/**
 * The whole operator with real sidecars: what it makes of a five-line store, of a replaced volume,
 * of another image, another size, a deletion. The API server and the kubelet are stand-ins; the
 * test on a real cluster is in test/cluster.
 */
import assert from "node:assert/strict";
import { podFacts } from "../../operator/kube/pods.ts";
import { findFreePorts } from "../../operator/local/free-ports.ts";
import { IN_SYNC_GATE } from "../../operator/specs/labels.ts";
import { operatorRoles, rightsIn, rightsOf } from "../support/access.ts";
import type { FakeApiServer, Stored } from "../support/fake-api-server.ts";
import { OperatorLife, type RunningOperator, WAIT_MS } from "../support/operator-life.ts";
import { skip } from "../support/skip.ts";

const NS = "/namespaces/prod";
const STORE = `/apis/resilver.io/v1alpha1${NS}/replicatedstores/demo`;
const RECOVERIES = `/apis/resilver.io/v1alpha1${NS}/replicarecoveries`;

/** Rights that the chart gives where it is asked to: without them the operator does without. */
const OPTIONAL: ReadonlySet<string> = new Set(["/nodes get"]);

describe("operator", () => {
  let life: OperatorLife;
  let server: FakeApiServer;
  /** Rights that all the tests before needed together. */
  const used = new Set<string>();

  beforeEach(async () => {
    life = await OperatorLife.begin();
    server = life.server;
  });
  afterEach(async () => {
    for (const request of server.requests) for (const right of rightsOf(request)) used.add(right);
    await life.close();
  });

  const start = (identity: string, metricsPort = 0): RunningOperator =>
    life.start(identity, { metricsPort });
  const end = (running: RunningOperator): Promise<void> => life.end(running);
  const apply = (spec: object): void => life.apply(spec);
  const store = (): Stored => life.store();
  const column = (name: string): unknown => life.column(name);
  const recoveries = () => life.recoveries();
  const pod = (name: string): Stored | undefined => life.pod(name);
  const whole = (pods: number): Promise<void> => life.whole(pods);
  const write = (count: number): Promise<void> => life.write(count);

  it("a five-line store; a replaced volume heals and says why", async () => {
    const metricsPort = await findFreePorts(1, Math.random);
    start("one", metricsPort);
    apply({});
    await whole(3);
    assert.equal(column("quorate"), "1/1");
    await write(50);
    const [follower = ""] = ["demo-0", "demo-1", "demo-2"].filter((n) => n !== column("leaders"));
    const old = server.get(`/api/v1${NS}/persistentvolumeclaims/data-${follower}`)?.metadata.uid;
    life.replaceVolumes(follower);
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
    const { uid, namespace } = store().metadata;
    const info = `{store="${uid}",store_namespace="${namespace}",store_name="demo"} 1\n`;
    assert.ok(metrics.includes(`resilver_store_info${info}`), metrics);
  });

  it("a volume copied under claims that a person made learns before it votes", async () => {
    start("one");
    apply({});
    await whole(3);
    await write(20);
    const follower = life.follower();
    await life.copyVolumes(follower);
    const done = await server.until(
      "the recovery succeeded",
      () => recoveries().find(({ phase }) => phase === "Succeeded"),
      WAIT_MS,
    );
    assert.ok(done.name.startsWith(`${follower}-`));
    assert.equal(done.reason, "PVCReplaced", JSON.stringify(done));
    await whole(3);
    for (const volume of ["data", "wal"]) {
      const claim = server.get(`/api/v1${NS}/persistentvolumeclaims/${volume}-${follower}`);
      assert.equal(claim?.metadata.labels?.["resilver.io/store"], "demo");
    }
  });

  it("a killed operator's successor goes on", async () => {
    const first = start("one");
    apply({});
    await whole(3);
    const second = start("two");
    const before = server.requests.length;
    await end(first);
    await server.until("the second leads", () => second.operator.leads, WAIT_MS);
    const [follower = ""] = ["demo-1", "demo-2"].filter((name) => name !== column("leaders"));
    server.remove(`/api/v1${NS}/persistentvolumeclaims/data-${follower}`);
    server.remove(`/api/v1${NS}/pods/${follower}`);
    await server.until(
      "the recovery succeeded",
      () => recoveries().some(({ phase }) => phase === "Succeeded"),
      WAIT_MS,
    );
    await whole(3);
    // That it knew nothing at first took no pod out of service.
    const gates = server.requests.slice(before).filter(({ method, path }) => {
      const other = !path.includes(`/pods/${follower}/`);
      return method === "PATCH" && other && /\/pods\/demo-\d\/status$/u.test(path);
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

  it("a container that fails in the only pod is mended by another template", async () => {
    // As a container beside the sidecar would do it, whose command was mistyped.
    life.kubelet.fails = () => true;
    start("one");
    apply({ replicas: 1 });
    await server.until(
      "its replica votes, and it is not ready",
      () => column("quorate") === "1/1" && column("ready") === "0/1",
      WAIT_MS,
    );
    const broken = pod("demo-0")?.metadata.uid;
    life.kubelet.fails = ({ metadata }) => metadata.uid === broken;
    apply({ replicas: 1, image: "resilver:mended" });
    const uid = () => pod("demo-0")?.metadata.uid;
    await server.until("it is made anew", () => uid() !== undefined && uid() !== broken, WAIT_MS);
    await whole(1);
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

  it("a forced quorum is ordered; what was ordered goes when its time is over", async () => {
    start("one");
    apply({});
    await whole(3);
    await write(20);
    const leader = String(column("leaders"));
    const [survivor = "", other = ""] = ["demo-0", "demo-1", "demo-2"].filter((n) => n !== leader);
    for (const name of [leader, other]) life.kubelet.hold(name);
    for (const name of [leader, other]) life.replaceVolumes(name);
    const waits = (name: string): boolean =>
      JSON.stringify(pod(name)?.["status"] ?? {}).includes("waiting");
    await server.until("neither runs", () => waits(leader) && waits(other), WAIT_MS);
    const order = (name: string, acknowledgeDataLoss: string) => {
      const shard = { namespace: "default", shard: 0 };
      const forceQuorum = { shard, survivor, acknowledgeDataLoss };
      life.order(name, { storeName: "demo", ttlSecondsAfterFinished: 0, forceQuorum });
      return server.until(
        `${name} has ended`,
        () => recoveries().find((one) => one.name === name && one.finishedAt !== undefined),
        WAIT_MS,
      );
    };
    const refused = await order("guess", "lose everything after offset 0");
    const phrase = /must be exactly "(lose everything after offset \d+)"/u;
    assert.match(refused.message ?? "", phrase);
    const done = await order("go-on", phrase.exec(refused.message ?? "")?.[1] ?? "");
    assert.deepEqual([done.phase, done.message], ["Succeeded", `goes on with ${survivor}`]);
    await server.until(
      "their time is over",
      () => !recoveries().some(({ name }) => name === "guess" || name === "go-on"),
      WAIT_MS,
    );
    for (const name of [leader, other]) life.kubelet.release(name);
    await whole(3);
    await write(5);
    const kept = await life.client((client) => client.get("key-19"));
    assert.ok(Buffer.alloc(1_000, 19).equals(kept?.value ?? Buffer.alloc(0)));
  });

  it("a webhook that fails keeps neither rebuilds nor readiness nor other ensembles waiting", async () => {
    const first = start("one");
    const namespaces = (replicationFactor: number) => [{ name: "default", replicationFactor }];
    apply({ namespaces: namespaces(1) });
    await whole(3);
    const shard = (): { ensemble: readonly string[] } | undefined =>
      server.get(`/apis/resilver.io/v1alpha1${NS}/storeshards/demo.default.0`)?.["spec"] as never;
    const [holder = ""] = shard()?.ensemble ?? [];
    const other = holder === "demo-0" ? "demo-1" : "demo-0";
    // Objects cannot be applied, and a shard's record cannot be saved, for as long as this lasts.
    let failing = true;
    server.fault = ({ method, path }) => {
      if (failing && path.includes("/storeshards/") && method === "PUT") return { kind: "stall" };
      const applied = method === "PATCH" && /configmaps|statefulsets/u.test(path);
      return failing && applied ? { kind: "status", status: 500 } : undefined;
    };
    apply({ namespaces: namespaces(3), image: "resilver:next" });
    const uid = pod(other)?.metadata.uid;
    server.remove(`/api/v1${NS}/pods/${other}`);
    await server.until(
      "it is told",
      () => life.condition("Progressing")?.reason === "ApplyFailed",
      WAIT_MS,
    );
    await server.until(
      "a pod without replicas that was made anew is ready",
      () => pod(other)?.metadata.uid !== uid && inSync(pod(other)),
      WAIT_MS,
    );
    failing = false;
    await server.until("three copies", () => shard()?.ensemble.length === 3, WAIT_MS);
    await server.until(
      "it is over",
      () => life.condition("Progressing")?.reason !== "ApplyFailed",
      WAIT_MS,
    );
    await end(first);
  });

  it("a webhook that refuses the finalizer: a new store waits, one that runs is looked after", async () => {
    let refusing = true;
    server.fault = ({ method, path }) =>
      refusing && method === "PATCH" && path === STORE
        ? { kind: "status", status: 403 }
        : undefined;
    const told = (meaning: string): boolean => {
      const { reason, message = "" } = life.condition("Progressing") ?? {};
      return reason === "ApplyRejected" && message.includes(meaning);
    };
    start("one");
    apply({ storage: { deletionPolicy: "Delete" } });
    await server.until("it is told", () => told("no pod is made before"), WAIT_MS);
    assert.equal(server.get(`/apis/apps/v1${NS}/statefulsets/demo`), undefined);
    refusing = false;
    await whole(3);
    assert.deepEqual(store().metadata.finalizers, ["resilver.io/delete-data"]);
    refusing = true;
    apply({});
    await server.until("it is told", () => told("cannot be removed"), WAIT_MS);
    const victim = life.follower();
    const uid = pod(victim)?.metadata.uid;
    life.replaceVolumes(victim);
    await server.until(
      "the recovery succeeded",
      () => recoveries().some(({ phase }) => phase === "Succeeded"),
      WAIT_MS,
    );
    await server.until(
      "the pod is ready",
      () => pod(victim)?.metadata.uid !== uid && column("ready") === "3/3",
      WAIT_MS,
    );
    refusing = false;
    await server.until("it is removed", () => store().metadata.finalizers?.length === 0, WAIT_MS);
    await whole(3);
  });

  it("deletion keeps data unless told otherwise", async () => {
    const metricsPort = await findFreePorts(1, Math.random);
    const page = async (): Promise<string> =>
      await (await fetch(`http://127.0.0.1:${metricsPort}/metrics`)).text();
    start("one", metricsPort);
    apply({ replicas: 1, storage: { deletionPolicy: "Delete" } });
    await whole(1);
    const series = `{store="${store().metadata.uid}"`;
    assert.ok((await page()).includes(`resilver_election_completed_total${series}`));
    // A person's: no label says whose it is.
    life.order("mend", { storeName: "demo", rebuild: { pod: "demo-0" } });
    await server.until("it is answered", () => recoveries()[0]?.phase === "Rejected", WAIT_MS);
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
        ...server.list(RECOVERIES),
        ...server.list(`/api/v1${NS}/pods`),
      ].map((object) => object.metadata.name);
    await server.until(`nothing is left: ${left().join()}`, () => left().length === 0, WAIT_MS);
    await server.until("let go", () => store().metadata.finalizers?.length === 0, WAIT_MS);
    assert.ok(!(await page()).includes(series), "what was counted of it has ended");
  });

  it("an order for a store that there is not is answered, and kept for its time", async () => {
    start("one");
    life.order("mend", {
      storeName: "dmeo",
      rebuild: { pod: "demo-0" },
      ttlSecondsAfterFinished: 3,
    });
    const told = await server.until(
      "it is answered",
      () => recoveries().find(({ phase }) => phase === "Rejected"),
      WAIT_MS,
    );
    assert.match(
      told.message ?? "",
      /^spec\.storeName is dmeo; allowed: the name of a ReplicatedStore in namespace prod/u,
    );
    await server.until("its time is over", () => recoveries().length === 0, WAIT_MS);
  });

  it("a store that cannot be right says what is wrong with it", async () => {
    start("one");
    apply({ replicas: 1, namespaces: [{ name: "default", replicationFactor: 3 }] });
    await server.until("it is refused", () => column("state") === "SpecInvalid", WAIT_MS);
    const [condition] = column("conditions") as readonly { message: string }[];
    assert.match(condition?.message ?? "", /spec\.replicas is 1; allowed: at least the largest/);
    // Still wrong in the same way: that is one Event, seen twice.
    const image = "resilver:other";
    apply({ replicas: 1, image, namespaces: [{ name: "default", replicationFactor: 3 }] });
    const events = () => server.list("/apis/events.k8s.io/v1/events");
    await server.until(
      "the Event is counted",
      () => events().some((event) => (event["series"] as { count: number })?.count === 2),
      WAIT_MS,
    );
    assert.equal(events().length, 1);
  });

  it("needs each right that the chart gives it, and no other", function () {
    const all = this.test?.parent?.tests ?? [];
    assert.ok(all.length > 1, "the tests above are not seen");
    // Whatever else keeps one from running, a right that only it needs must not go unseen.
    const wasAsked = (test: Mocha.Test): boolean => test === this.test || test.state !== undefined;
    if (!all.every(wasAsked)) skip(this, "not all tests of the file were asked for");
    const given = rightsIn(operatorRoles("chart-default").flatMap(({ rules }) => rules));
    const missing = [...used].filter((right) => !given.includes(right) && !OPTIONAL.has(right));
    assert.deepEqual(missing, [], "needed, and not given");
    const idle = given.filter((right) => !used.has(right));
    assert.deepEqual(idle, [], "given, and not needed");
  });
});

/** True when the operator says that all the pod's replicas vote. */
function inSync(pod: Stored | undefined): boolean {
  return pod !== undefined && podFacts(pod as never, IN_SYNC_GATE).inSync === true;
}
