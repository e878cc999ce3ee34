/**
 * The operator as a real process that is killed again and again, right after a request of it was
 * carried out and before it heard of that; and an API server that is away for longer than a Lease
 * holds. The process is started again each time, as the kubelet would.
 */
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { KubeLimits } from "../../operator/kube/limits.ts";
import { Pod } from "../../operator/local/pod.ts";
import { sidecarEnvironment } from "../../operator/local/sidecar-process.ts";
import type { Seen } from "../support/fake-api-server.ts";
import { OperatorLife } from "../support/operator-life.ts";

const PROGRAM = fileURLToPath(new URL("operator-process.ts", import.meta.url));
const TSX = createRequire(import.meta.url).resolve("tsx");
const NS = "/namespaces/prod";
const LEASE = "/apis/coordination.k8s.io/v1/namespaces/system/leases/resilver-operator";
/** A third of what it is: a holder that reaches no server gives up that soon. */
const SHORT_LEASE = { leaseDurationMs: 5_000, leaseRenewMs: 4_000, leaseRetryMs: 500 };
const WAIT_MS = 120_000;
const RECORDS = 50;

describe("operator that is killed", function () {
  this.timeout(300_000);
  let life: OperatorLife;
  let operator: Pod | null = null;
  /** Uid -> path of each pod, claim and StatefulSet that was to be deleted or evicted. */
  let deleted: Map<string, string>;

  beforeEach(async () => {
    life = await OperatorLife.begin();
    deleted = new Map();
  });
  afterEach(async () => {
    await operator?.kill();
    await life.close();
  });

  /** A store that serves. */
  async function start(
    spec: object,
    replicas: number,
    limits: Partial<KubeLimits> = {},
  ): Promise<void> {
    const { folder, firstPort, server } = life;
    const settings = JSON.stringify({ url: server.url, firstPort, limits });
    const command = [process.execPath, "--import", TSX, PROGRAM, settings] as const;
    const env = sidecarEnvironment(process.env);
    const logFile = join(folder, "operator.log");
    operator = new Pod({ name: "operator", command, env, logFile }, () => server.nudge());
    operator.start();
    life.apply(spec);
    await life.whole(replicas);
    await life.write(RECORDS);
  }

  /**
   * Kills a process for each number, at that request of it that changes something, counted from its
   * start. Resolves when all are killed.
   */
  async function killed(...at: readonly number[]): Promise<void> {
    let [kills, seen] = [0, 0];
    life.server.fault = (request) => {
      if (!changes(request)) return undefined;
      noteDeletion(request);
      seen += 1;
      const pid = operator?.status().pid ?? null;
      if (seen < (at[kills] ?? Number.POSITIVE_INFINITY) || pid === null) return undefined;
      process.kill(pid, "SIGKILL");
      // It is not given back, and runs out: how long that takes is tested elsewhere.
      life.server.remove(LEASE);
      kills += 1;
      seen = 0;
      return { kind: "afterwards" };
    };
    await life.server.until("all are killed", () => kills === at.length, WAIT_MS);
  }

  function noteDeletion({ method, path }: Seen): void {
    const object = path.replace(/\/eviction$/u, "");
    if (!/\/(pods|persistentvolumeclaims|statefulsets)\/[^/]+$/u.test(object)) return;
    const uid = life.server.get(object)?.metadata.uid;
    if (uid === undefined) return;
    if (method === "DELETE" || path !== object) deleted.set(uid, object);
  }

  async function proveNothingLost(): Promise<void> {
    await life.client(async (client) => {
      for (let n = 0; n < RECORDS; n += 1) {
        const found = await client.get(`key-${n}`);
        assert.ok(found !== null && Buffer.alloc(1_000, n).equals(found.value), `key-${n}`);
      }
    });
  }

  async function recovered(pod: string): Promise<void> {
    await life.server.until(
      "the recovery succeeded",
      () => life.recoveries().some(({ phase }) => phase === "Succeeded"),
      WAIT_MS,
    );
    const [recovery, ...others] = life.recoveries();
    assert.ok(recovery !== undefined && recovery.name.startsWith(`${pod}-`));
    assert.equal(recovery.reason, "PVCReplaced");
    assert.deepEqual(others, [], "one object for one recovery");
    await life.whole(3);
    await proveNothingLost();
  }

  it("in the middle of a recovery: it ends, and is told of once", async () => {
    await start({}, 3);
    const pod = life.follower();
    life.replaceVolumes(pod);
    await killed(1, 3, 5);
    await recovered(pod);
    assert.equal(deleted.size, 0);
  });

  it("while volumes grow and a pod is made anew: once", async () => {
    await start({ replicas: 1 }, 1);
    const before = life.pod("demo-0")?.metadata.uid;
    const storage = { data: { size: "20Gi" } };
    life.apply({ replicas: 1, image: "resilver:next", storage });
    await killed(1, 2, 3);
    await life.server.until(
      "the pod is another one, and all is done",
      () =>
        (life.pod("demo-0")?.metadata.uid ?? before) !== before &&
        life.condition("Progressing")?.reason === "Idle",
      WAIT_MS,
    );
    await life.whole(1);
    const objects = [`/apis/apps/v1${NS}/statefulsets/demo`, `/api/v1${NS}/pods/demo-0`];
    assert.deepEqual([...deleted.values()].toSorted(), objects.toSorted());
    const claim = life.server.get(life.path("v1", "persistentvolumeclaims", "data-demo-0"))?.[
      "spec"
    ] as { resources: object };
    assert.deepEqual(claim.resources, { requests: { storage: "20Gi" } });
    assert.deepEqual(life.recoveries(), [], "nothing was copied");
    await proveNothingLost();
  });

  it("while a store and its data are deleted: nothing is left, each claim was deleted once", async () => {
    await start({ replicas: 1, storage: { deletionPolicy: "Delete" } }, 1);
    const store = life.store();
    const metadata = { ...store.metadata, deletionTimestamp: "2026-01-01T00:00:00Z" };
    life.server.put(life.storePath, { ...store, metadata });
    // After the StatefulSet, the first claim, the second.
    await killed(1, 1, 1);
    const finalizers = () => life.store().metadata.finalizers;
    await life.server.until("it lets go", () => finalizers()?.length === 0, WAIT_MS);
    const left = [
      ...life.server.list(life.path("v1", "persistentvolumeclaims")),
      ...life.server.list(life.path("v1", "pods")),
      ...life.server.list(life.path("resilver.io/v1alpha1", "storeshards")),
    ];
    assert.deepEqual(left, []);
    const objects = [
      `/apis/apps/v1${NS}/statefulsets/demo`,
      ...["data", "wal"].map((name) => `/api/v1${NS}/persistentvolumeclaims/${name}-demo-0`),
    ];
    assert.deepEqual([...deleted.values()].toSorted(), objects.toSorted());
  });

  it("an API server that is away for long: the store serves, and what happened is mended", async () => {
    await start({}, 3, SHORT_LEASE);
    let [away, refused] = [true, 0];
    life.server.fault = (request) => {
      if (!away) {
        noteDeletion(request);
        return undefined;
      }
      refused += 1;
      return { kind: "drop" };
    };
    life.server.endWatches("break");
    const restarts = (): number => operator?.status().restarts ?? 0;
    const before = restarts();
    const ended = (): number => restarts() - before;
    await life.server.until("it gave up its Lease, and ended", () => ended() > 0, WAIT_MS);
    assert.equal(operator?.status().lastExit, "exit code 1");
    const pod = life.follower();
    life.replaceVolumes(pod);
    await life.write(RECORDS);
    const tried = refused;
    await life.server.until("the next one tries", () => refused > tried + RECORDS, WAIT_MS);
    assert.deepEqual(life.recoveries(), []);
    assert.equal(ended(), 1, "it waits for the server");
    away = false;
    await recovered(pod);
    assert.equal(deleted.size, 0);
  });
});

/** True for what is carried out for stores; who leads, and what is only told, does not count. */
function changes({ method, path }: Seen): boolean {
  return method !== "GET" && !/\/(leases|events)(\/|$)/u.test(path);
}
