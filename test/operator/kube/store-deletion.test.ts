import assert from "node:assert/strict";
import { parseReplicatedStore } from "../../../operator/api/v1alpha1/validation.ts";
import {
  DELETE_DATA_FINALIZER,
  endStore,
  type FinalizerReport,
  settleFinalizer,
} from "../../../operator/kube/store-deletion.ts";
import { PersonNeeded } from "../../../operator/kube/person-needed.ts";
import { KINDS, type KubeObject, resourcePath } from "../../../operator/kube/resources.ts";
import { selectorLabels, STORE_LABEL } from "../../../operator/specs/labels.ts";
import { FakeApiServer, type Stored } from "../../support/fake-api-server.ts";
import { call, clientOf } from "./kube-fixture.ts";

const STORE = resourcePath(KINDS.store, "ns", "demo");
const SET = resourcePath(KINDS.statefulSet, "ns", "demo");
const POD = resourcePath(KINDS.pod, "ns", "demo-0");
const CLAIM = resourcePath(KINDS.claim, "ns", "data-demo-0");
const SHARD = resourcePath(KINDS.shard, "ns", "demo.default.0");
const ORDER = resourcePath(KINDS.recovery, "ns", "mend");
const OTHERS = resourcePath(KINDS.recovery, "ns", "of-another-store");

describe("the end of a store", () => {
  let server: FakeApiServer;
  let close: () => void;
  let end: (object: KubeObject) => Promise<boolean>;

  beforeEach(async () => {
    server = await FakeApiServer.start();
    const { client, transport } = clientOf(server);
    close = () => transport.close();
    end = (object) => endStore(client, object, call().signal);
  });
  afterEach(async () => {
    close();
    await server.close();
  });

  /** A store that is being deleted, with one pod. Its object, as it was when it came. */
  function deleted(spec: object = { storage: { deletionPolicy: "Delete" } }): KubeObject {
    const store = server.put(STORE, {
      apiVersion: KINDS.store.apiVersion,
      kind: KINDS.store.kind,
      metadata: {
        finalizers: [DELETE_DATA_FINALIZER, "other/finalizer"],
        deletionTimestamp: "2026-01-01T00:00:00Z",
      },
      spec,
    });
    const labels = selectorLabels("demo");
    const ownerReferences = [{ uid: store.metadata.uid }];
    server.put(SET, { metadata: { labels, ownerReferences } });
    server.put(POD, { metadata: { labels } });
    server.put(CLAIM, { metadata: { labels } });
    server.put(SHARD, { metadata: { labels: { [STORE_LABEL]: "demo" } } });
    // People's have no labels.
    server.put(ORDER, { metadata: {}, spec: { storeName: "demo" } });
    server.put(OTHERS, { metadata: {}, spec: { storeName: "other" } });
    return structuredClone(store) as unknown as KubeObject;
  }

  const change = (spec: object): Stored => server.put(STORE, { ...server.get(STORE), spec });
  const left = () =>
    [SET, POD, CLAIM, SHARD, ORDER].filter((path) => server.get(path) !== undefined).length;
  const finalizers = () => server.get(STORE)?.metadata.finalizers;

  it("takes everything with it where the policy is Delete, volumes after pods", async () => {
    const cached = deleted();
    assert.equal(await end(cached), false);
    assert.deepEqual([server.get(SET), left()], [undefined, 4]);
    server.remove(POD);
    assert.equal(await end(cached), true);
    assert.deepEqual([left(), finalizers()], [0, ["other/finalizer"]]);
    assert.ok(server.get(OTHERS) !== undefined);
  });

  it("leaves everything when a person has set Retain since it was seen", async () => {
    const cached = deleted();
    change({ storage: { deletionPolicy: "Retain" } });
    assert.equal(await end(cached), true);
    assert.deepEqual([left(), finalizers()], [5, ["other/finalizer"]]);
  });

  it("keeps volumes and records when Retain is set while the pods end", async () => {
    const cached = deleted();
    assert.equal(await end(cached), false);
    change({ storage: { deletionPolicy: "Retain" } });
    server.remove(POD);
    assert.equal(await end(cached), true);
    assert.deepEqual([left(), finalizers()], [3, ["other/finalizer"]]);
  });

  it("keeps them also when it is set between the lists and the deletion", async () => {
    const cached = deleted();
    server.remove(POD);
    server.fault = ({ method, path }) => {
      if (method === "GET" && path === resourcePath(KINDS.shard, "ns")) {
        change({ storage: { deletionPolicy: "Retain" } });
      }
      return undefined;
    };
    assert.equal(await end(cached), false);
    assert.equal(await end(cached), true);
    assert.deepEqual([left(), finalizers()], [3, ["other/finalizer"]]);
  });

  it("touches nothing of a namesake that was made since", async () => {
    const cached = deleted();
    for (const path of [STORE, SET, POD, CLAIM, SHARD, ORDER]) server.remove(path);
    deleted();
    assert.equal(await end(cached), true);
    assert.deepEqual([left(), finalizers()?.length], [5, 2]);
  });

  it("deletes no StatefulSet of another owner, and no volume before a person has looked", async () => {
    const cached = deleted();
    const labels = selectorLabels("demo");
    server.put(SET, { metadata: { labels, ownerReferences: [{ uid: "another" }] } });
    await assert.rejects(end(cached), (error) => {
      assert.ok(error instanceof PersonNeeded);
      assert.match(error.message, /StatefulSet demo does not belong to this store/u);
      return error.reason === "ObjectTaken";
    });
    assert.equal(left(), 5);
  });

  it("deletes nothing while the spec cannot be read, and says so", async () => {
    const cached = deleted();
    change({ replicas: 0, storage: { deletionPolicy: "Delete" } });
    await assert.rejects(end(cached), (error) => {
      assert.ok(error instanceof PersonNeeded);
      assert.match(error.message, /replicas.*; nothing is deleted while the spec cannot be read/u);
      return error.reason === "SpecInvalid";
    });
    assert.equal(left(), 5);
    // The way out that it names.
    change({ replicas: 0, storage: { deletionPolicy: "Retain" } });
    assert.equal(await end(cached), true);
    assert.equal(left(), 5);
  });
});

describe("the finalizer of a store", () => {
  let server: FakeApiServer;
  let close: () => void;
  let settle: (begun: boolean) => Promise<FinalizerReport>;

  beforeEach(async () => {
    server = await FakeApiServer.start();
    const { client, transport } = clientOf(server);
    close = () => transport.close();
    settle = async (begun) => {
      const object = structuredClone(server.get(STORE)) as unknown as KubeObject;
      const store = parseReplicatedStore(object);
      return await settleFinalizer(client, { store, object, begun }, call().signal);
    };
  });
  afterEach(async () => {
    close();
    await server.close();
  });

  function store(deletionPolicy: string, finalizers: readonly string[] = []): void {
    const { apiVersion, kind } = KINDS.store;
    const metadata = { finalizers: [...finalizers, "other/finalizer"] };
    server.put(STORE, { apiVersion, kind, metadata, spec: { storage: { deletionPolicy } } });
  }
  const finalizers = () => server.get(STORE)?.metadata.finalizers;
  const refuse = (status: number): void => {
    server.fault = ({ method }) => (method === "PATCH" ? { kind: "status", status } : undefined);
  };
  const settled: FinalizerReport = { changed: false, trouble: null, holdsUp: false };

  it("is there while the policy is Delete, and nobody else's is touched", async () => {
    store("Delete");
    assert.deepEqual(await settle(false), { ...settled, changed: true });
    assert.deepEqual(finalizers(), ["other/finalizer", DELETE_DATA_FINALIZER]);
    assert.deepEqual(await settle(false), settled);
    store("Retain", [DELETE_DATA_FINALIZER]);
    assert.deepEqual(await settle(true), { ...settled, changed: true });
    assert.deepEqual(finalizers(), ["other/finalizer"]);
    assert.deepEqual(await settle(true), settled);
  });

  const refused: readonly (readonly [string, boolean, boolean, RegExp])[] = [
    ["Delete", false, true, /cannot be added: .*403.*; no pod is made before, since its volumes/u],
    ["Delete", true, false, /cannot be added: .*403.*; if the store is deleted now, its volumes/u],
    ["Retain", false, false, /cannot be removed: .*403.*; its volumes are kept all the same/u],
  ];
  for (const [policy, begun, holdsUp, message] of refused) {
    const what = `${begun ? "a" : "no"} pod or volume`;
    it(`that is refused holds up ${holdsUp ? "" : "no "}store of policy ${policy} with ${what}`, async () => {
      store(policy, policy === "Retain" ? [DELETE_DATA_FINALIZER] : []);
      refuse(403);
      const report = await settle(begun);
      assert.deepEqual([report.changed, report.holdsUp], [false, holdsUp]);
      assert.equal(report.trouble?.reason, "ApplyRejected");
      assert.match(report.trouble.message, message);
    });
  }

  it("that somebody else changed at the same time is tried again at once", async () => {
    store("Delete");
    refuse(409);
    await assert.rejects(settle(true), /: 409/u);
  });
});
