import assert from "node:assert/strict";
import type { ReplicaRecoveryStatus } from "../../../operator/api/v1alpha1/replica-recovery.ts";
import type { RecordMember } from "../../../operator/core/record.ts";
import { isOwnedBy } from "../../../operator/kube/applied-objects.ts";
import { RecoveryObjects } from "../../../operator/kube/recovery-objects.ts";
import { KINDS, type KubeObject, resourcePath } from "../../../operator/kube/resources.ts";
import { systemClock } from "../../../operator/local/system-clock.ts";
import { FakeApiServer } from "../../support/fake-api-server.ts";
import { RECORD } from "../api/v1alpha1/resources.ts";
import { replicaView, shardViewOf } from "../local/status-fixture.ts";
import { clientOf } from "./kube-fixture.ts";

import { Look, OLD, POD, shards, statusOf } from "./recovery-look.ts";

const WIPED = {
  uid: "uid-NEWREPLICA",
  role: "wiped",
  voting: false,
  status: "NOT_MEMBER",
} as const;
const LEARNER = { ...WIPED, role: "learner" } as const;

describe("ReplicaRecovery objects", () => {
  let server: FakeApiServer;
  let look: Look;
  let close: () => void;

  beforeEach(async () => {
    server = await FakeApiServer.start();
    const { client, transport } = clientOf(server);
    close = () => transport.close();
    look = new Look(server, new RecoveryObjects(client, systemClock));
  });
  afterEach(async () => {
    close();
    await server.close();
  });

  it("none while everything votes on the claims that are known", async () => {
    assert.deepEqual(await look.reconcile(), []);
  });

  it("a claim that is another one is told at once, and one object goes on to the end", async () => {
    look.claims = { ...OLD, data: "claim-of-12345678" };
    look.views = shards({ reach: "down" });
    const [made, ...others] = await look.reconcile();
    assert.equal(others.length, 0);
    assert.equal(made?.metadata.name, "demo-1-12345678");
    assert.deepEqual(
      [statusOf(made).phase, statusOf(made).reason, statusOf(made).evidence?.newDataClaimUid],
      ["Detected", "PVCReplaced", "claim-of-12345678"],
    );
    assert.match(statusOf(made).message ?? "", /volume claim is another one/u);

    look.views = shards(WIPED);
    const reported = await look.reconcile();
    assert.equal(reported.length, 1, "what the pod reports belongs to the same object");
    assert.equal(statusOf(reported[0]).evidence?.newReplicaUid, "uid-NEWREPLICA");
    look.views = shards({ ...LEARNER, phase: "CatchingUp" });
    assert.equal(statusOf((await look.reconcile())[0]).phase, "CatchingUp");
    look.views = shards({ uid: "uid-NEWREPLICA" });
    const ended = await look.reconcile();
    assert.deepEqual([ended.length, statusOf(ended[0]).phase], [1, "Succeeded"]);
    assert.equal(statusOf(ended[0]).reason, "PVCReplaced");
    assert.equal((await look.reconcile()).length, 1, "and it is not told again");
  });

  it("one is made of a rebuild though its own watch is late", async () => {
    look.claims = { ...OLD, data: "claim-of-12345678" };
    look.views = shards({ reach: "down" });
    look.stale = [];
    await look.announce();
    look.views = shards(WIPED);
    await look.announce();
    const seen = await look.reconcile();
    assert.deepEqual(
      seen.map(({ metadata }) => metadata.name),
      ["demo-1-12345678"],
      "not another one under the name of the replica",
    );
    look.stale = null;
    await look.reconcile();
    assert.equal(look.objects().length, 1);
    look.views = shards({ uid: WIPED.uid });
    assert.equal(statusOf((await look.reconcile())[0]).phase, "Succeeded");
    look.views = shards({ ...WIPED, uid: "uid-WIPEDAGAIN" });
    assert.equal((await look.reconcile()).length, 2, "another rebuild has its own");
  });

  it("in between it only makes objects: an order waits for the whole look", async () => {
    look.views = shards(WIPED);
    forceQuorum();
    const objects = await look.announce();
    assert.equal(objects.length, 2);
    assert.deepEqual(look.orders, []);
    await look.reconcile();
    assert.equal(look.orders.length, 1);
  });

  it("goes with its store, and is looked at again before its time is over", async () => {
    look.views = shards(WIPED);
    const [made] = await look.reconcile();
    assert.ok(isOwnedBy(made ?? assert.fail(), "u"));
    await look.reconcile();
    assert.equal(look.dueMs, 1_000, "while it is open");
    look.views = shards({ uid: WIPED.uid });
    await look.reconcile();
    await look.reconcile();
    const week = 7 * 24 * 3_600_000;
    assert.ok(look.dueMs > week - 60_000 && look.dueMs <= week, `${look.dueMs}`);
  });

  it("a pod that goes for good with its new claim, before it said anything: failed", async () => {
    look.claims = { ...OLD, data: "claim-of-12345678" };
    look.views = shards({ reach: "down" });
    await look.reconcile();
    look.isThere = false;
    look.views = [shardViewOf([])];
    assert.equal(statusOf((await look.reconcile())[0]).phase, "Detected", "it may come back");
    look.replicas = 1;
    const [gone] = await look.reconcile();
    assert.equal(statusOf(gone).phase, "Failed");
    assert.match(statusOf(gone).message ?? "", /no longer wanted/u);
  });

  it("a second rebuild's rate counts nothing of the first one's", async () => {
    look.views = shards({
      ...LEARNER,
      phase: "Transferring",
      bytesDone: 2 ** 20,
      bytesTotal: 2 ** 30,
    });
    await look.reconcile();
    look.views = shards({ uid: LEARNER.uid });
    await look.reconcile();
    await look.reconcile();
    const uid = "uid-THESECOND";
    look.views = shards({
      ...LEARNER,
      uid,
      phase: "Transferring",
      bytesDone: 2 ** 29,
      bytesTotal: 2 ** 30,
    });
    const objects = await look.reconcile();
    const second = objects.find(({ metadata }) => metadata.name === "demo-1-hesecond");
    assert.equal(statusOf(second).phase, "Transferring");
    assert.equal(statusOf(second).rate, undefined);
  });

  it("a last word of the pod that is gone is not taken for a replica of the new one", async () => {
    look.claims = { ...OLD, data: "claim-of-12345678" };
    // Its stream has not ended yet: it still votes under its name, on a claim that is new.
    look.voted = new Map([["default/0", "uid-THEOLDONE"]]);
    look.views = shards({ uid: "uid-THEOLDONE", voting: false, phase: "Deferred(StaleView)" });
    const [made] = await look.reconcile();
    assert.equal(statusOf(made).evidence?.newReplicaUid, undefined);
    look.views = shards(LEARNER);
    assert.equal(statusOf((await look.reconcile())[0]).phase, "Enrolled");
    look.views = shards({ uid: LEARNER.uid });
    const ended = await look.reconcile();
    assert.deepEqual([ended.length, statusOf(ended[0]).phase], [1, "Succeeded"]);
    assert.equal(statusOf(ended[0]).evidence?.newReplicaUid, LEARNER.uid);
  });

  it("seen late, with the new claim and what it holds at once: still one object", async () => {
    look.claims = { ...OLD, data: "claim-of-12345678" };
    look.views = shards(WIPED);
    await look.reconcile();
    const objects = await look.reconcile();
    assert.deepEqual([objects.length, statusOf(objects[0]).reason], [1, "PVCReplaced"]);
  });

  it("a pod whose first shard is done goes on under the same object", async () => {
    const second = { ...LEARNER, uid: "uid-SECOND", phase: "Transferring" };
    look.views = shards(LEARNER, second);
    await look.reconcile();
    look.views = shards({ uid: LEARNER.uid }, second);
    const objects = await look.reconcile();
    assert.deepEqual([objects.length, statusOf(objects[0]).phase], [1, "Transferring"]);
    look.views = shards({ uid: LEARNER.uid }, { uid: "uid-SECOND" });
    assert.equal(statusOf((await look.reconcile())[0]).phase, "Succeeded");
  });

  it("wiped again: the first object says so and ends, another one goes on", async () => {
    look.views = shards(LEARNER);
    await look.reconcile();
    look.views = shards({ ...WIPED, uid: "uid-THETHIRD" });
    await look.reconcile();
    const objects = await look.reconcile();
    const phases = new Map(objects.map((one) => [one.metadata.name, statusOf(one)]));
    assert.equal(phases.get("demo-1-wreplica")?.phase, "Failed");
    assert.match(phases.get("demo-1-wreplica")?.message ?? "", /wiped again before it voted/u);
    assert.equal(phases.get("demo-1-thethird")?.phase, "Detected");
  });

  it("a rebuild that a person ordered may begin, and the order ends with it", async () => {
    put("mend", {});
    const mend = (): ReplicaRecoveryStatus =>
      statusOf(look.objects().find(({ metadata }) => metadata.name === "mend"));
    look.views = shards({ ...WIPED, phase: "Deferred(Paused)" });
    await look.reconcile();
    assert.deepEqual([look.ordered, mend().phase], [[WIPED.uid], "Deferred"]);
    look.views = shards({ ...LEARNER, phase: "Transferring" });
    await look.reconcile();
    assert.equal(mend().phase, "Transferring");
    look.views = shards({ uid: WIPED.uid });
    await look.reconcile();
    assert.equal(mend().phase, "Succeeded");
    await look.reconcile();
    assert.deepEqual(look.ordered, [], "the next loss needs an order of its own");
  });

  it("an order for a voter on another claim is kept until the record has it learn", async () => {
    put("mend", {});
    const mend = (): ReplicaRecoveryStatus =>
      statusOf(look.objects().find(({ metadata }) => metadata.name === "mend"));
    const member = { node: POD, replicaUid: "uid-SAME", role: "voter", ackedTerm: 4 } as const;
    const recorded = (change: Partial<RecordMember>): void => {
      look.records = [{ ...RECORD, members: [{ ...member, ...change }] }];
    };
    const uid = member.replicaUid;
    recorded({ lastRecoveryAtMs: 1 });
    look.voted = new Map([["default/0", uid]]);
    look.claims = { ...OLD, data: "claim-of-12345678" };
    look.views = shards({ uid, phase: "Deferred(Paused)", reason: "PVCReplaced" });
    // The gate is open: it looks like any voter until the coordinator has saved its next step.
    look.opened = shards({ uid });
    for (const _look of [1, 2, 3]) {
      await look.reconcile();
      assert.deepEqual([look.ordered, mend().phase], [[uid], "Deferred"]);
    }
    assert.match(mend().message ?? "", /^may be rebuilt; /u);
    look.opened = null;
    recorded({ role: "learner", lastRecoveryAtMs: systemClock.nowMs() });
    look.views = shards({ uid, role: "learner", voting: false, phase: "CatchingUp" });
    await look.reconcile();
    assert.deepEqual([look.ordered, mend().phase], [[uid], "CatchingUp"]);
    look.views = shards({ uid });
    recorded({ lastRecoveryAtMs: systemClock.nowMs() });
    await look.reconcile();
    assert.deepEqual([look.ordered, mend().phase], [[], "Succeeded"]);
  });

  it("an order that was done between two looks ends with the record", async () => {
    const uid = "uid-SAME";
    server.put(`${resourcePath(KINDS.recovery, "ns")}/mend`, {
      apiVersion: KINDS.recovery.apiVersion,
      kind: KINDS.recovery.kind,
      metadata: { name: "mend", namespace: "ns" },
      spec: { storeName: "demo", rebuild: { pod: POD }, trigger: "Requested" },
      status: {
        phase: "Deferred",
        startedAt: "2026-01-01T00:00:00Z",
        shards: [{ namespace: "default", shard: 0, phase: "Deferred" }],
      },
    });
    const lastRecoveryAtMs = Date.parse("2026-01-01T00:00:02Z");
    const members = [
      { node: POD, replicaUid: uid, role: "voter", ackedTerm: 4, lastRecoveryAtMs },
    ] as const;
    look.records = [{ ...RECORD, members }];
    look.views = shards({ uid });
    const [done] = await look.reconcile();
    assert.deepEqual([look.ordered, statusOf(done).phase], [[], "Succeeded"]);
  });

  it("a rebuild of what votes is refused, and says what to do instead", async () => {
    put("mend", {});
    const [refused] = await look.reconcile();
    assert.equal(statusOf(refused).phase, "Rejected");
    assert.match(
      statusOf(refused).message ?? "",
      /only while `kubectl get rshard` shows VOTERS n\/n .*, delete the pod's claims, then the pod$/u,
    );
    assert.deepEqual(look.ordered, []);
  });

  it("a rebuild of a pod that the store has not is refused, and names those it has", async () => {
    put("mend", { spec: { storeName: "demo", rebuild: { pod: "demo-7" } } });
    const [refused] = await look.reconcile();
    assert.equal(statusOf(refused).phase, "Rejected");
    assert.equal(
      statusOf(refused).message,
      "spec.rebuild.pod is demo-7; allowed: a pod of store demo, which has demo-0, demo-1, demo-2",
    );
    // One that is too many still has a replica.
    look.views = [shardViewOf([replicaView("demo-7", { ...WIPED, phase: "Deferred(Paused)" })])];
    put("mend", { spec: { storeName: "demo", rebuild: { pod: "demo-7" } } });
    const objects = await look.reconcile();
    const mend = objects.find(({ metadata }) => metadata.name === "mend");
    assert.equal(statusOf(mend).phase, "Deferred");
  });

  it("where the mode is Manual the rebuild that waits says how it is ordered", async () => {
    look.mode = "Manual";
    look.views = shards({ ...WIPED, phase: "Deferred(Paused)" });
    const [made] = await look.reconcile();
    assert.equal(statusOf(made).gate, "Paused");
    assert.match(
      statusOf(made).message ?? "",
      /mode of the store is Manual: .* spec \{ storeName: demo, rebuild: \{ pod: demo-1 \} \}; see/u,
    );
    look.mode = "Paused";
    assert.match(
      statusOf((await look.reconcile())[0]).message ?? "",
      /^waits for the gate Paused,/u,
    );
  });

  /** An object of a store called `demo`; its status as `status`. */
  function put(name: string, change: object, status: object = {}): void {
    server.put(`${resourcePath(KINDS.recovery, "ns")}/${name}`, {
      apiVersion: KINDS.recovery.apiVersion,
      kind: KINDS.recovery.kind,
      metadata: { name, namespace: "ns" },
      spec: { storeName: "demo", rebuild: { pod: POD }, trigger: "Requested" },
      status,
      ...change,
    });
  }

  it("an order for a store that there is not is refused, and kept for its time", async () => {
    const ttlSecondsAfterFinished = 60;
    put("mend", { spec: { storeName: "demo", rebuild: { pod: POD }, ttlSecondsAfterFinished } });
    const [refused] = await look.withoutStore();
    assert.equal(statusOf(refused).phase, "Rejected");
    assert.match(
      statusOf(refused).message ?? "",
      /^spec\.storeName is demo; allowed: the name of a ReplicatedStore in namespace ns, where/u,
    );
    assert.equal(look.dueMs, 1_000);
    assert.equal((await look.withoutStore()).length, 1);
    assert.ok(look.dueMs > 1_000 && look.dueMs <= 60_000, `${look.dueMs}`);
    const finishedAt = "2026-01-01T00:00:00Z";
    put("mend", { ...refused, status: { ...statusOf(refused), finishedAt } });
    assert.deepEqual(await look.withoutStore(), []);
    await look.withoutStore();
    assert.equal(look.dueMs, Number.POSITIVE_INFINITY);
  });

  it("but not when the store was only not told of yet", async () => {
    put("mend", {});
    server.put(resourcePath(KINDS.store, "ns", "demo"), { metadata: {} });
    const [waits] = await look.withoutStore();
    assert.deepEqual([statusOf(waits).phase, look.dueMs], [undefined, 1_000]);
  });

  for (const phase of ["Succeeded", "Failed"]) {
    it(`an order that a store carried out goes when the store is gone (${phase})`, async () => {
      put("mend", {}, { phase, finishedAt: new Date(systemClock.nowMs()).toISOString() });
      server.put(resourcePath(KINDS.store, "ns", "demo"), { metadata: {} });
      assert.equal((await look.withoutStore()).length, 1, "it was only not told of yet");
      server.remove(resourcePath(KINDS.store, "ns", "demo"));
      assert.deepEqual(await look.withoutStore(), []);
    });
  }

  it("what was seen of a store that is gone ends; what it owned goes by itself", async () => {
    const spec = { storeName: "demo", rebuild: { pod: POD }, trigger: "Detected" };
    const ownerReferences = [{ uid: "u" }];
    put("owned", { spec, metadata: { ownerReferences } }, { phase: "Detected" });
    put("older", { spec }, { phase: "Transferring", progress: "30%" });
    const phases = new Map(
      (await look.withoutStore()).map((one) => [one.metadata.name, statusOf(one).phase]),
    );
    assert.deepEqual(Object.fromEntries(phases), { owned: "Detected", older: "Failed" });
  });

  const ORDER = `${resourcePath(KINDS.recovery, "ns")}/order`;

  /** A person's order to go on with one survivor, and the object as it was made. */
  function forceQuorum(status: object = {}): KubeObject {
    const acknowledgeDataLoss = "lose everything after offset 7";
    const shard = { namespace: "default", shard: 0 };
    const order = { shard, survivor: POD, acknowledgeDataLoss };
    const made = server.put(ORDER, {
      apiVersion: KINDS.recovery.apiVersion,
      kind: KINDS.recovery.kind,
      metadata: { name: "order", namespace: "ns" },
      spec: { storeName: "demo", forceQuorum: order, trigger: "Requested" },
      status,
    });
    return structuredClone(made) as unknown as KubeObject;
  }

  it("an order that cannot be carried out is refused with the reason", async () => {
    forceQuorum();
    look.refusal = new RangeError("survivor: demo-1: the other pods are not gone");
    const [refused] = await look.reconcile();
    assert.deepEqual(
      [statusOf(refused).phase, statusOf(refused).message],
      ["Rejected", "survivor: demo-1: the other pods are not gone"],
    );
    await look.reconcile();
    assert.equal(look.orders.length, 1, "an order that ended is not carried out again");
  });

  it("an order that was carried out is not judged again by what the watch told before", async () => {
    look.stale = [forceQuorum()];
    const [done] = await look.reconcile();
    assert.equal(statusOf(done).phase, "Succeeded");
    look.refusal = new RangeError("acknowledgeDataLoss: must be exactly ... 8");
    const [still] = await look.reconcile();
    assert.deepEqual([statusOf(still), look.orders.length], [statusOf(done), 1]);
  });

  it("an order that its author took back is not carried out, nor another one of its name", async () => {
    look.stale = [forceQuorum()];
    server.remove(ORDER);
    await look.reconcile();
    forceQuorum();
    await look.reconcile();
    const gone = look.objects()[0];
    server.put(ORDER, {
      ...gone,
      metadata: { ...gone?.metadata, deletionTimestamp: "2026-01-01T00:00:00Z" },
    });
    look.stale = gone === undefined ? [] : [gone];
    await look.reconcile();
    assert.deepEqual(look.orders, []);
  });

  it("an order that changes while it is begun is left for the next look", async () => {
    forceQuorum();
    server.fault = ({ method, path }) => {
      if (method === "PATCH" && path === `${ORDER}/status`) {
        server.fault = () => undefined;
        server.put(ORDER, { ...server.get(ORDER), status: { phase: "Succeeded" } });
      }
      return undefined;
    };
    const [other] = await look.reconcile();
    assert.deepEqual([statusOf(other).phase, look.orders], ["Succeeded", []]);
  });

  it("a killed operator's successor finds the deed in the record, not in what it saw", async () => {
    forceQuorum({ phase: "Enrolled" });
    const spec = { storeName: "demo", ...RECORD, ensemble: [POD] };
    const metadata = { name: "demo.default.0", namespace: "ns" };
    const { apiVersion, kind } = KINDS.shard;
    server.put(resourcePath(KINDS.shard, "ns", metadata.name), {
      apiVersion,
      kind,
      metadata,
      spec,
    });
    const [done] = await look.reconcile();
    assert.deepEqual([statusOf(done).phase, look.orders], ["Succeeded", []]);
  });
});
