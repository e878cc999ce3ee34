/** What people do with a store that holds data, on a real cluster. */
import assert from "node:assert/strict";
import type { ReplicaRecovery } from "../../operator/api/v1alpha1/replica-recovery.ts";
import type { KubeObject } from "../../operator/kube/resources.ts";
import { KubeCluster } from "../support/kube-cluster.ts";
import { KubeStore } from "../support/kube-store.ts";

const RECOVERY = { cooldown: "0s" };

interface ContainerStatuses {
  readonly containerStatuses?: readonly { readonly restartCount: number }[];
}

interface ClaimSpec {
  readonly resources: { readonly requests: { readonly storage: string } };
}

describe("a store's life on a cluster", function () {
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

  async function start(spec: object = {}): Promise<KubeStore> {
    test = await KubeStore.create(cluster, spec);
    await test.load(20, 1_024);
    return test;
  }

  it("volumes grow where the class allows it: no pod is restarted, no write fails", async () => {
    const storageClassName = cluster.growingClass();
    const wal = { size: "1Gi", storageClassName };
    const spec = (size: string) => ({
      recovery: RECOVERY,
      storage: { data: { size, storageClassName }, wal },
    });
    const store = await start(spec("1Gi"));
    store.startWriting();
    const before = store.view.all("pod").map(podFacts);
    store.apply(spec("2Gi"));
    await store.until("the pods belong to another StatefulSet, and stay", () => {
      const pods = store.view.all("pod");
      const owners = new Set(before.map(({ owner }) => owner));
      const taken = pods.map(podFacts).filter(({ owner }) => owner !== "" && !owners.has(owner));
      return pods.length === 3 && taken.length === 3;
    });
    const sizes = store.view.all("claim").map(({ metadata, spec: claim }) => {
      return [metadata.name.split("-", 1)[0], (claim as ClaimSpec).resources.requests.storage];
    });
    const data = ["data", "2Gi"];
    assert.deepEqual(sizes, [data, data, data, ["wal", "1Gi"], ["wal", "1Gi"], ["wal", "1Gi"]]);
    const template = "{.spec.volumeClaimTemplates[*].spec.resources.requests.storage}";
    const asked = store.kubectl("get", "statefulset", "demo", "-o", `jsonpath=${template}`);
    assert.deepEqual(asked.split(" ").toSorted(), ["1Gi", "2Gi"]);
    await store.written(50);
    await store.proveNothingLost();
    assert.equal(store.givenUpWrites, 0);
    const same = ({ uid, restarts }: ReturnType<typeof podFacts>) => `${uid} ${restarts}`;
    assert.deepEqual(store.view.all("pod").map(podFacts).map(same), before.map(same));
  });

  it("with deletionPolicy Delete its volumes and records go with it", async () => {
    const store = await start({ recovery: RECOVERY, storage: { deletionPolicy: "Delete" } });
    // Returns when the object is gone, which waits for the rest.
    store.kubectl("delete", "rstore", "demo", "--timeout=120s");
    await store.until("nothing of it is left", () => {
      return (["pod", "claim", "shard"] as const).every(
        (kind) => store.view.all(kind).length === 0,
      );
    });
  });

  it("a rebuild is held while Paused, and in Manual until a person asks for it", async () => {
    const store = await start({ recovery: { ...RECOVERY, mode: "Paused" } });
    store.startWriting();
    const victim = store.follower();
    const uid = store.replicaUid(victim);
    const held = (): ReplicaRecovery | undefined =>
      store.recoveries(victim).find(({ status }) => status?.gate === "Paused");
    store.deleteVolumes(victim);
    const { status } = await store.until("it is held", held);
    assert.deepEqual([status?.phase, status?.reason], ["Deferred", "PVCReplaced"]);
    await store.written(50);
    store.apply({ recovery: { ...RECOVERY, mode: "Manual" } });
    await store.until("the operator knows of the other mode", () => {
      const { metadata, status: now } = store.store ?? {};
      return (
        store.store?.spec.recovery?.mode === "Manual" &&
        now?.observedGeneration === metadata?.generation
      );
    });
    await store.written(50);
    assert.ok(held() !== undefined);
    assert.equal(store.replicaUid(victim), uid, "nothing was done yet");
    const order = {
      apiVersion: "resilver.io/v1alpha1",
      kind: "ReplicaRecovery",
      metadata: { name: "go-on", namespace: store.namespace },
      spec: { storeName: "demo", rebuild: { pod: victim } },
    };
    cluster.kubectl(["apply", "-f", "-"], JSON.stringify(order));
    await store.rebuilt(victim, uid);
    await store.until("the order is answered", () => {
      return store.recoveries(victim).some(({ metadata, status: now }) => {
        return metadata.name === "go-on" && now?.phase === "Succeeded";
      });
    });
    await store.proveNothingLost();
  });

  it("made again without its StoreShard: RecordLost, and it goes on when that is back", async () => {
    const store = await start();
    const { storeId } = store.shard.spec;
    const { apiVersion, kind, metadata, spec } = store.shard;
    store.kubectl("delete", "rstore", "demo", "--timeout=60s");
    await store.until("the pods are gone", () => store.view.all("pod").length === 0);
    store.kubectl("delete", "rshard", "--all");
    store.apply({ recovery: RECOVERY });
    const { message } = await store.until("it is told", () =>
      store.store?.status?.conditions?.find(({ reason }) => reason === "RecordLost"),
    );
    assert.ok(message.includes(`holds data of it that store ${storeId} wrote`), message);
    assert.match(message, /; see runbooks\/conditions\/RecordLost\.md$/u);
    assert.equal(store.view.all("shard").length, 0, "no record is made over the data");
    const { name, namespace, labels } = metadata;
    const kept = { apiVersion, kind, metadata: { name, namespace, labels }, spec };
    const refused = store.view.all("pod").map(({ metadata: { uid } }) => uid);
    cluster.kubectl(["create", "-f", "-"], JSON.stringify(kept));
    await store.whole();
    // They were made for the other store: once it serves they are replaced one by one.
    await store.until("all pods are new", () => {
      const uids = store.view.all("pod").map(({ metadata: { uid } }) => uid);
      return uids.length === 3 && uids.every((uid) => !refused.includes(uid));
    });
    assert.equal(store.shard.spec.storeId, storeId);
    await store.proveNothingLost();
  });
});

/** What of a pod must not change. */
function podFacts({ metadata, status }: KubeObject) {
  const { ownerReferences } = metadata as { ownerReferences?: readonly { uid: string }[] };
  const { containerStatuses = [] } = (status ?? {}) as ContainerStatuses;
  return {
    uid: metadata.uid,
    owner: ownerReferences?.[0]?.uid ?? "",
    restarts: containerStatuses.map(({ restartCount }) => restartCount).join(),
  };
}
