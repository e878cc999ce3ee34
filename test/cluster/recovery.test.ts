/** The main job on a real cluster: a pod's claims are lost, and its replicas vote again. */
import assert from "node:assert/strict";
import { KubeCluster } from "../support/kube-cluster.ts";
import { KubeStore } from "../support/kube-store.ts";

/** Records to transfer, 16 MiB in all. */
const RECORDS = 256;
const RECORD_BYTES = 64 * 1024;
/** So slow that something can happen in the middle. */
const SLOW = { recovery: { cooldown: "0s", bandwidthLimit: "2Mi" } };
/** Replacements in a row; `RESILVER_REPLACEMENTS=20 npm run test:cluster -- --grep "in a row"`. */
const REPLACEMENTS = Number(process.env["RESILVER_REPLACEMENTS"] ?? 4);

describe("recovery on a cluster", function () {
  this.timeout(600_000);
  let cluster: KubeCluster;
  let test: KubeStore | null = null;

  before(function () {
    cluster = new KubeCluster(this);
    cluster.installOperator("--set", "nodeLoss.enabled=true");
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
    await test.load(RECORDS, RECORD_BYTES);
    test.startWriting();
    await test.written(50);
    return test;
  }

  for (const role of ["follower", "leader"] as const) {
    it(`a ${role}'s claims are replaced under load`, async () => {
      const store = await start();
      const victim = role === "leader" ? store.leader() : store.follower();
      const oldClaim = store.view.find("claim", `data-${victim}`)?.metadata.uid;
      const { status } = await store.replaceVolumes(victim);
      assert.equal(status?.reason, "PVCReplaced");
      assert.equal(status.evidence?.oldDataClaimUid, oldClaim);
      assert.equal(status.progress, "100%");
      assert.ok((status.bytesTotal ?? 0) >= RECORDS * RECORD_BYTES, JSON.stringify(status));
      const reasons = store.eventReasons(victim);
      assert.ok(reasons.includes("RecoveryStarted"), reasons.join());
      assert.ok(reasons.includes("RecoveryCompleted"), reasons.join());
      await store.written(50);
      await store.proveNothingLost();
    });
  }

  it(`${REPLACEMENTS} replacements in a row under load, follower and leader in turn`, async () => {
    const store = await start();
    for (let round = 0; round < REPLACEMENTS; round += 1) {
      await store.replaceVolumes(round % 2 === 0 ? store.follower() : store.leader());
    }
    await store.proveNothingLost();
  });

  it("a directory is emptied under an unchanged claim", async () => {
    const store = await start();
    const victim = store.follower();
    const uid = store.replicaUid(victim);
    store.emptyVolumes(victim);
    await store.rebuilt(victim, uid);
    const [recovery] = store.recoveries(victim);
    assert.equal(recovery?.status?.reason, "VolumeEmpty");
    await store.proveNothingLost();
  });

  it("claims are replaced, the directories are not: nothing is sent, it votes after a promotion", async () => {
    const store = await start();
    const victim = store.follower();
    const uid = store.replicaUid(victim);
    await store.replaceClaimsUnder(victim, null);
    const { status } = await store.until("the recovery succeeded", () =>
      store.recoveries(victim).find((one) => one.status?.phase === "Succeeded"),
    );
    assert.equal(status?.reason, "PVCReplaced");
    assert.equal(status?.bytesTotal ?? 0, 0, JSON.stringify(status));
    assert.equal(store.replicaUid(victim), uid, "the same replica, on trust no more");
    await store.proveNothingLost();
  });

  it("a directory is set back under new claims: caught, and brought up to date", async () => {
    const store = await start();
    const victim = store.follower();
    const copy = await store.copyVolumes(victim);
    await store.whole();
    await store.written(100);
    await store.replaceClaimsUnder(victim, copy, "person");
    const { status } = await store.until("the recovery succeeded", () =>
      store.recoveries(victim).find((one) => one.status?.phase === "Succeeded"),
    );
    assert.equal(status?.reason, "PVCReplaced");
    await store.proveNothingLost();
  });

  it("the claims are replaced again in the middle of the transfer", async () => {
    const store = await start(SLOW);
    const victim = store.follower();
    store.deleteVolumes(victim);
    await store.until("bytes arrive", () =>
      store.recoveries(victim).some(({ status }) => (status?.bytesDone ?? 0) > 0),
    );
    const second = store.replicaUid(victim);
    store.deleteVolumes(victim);
    await store.rebuilt(victim, second);
    await store.proveNothingLost();
  });

  it("the operator is killed in the middle of the transfer", async () => {
    const store = await start(SLOW);
    const victim = store.follower();
    const uid = store.replicaUid(victim);
    store.deleteVolumes(victim);
    await store.until("bytes arrive", () =>
      store.recoveries(victim).some(({ status }) => (status?.bytesDone ?? 0) > 0),
    );
    cluster.killOperator();
    await store.rebuilt(victim, uid);
    const phases = store.recoveries(victim).map(({ status }) => status?.phase);
    await store.until("one recovery, and it succeeded", () => {
      const [only, ...others] = store.recoveries(victim);
      return only?.status?.phase === "Succeeded" && others.length === 0;
    });
    assert.equal(phases.length, 1);
    await store.proveNothingLost();
  });

  it("a machine is lost with a pod's volumes: told, and replaced when that is asked for", async () => {
    // Claims that are bound only when their pod has a machine, as those of local disks are.
    const storageClassName = cluster.lateBindingClass();
    const volume = { size: "1Gi", storageClassName };
    const storage = { data: volume, wal: volume };
    const store = await start({ storage });
    const victim = store.follower();
    const uid = store.replicaUid(victim);
    const forget = await store.loseMachineUnder(victim);
    try {
      const why = await store.until("the store says what it waits for", () => {
        const { conditions = [] } = store.store?.status ?? {};
        return conditions.find(({ reason }) => reason === "NodeLost")?.message;
      });
      assert.match(why, /lost-machine \(gone\); to have the claims replaced set recovery/u);
      const recovery = { cooldown: "0s", onNodeLoss: "Replace", nodeLossGrace: "1s" };
      store.apply({ storage, recovery });
      await store.rebuilt(victim, uid);
    } finally {
      forget();
      cluster.kubectl(["delete", "storageclass", storageClassName]);
    }
    await store.proveNothingLost();
  });

  it("a second pod cannot be evicted while one is rebuilt", async () => {
    const store = await start(SLOW);
    const [victim = "", other = ""] = store.followers();
    const uid = store.replicaUid(victim);
    store.deleteVolumes(victim);
    await store.until("bytes arrive", () =>
      store.recoveries(victim).some(({ status }) => (status?.bytesDone ?? 0) > 0),
    );
    assert.equal(await store.evict(other), "refused");
    assert.equal(await store.evict(store.leader()), "refused");
    await store.rebuilt(victim, uid);
    await store.proveNothingLost();
  });

  it("both followers' claims are replaced at once", async () => {
    const store = await start();
    const victims = store.followers().map((pod) => ({ pod, uid: store.replicaUid(pod) }));
    for (const { pod } of victims) store.deleteVolumes(pod);
    for (const { pod, uid } of victims) await store.rebuilt(pod, uid);
    await store.proveNothingLost();
  });

  it("a leader's and a follower's claims are replaced: QuorumLost, until a person forces one", async () => {
    const store = await start();
    // Nothing is on its way any more: the survivor holds all that was acknowledged.
    const offset = await store.proveNothingLost();
    const survivor = store.followers()[1] ?? "";
    const lost = [store.leader(), store.follower()];
    const term = store.shard.spec.term;
    for (const pod of lost) store.deleteVolumes(pod);
    const available = await store.until("QuorumLost", () =>
      store.store?.status?.conditions?.find(
        ({ type, reason }) => type === "Available" && reason === "QuorumLost",
      ),
    );
    assert.equal(available.status, "False");
    assert.match(available.message, /order a forced quorum of one survivor/);
    assert.ok(available.message.includes(survivor), available.message);
    const { members } = store.shard.spec;
    assert.ok(members.some(({ node, role }) => node === survivor && role === "voter"));
    assert.ok(store.shard.spec.term >= term);

    const running = await store.forceQuorum(survivor, "lose everything after offset 0");
    assert.equal(running.status?.phase, "Rejected");
    assert.match(running.status.message ?? "", /^stop first/u);
    const untouched = store.pod(survivor)?.metadata.uid;
    await store.onHold(lost, async () => {
      const wrong = await store.forceQuorum(survivor, "lose everything after offset 0");
      const phrase = /must be exactly "(.*)"/u.exec(wrong.status?.message ?? "")?.[1] ?? "";
      assert.match(phrase, /^lose everything after offset \d+$/u, wrong.status?.message);
      assert.ok(Number(phrase.split(" ").at(-1)) >= offset, `${phrase}, applied: ${offset}`);
      const forced = await store.forceQuorum(survivor, phrase);
      assert.equal(forced.status?.phase, "Succeeded", forced.status?.message);
    });
    await store.whole();
    assert.equal(store.pod(survivor)?.metadata.uid, untouched, "it never had to go");
    await store.proveNothingLost();
  });
});
