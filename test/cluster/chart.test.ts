/** The chart and the life of a store on a real cluster. */
import assert from "node:assert/strict";
import { KubeCluster, OPERATOR_NAMESPACE } from "../support/kube-cluster.ts";
import { KubeStore } from "../support/kube-store.ts";
import { RUN_AS } from "../../operator/specs/sidecar-container.ts";

/** A third of what Oxia's clients wait by default. */
const ORDINARY_TIMEOUT_MS = 10_000;

describe("chart and store on a cluster", function () {
  this.timeout(600_000);
  let cluster: KubeCluster;
  let test: KubeStore | null = null;

  before(function () {
    cluster = new KubeCluster(this);
    cluster.installOperator();
  });
  afterEach(async () => {
    await test?.close();
    test = null;
  });
  after(() => {
    cluster?.close();
  });

  async function start(options: { readonly requestTimeoutMs?: number } = {}): Promise<KubeStore> {
    test = await KubeStore.create(cluster, {}, options);
    await test.load(20, 1_024);
    return test;
  }

  it("helm test passes", () => {
    const said = cluster.helm("test", "resilver", "--namespace", OPERATOR_NAMESPACE);
    assert.match(said, /Phase:\s+Succeeded/);
  });

  it("kubectl explain tells what the fields are", () => {
    const said = (field: string): string => cluster.kubectl(["explain", `rstore.${field}`]);
    assert.match(said("spec.storage.data.size"), /can grow where the storage class allows it/);
    assert.match(said("status.operator"), /Lease of the operator that looks after the\s+store/);
  });

  it("the API server refuses what cannot work, and names field, value and what is allowed", () => {
    const refused: readonly (readonly [object, RegExp])[] = [
      [
        { replicas: 1, namespaces: [{ name: "a", replicationFactor: 3 }] },
        /replicas is 1; allowed/,
      ],
      [{ namespaces: [{ name: "a", replicationFactor: 2 }] }, /replicationFactor is 2; allowed/],
      [{ storage: { data: { size: "1Mi" } } }, /size is 1Mi; allowed: 1Gi or more/],
      [{ recovery: { mode: "Never" } }, /mode: Unsupported value: "Never"/],
    ];
    for (const [spec, message] of refused) {
      const apiVersion = "resilver.io/v1alpha1";
      const object = { apiVersion, kind: "ReplicatedStore", metadata: { name: "bad" }, spec };
      assert.throws(() => cluster.kubectl(["apply", "-f", "-"], JSON.stringify(object)), message);
    }
  });

  it("an upgrade, and an uninstall with a new install, leave stores serving", async () => {
    const store = await start();
    store.startWriting();
    cluster.installOperator("--set", "operator.logLevel=debug");
    await store.written(50);
    cluster.uninstallOperator();
    await store.written(50);
    cluster.installOperator();
    const victim = store.follower();
    await store.replaceVolumes(victim);
    await store.proveNothingLost();
  });

  it("with the rights of watched namespaces alone it rebuilds, and leaves other stores alone", async () => {
    const store = await start();
    const elsewhere = cluster.freshNamespace();
    cluster.namespace(elsewhere);
    cluster.installOperator("--set", `watchNamespaces={${store.namespace}}`);
    try {
      const object = { apiVersion: "resilver.io/v1alpha1", kind: "ReplicatedStore" };
      const other = { ...object, metadata: { name: "other", namespace: elsewhere }, spec: {} };
      cluster.kubectl(["apply", "-f", "-"], JSON.stringify(other));
      store.startWriting();
      await store.replaceVolumes(store.follower());
      await store.proveNothingLost();
      const get = ["get", "rstore", "other", "-n", elsewhere, "-o", "jsonpath={.status}"];
      assert.equal(cluster.kubectl(get), "");
    } finally {
      cluster.kubectl(["delete", "namespace", elsewhere, "--wait=false"]);
      cluster.installOperator();
    }
  });

  it("two releases that watch one store: one looks after it, the other when that is gone", async () => {
    const store = await start();
    const other = cluster.freshNamespace();
    cluster.namespace(other);
    const release = ["other", "--namespace", other, "--wait", "--timeout", "170s"];
    const install = (...options: readonly string[]): string => {
      const chart = [...release, "charts/resilver", "--install", "--reset-values"];
      return cluster.helm("upgrade", ...chart, ...options);
    };
    const operator = (): string | undefined => store.store?.status?.operator;
    const [first, second] = [OPERATOR_NAMESPACE, other].map((name) => `${name}/resilver-operator`);
    try {
      store.startWriting();
      // With the rights of one namespace alone it cannot see whether the first one works.
      install("--set", `watchNamespaces={${store.namespace}}`);
      await toldOfOther(
        cluster,
        store,
        /right "get leases.coordination.k8s.io" in namespace .* is missing/u,
      );
      // With those of all it can.
      install();
      await toldOfOther(cluster, store, /whose Lease is held/u);
      await store.replaceVolumes(store.follower());
      assert.equal(operator(), first);
      cluster.uninstallOperator();
      await store.until("it is taken over", () => operator() === second);
      await store.replaceVolumes(store.follower());
      cluster.installOperator();
      cluster.helm("uninstall", ...release);
      await store.until("it is taken back", () => operator() === first);
      await store.proveNothingLost();
    } finally {
      cluster.helm("uninstall", ...release, "--ignore-not-found");
      cluster.kubectl(["delete", "namespace", other, "--wait=false"]);
      cluster.installOperator();
    }
  });

  it("a store that was deleted and is made again takes over its data", async () => {
    const store = await start();
    const { storeId } = store.shard.spec;
    store.kubectl("delete", "rstore", "demo", "--timeout=60s");
    await store.until("the pods are gone", () => store.view.all("pod").length === 0);
    assert.equal(store.view.all("claim").length, 6, "claims stay");
    store.apply({ recovery: { cooldown: "0s" } });
    await store.whole();
    assert.equal(store.shard.spec.storeId, storeId);
    assert.equal(store.recoveries("demo-0").length, 0);
    await store.proveNothingLost();
  });

  it("another image under load: pods one by one, no write fails", async () => {
    const store = await start({ requestTimeoutMs: ORDINARY_TIMEOUT_MS });
    store.startWriting();
    await store.written(50);
    const before = store.view.all("pod").map(({ metadata }) => metadata.uid);
    const image = store.kubectl(
      "get",
      "pod",
      "demo-0",
      "-o",
      "jsonpath={.spec.containers[0].image}",
    );
    // Another name of the same image: a tag without a registry is Docker's.
    store.apply({ recovery: { cooldown: "0s" }, image: `docker.io/library/${image}` });
    await store.until("all pods are new", () => {
      const pods = store.view.all("pod");
      return pods.length === 3 && pods.every(({ metadata }) => !before.includes(metadata.uid));
    });
    await store.written(50);
    assert.equal(store.givenUpWrites, 0);
    await store.proveNothingLost();
  });

  for (const replicas of [1, 3]) {
    it(`a container that crashes in all of ${replicas} pods is mended by another template`, async () => {
      const spec = (script: string) => ({
        replicas,
        recovery: { cooldown: "0s" },
        template: { spec: { containers: [containerOf(cluster.sidecarImage(), script)] } },
      });
      const made = (store: KubeStore): Promise<void> => store.servesUnready(replicas);
      test = await KubeStore.create(cluster, spec("process.exit(1)"), { made });
      await test.load(20, 1_024);
      const before = test.view.all("pod").map(({ metadata }) => metadata.uid);
      test.apply(spec("setInterval(() => undefined, 1_000)"));
      await test.whole(replicas);
      const pods = test.view.all("pod");
      assert.ok(pods.every(({ metadata }) => !before.includes(metadata.uid)));
      await test.proveNothingLost();
    });
  }
});

/** Resolves when an Event says of the store what is meant. */
async function toldOfOther(cluster: KubeCluster, store: KubeStore, meant: RegExp): Promise<void> {
  const selector = "--field-selector=reason=OtherOperator";
  for (const endMs = Date.now() + ORDINARY_TIMEOUT_MS * 6; ; ) {
    const told = store.kubectl("get", "events", selector, "-o", "jsonpath={.items[*].message}");
    if (meant.test(told)) return;
    assert.ok(Date.now() < endMs, `${meant.source}: ${told}\n${cluster.operatorLog()}`);
    // A write of ours comes after theirs: no clock is waited for.
    await store.written(10);
  }
}

/** A person's container beside the sidecar, allowed where pods may do little. */
function containerOf(image: string, script: string): object {
  return {
    name: "app",
    image,
    command: ["node", "-e", script],
    // A container without a probe is ready from its start to its crash.
    readinessProbe: { exec: { command: ["node", "-e", ""] }, timeoutSeconds: 10 },
    securityContext: {
      allowPrivilegeEscalation: false,
      capabilities: { drop: ["ALL"] },
      runAsUser: RUN_AS,
    },
  };
}
