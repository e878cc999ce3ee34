import assert from "node:assert/strict";
import { isFinished } from "../../../operator/api/v1alpha1/replica-recovery.ts";
import type { RecordMember } from "../../../operator/core/record.ts";
import type { BegunRecovery } from "../../../operator/kube/begun-recoveries.ts";
import { RecoveryObjects } from "../../../operator/kube/recovery-objects.ts";
import { KINDS, resourcePath } from "../../../operator/kube/resources.ts";
import { systemClock } from "../../../operator/local/system-clock.ts";
import { FakeApiServer } from "../../support/fake-api-server.ts";
import { RECORD } from "../api/v1alpha1/resources.ts";
import { clientOf } from "./kube-fixture.ts";
import { Look, OLD, POD, shards, statusOf } from "./recovery-look.ts";

const NEW_UID = "uid-NEWREPLICA";
const NEW_CLAIMS = { data: "data-NEWREPLICA", wal: "wal-NEWREPLICA" };
const VOTER = { uid: NEW_UID } as const;
const LEARNER = { uid: NEW_UID, role: "learner", voting: false, status: "NOT_MEMBER" } as const;

/** The coordinator's word that the pod's rebuild began. */
const BEGAN: BegunRecovery = {
  kind: "recoveryStarted",
  namespace: "default",
  shard: 0,
  node: POD,
  reason: "PVCReplaced",
  oldUid: "uid-OLD",
  newUid: NEW_UID,
};

describe("ReplicaRecovery objects of rebuilds that no look has seen", () => {
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

  /** It votes again, and the record says so, before anything of it was looked at. */
  function rebuiltUnseen(): void {
    const member: RecordMember = {
      node: POD,
      replicaUid: NEW_UID,
      role: "voter",
      ackedTerm: 4,
      pvcUids: NEW_CLAIMS,
    };
    look.claims = NEW_CLAIMS;
    look.records = [{ ...RECORD, members: [member] }];
    look.views = shards(VOTER);
    look.begun.saw(BEGAN);
  }

  const phases = async (): Promise<object> =>
    Object.fromEntries(
      (await look.reconcile()).map((one) => [one.metadata.name, statusOf(one).phase]),
    );

  it("one that began and ended between two looks is told of like any other", async () => {
    rebuiltUnseen();
    const [made, ...others] = await look.reconcile();
    assert.equal(others.length, 0);
    assert.equal(made?.metadata.name, "demo-1-wreplica");
    const { phase, reason, message, evidence, shards: rebuilt } = statusOf(made);
    assert.deepEqual([phase, reason, message], ["Succeeded", "PVCReplaced", "votes again"]);
    assert.deepEqual(evidence, {
      oldReplicaUid: "uid-OLD",
      newReplicaUid: NEW_UID,
      oldDataClaimUid: OLD.data,
      newDataClaimUid: NEW_CLAIMS.data,
      oldWalClaimUid: OLD.wal,
      newWalClaimUid: NEW_CLAIMS.wal,
      reportedBy: POD,
    });
    assert.deepEqual(
      rebuilt?.map(({ shard, newReplicaUid }) => [shard, newReplicaUid]),
      [[0, NEW_UID]],
    );
  });

  it("is told of once, whoever deletes what told of it", async () => {
    rebuiltUnseen();
    await look.reconcile();
    await look.reconcile();
    assert.deepEqual(look.begun.all(), []);
    server.remove(resourcePath(KINDS.recovery, "ns", "demo-1-wreplica"));
    assert.deepEqual(await look.reconcile(), []);
  });

  it("a person is told the old claims only where they are known", async () => {
    rebuiltUnseen();
    look.toldClaims = NEW_CLAIMS;
    const [made] = await look.reconcile();
    assert.equal(statusOf(made).evidence?.oldDataClaimUid, undefined);
    assert.equal(statusOf(made).evidence?.newDataClaimUid, NEW_CLAIMS.data);
  });

  it("an object that a claim alone gave rise to names the replica, and says that it votes", async () => {
    look.claims = NEW_CLAIMS;
    look.views = shards({ reach: "down" });
    await look.reconcile();
    rebuiltUnseen();
    const [ended, ...others] = await look.reconcile();
    assert.equal(others.length, 0);
    const { phase, message, evidence } = statusOf(ended);
    assert.deepEqual([phase, message], ["Succeeded", "votes again"]);
    assert.equal(evidence?.oldDataClaimUid, OLD.data);
    assert.equal(statusOf(ended).shards?.[0]?.newReplicaUid, NEW_UID);
  });

  it("a shard that was rebuilt unseen beside one that is being rebuilt has the same object", async () => {
    const second = { ...LEARNER, uid: "uid-SECOND", phase: "Transferring" };
    look.views = shards({ uid: "uid-OLD" }, second);
    await look.reconcile();
    look.views = shards(VOTER, second);
    look.begun.saw(BEGAN);
    assert.deepEqual(await phases(), { "demo-1-d-second": "Transferring" });
    look.views = shards(VOTER, { uid: "uid-SECOND" });
    const [ended] = await look.reconcile();
    assert.equal(statusOf(ended).phase, "Succeeded");
    assert.deepEqual(
      statusOf(ended).shards?.map(({ newReplicaUid }) => newReplicaUid),
      [NEW_UID, "uid-SECOND"],
    );
  });

  it("an order whose rebuild nobody saw is answered by what came of it", async () => {
    rebuiltUnseen();
    server.put(resourcePath(KINDS.recovery, "ns", "mend"), {
      apiVersion: KINDS.recovery.apiVersion,
      kind: KINDS.recovery.kind,
      metadata: { name: "mend", namespace: "ns" },
      spec: { storeName: "demo", rebuild: { pod: POD }, trigger: "Requested" },
      status: {},
    });
    assert.deepEqual(await phases(), { "demo-1-wreplica": "Succeeded", mend: "Succeeded" });
  });

  it("a replica that was wiped again, and rebuilt unseen, has an object of its own", async () => {
    look.views = shards(LEARNER);
    await look.reconcile();
    look.views = shards({ uid: "uid-THESECOND" });
    look.begun.saw({ ...BEGAN, newUid: "uid-THESECOND" });
    assert.deepEqual(await phases(), {
      "demo-1-wreplica": "Failed",
      "demo-1-hesecond": "Succeeded",
    });
    assert.ok(look.objects().every((one) => isFinished(statusOf(one).phase)));
  });

  it("what was wiped again, with no look between, is told of under its own name alone", async () => {
    const third = { ...LEARNER, uid: "uid-THETHIRD", role: "wiped" } as const;
    look.views = shards(third);
    look.begun.saw(BEGAN);
    const [made, ...others] = await look.reconcile();
    assert.equal(others.length, 0);
    assert.equal(made?.metadata.name, "demo-1-thethird");
    assert.equal(statusOf(made).evidence?.newReplicaUid, third.uid);
    assert.deepEqual(
      statusOf(made).shards?.map(({ newReplicaUid }) => newReplicaUid),
      [third.uid],
    );
  });

  it("a voter that was set back, and keeps its name, has one object from first to last", async () => {
    look.voted = new Map([["default/0", NEW_UID]]);
    look.views = shards(LEARNER);
    look.begun.saw({ ...BEGAN, reason: "RolledBack", oldUid: NEW_UID });
    await look.reconcile();
    await look.reconcile();
    look.views = shards({ ...LEARNER, phase: "Transferring" });
    await look.reconcile();
    look.views = shards(VOTER);
    assert.deepEqual(await phases(), { "demo-1-wreplica": "Succeeded" });
    await look.reconcile();
    assert.deepEqual(look.begun.all(), []);
  });
});
