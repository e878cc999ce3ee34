import assert from "node:assert/strict";
import { RecordConflict } from "../../../operator/controller/ports.ts";
import { RecordInvalid, type ShardRecord } from "../../../operator/core/record.ts";
import type { ApiClient } from "../../../operator/kube/api-client.ts";
import type { ApiTransport } from "../../../operator/kube/api-transport.ts";
import { KubeRecordStore } from "../../../operator/kube/record-store.ts";
import { FakeApiServer, type Stored } from "../../support/fake-api-server.ts";
import { RECORD } from "../api/v1alpha1/resources.ts";
import { call, clientOf } from "./kube-fixture.ts";

const PATH = "/apis/resilver.io/v1alpha1/namespaces/ns/storeshards/demo.default.0";
const KEY = { namespace: "default", shard: 0 };
const { signal } = call();

describe("records in StoreShards", () => {
  let server: FakeApiServer;
  let client: ApiClient;
  let transport: ApiTransport;
  let records: KubeRecordStore;

  beforeEach(async () => {
    server = await FakeApiServer.start();
    ({ client, transport } = clientOf(server));
    records = new KubeRecordStore(client, "ns", "demo");
  });
  afterEach(async () => {
    transport.close();
    await server.close();
  });

  const raised = (generation: number): ShardRecord => ({ ...RECORD, generation });
  const stored = (): Stored => server.get(PATH) as Stored;
  /** What another writer of the object does. */
  const touch = (part: "spec" | "status" | "labels"): void => {
    const object = structuredClone(stored());
    if (part === "spec") object["spec"] = { ...(object["spec"] as object), generation: 99 };
    if (part === "status") object["status"] = { voters: "3/3" };
    if (part === "labels") object.metadata.labels = { ...object.metadata.labels, theirs: "x" };
    server.put(PATH, object);
  };

  it("none, made, read back and replaced", async () => {
    assert.equal(await records.read(KEY, signal), null);
    const made = await records.create(RECORD, signal);
    assert.deepEqual(made.record, RECORD);
    assert.deepEqual(await records.read(KEY, signal), made);
    const next = await records.replace(raised(8), made.version, signal);
    assert.notEqual(next.version, made.version);
    assert.equal((await records.read(KEY, signal))?.record.generation, 8);
    assert.equal(stored().metadata.labels?.["resilver.io/store"], "demo");
    assert.equal(stored().metadata["ownerReferences"], undefined, "it outlives its store");
  });

  it("a second one of the same name is a conflict", async () => {
    await records.create(RECORD, signal);
    await assert.rejects(records.create(RECORD, signal), RecordConflict);
  });

  it("another coordinator's change is a conflict", async () => {
    const made = await records.create(RECORD, signal);
    touch("spec");
    await assert.rejects(records.replace(raised(8), made.version, signal), RecordConflict);
    assert.equal((stored()["spec"] as ShardRecord).generation, 99);
  });

  for (const part of ["status", "labels"] as const) {
    it(`a change of the ${part} in between is none, and is kept`, async () => {
      const made = await records.create(RECORD, signal);
      touch(part);
      await records.replace(raised(8), made.version, signal);
      assert.equal((stored()["spec"] as ShardRecord).generation, 8);
      if (part === "labels") assert.equal(stored().metadata.labels?.["theirs"], "x");
      else assert.deepEqual(stored()["status"], { voters: "3/3" });
    });
  }

  it("a record that was deleted, or deleted and made again, is a conflict", async () => {
    const made = await records.create(RECORD, signal);
    server.remove(PATH);
    await assert.rejects(records.replace(raised(8), made.version, signal), RecordConflict);
    await records.create(RECORD, signal);
    await assert.rejects(records.replace(raised(8), made.version, signal), RecordConflict);
  });

  it("a save whose answer was lost is not done twice", async () => {
    const made = await records.create(RECORD, signal);
    server.fault = ({ method }) => (method === "PUT" ? { kind: "afterwards" } : undefined);
    await assert.rejects(records.replace(raised(8), made.version, signal), {
      name: "ApiUnreachable",
    });
    server.fault = () => undefined;
    await assert.rejects(records.replace(raised(8), made.version, signal), RecordConflict);
    assert.equal((await records.read(KEY, signal))?.record.generation, 8);
  });

  it("a record that cannot be believed names the field; one is never written", async () => {
    await records.create(RECORD, signal);
    const object = structuredClone(stored());
    const put = (change: object): void => {
      server.put(PATH, { ...object, spec: { ...(object["spec"] as object), ...change } });
    };
    put({ term: "four" });
    await assert.rejects(records.read(KEY, signal), (error) => {
      assert.ok(error instanceof RecordInvalid);
      assert.equal(error.field, "spec.term");
      return true;
    });
    put({ storeName: "other" });
    await assert.rejects(records.read(KEY, signal), { name: "RecordInvalid", field: "storeName" });
    put({ shard: 1 });
    await assert.rejects(records.read(KEY, signal), { name: "RecordInvalid", field: "shard" });
    const bad = { ...RECORD, shard: 1, ensemble: ["a", "a"] };
    await assert.rejects(records.create(bad, signal), { name: "RecordInvalid" });
    assert.equal(server.list("/apis/resilver.io/v1alpha1/storeshards").length, 1);
  });
});
