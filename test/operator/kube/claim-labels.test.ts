/** Claims that people made in the place of a pod's own. */
import assert from "node:assert/strict";
import { parseReplicatedStore } from "../../../operator/api/v1alpha1/validation.ts";
import { ClaimLabels } from "../../../operator/kube/claim-labels.ts";
import { podFacts } from "../../../operator/kube/pods.ts";
import { KINDS, type KubeObject, resourcePath } from "../../../operator/kube/resources.ts";
import { claimsByName } from "../../../operator/kube/store-view.ts";
import { systemClock } from "../../../operator/local/system-clock.ts";
import { IN_SYNC_GATE, selectorLabels } from "../../../operator/specs/labels.ts";
import { FakeApiServer } from "../../support/fake-api-server.ts";
import { call, clientOf } from "./kube-fixture.ts";

const LABELS = selectorLabels("demo");
const NAMES = ["data-demo-0", "wal-demo-0"];
const path = (name: string): string => resourcePath(KINDS.claim, "ns", name);

describe("claims without the labels of a store", () => {
  let server: FakeApiServer;
  let close: () => void;
  let labels: ClaimLabels;
  let nowMs = 0;

  beforeEach(async () => {
    server = await FakeApiServer.start();
    const { client, transport } = clientOf(server);
    close = () => transport.close();
    nowMs = 0;
    labels = new ClaimLabels(client, { ...systemClock, monotonicMs: () => nowMs });
  });
  afterEach(async () => {
    close();
    await server.close();
  });

  /** What came of one look, and what was asked. `cached`: what the caches have. */
  async function look(nodeName = "m", cached: readonly string[] = []) {
    server.requests.length = 0;
    const metadata = { name: "demo-0", namespace: "ns" };
    const store = parseReplicatedStore({
      apiVersion: "resilver.io/v1alpha1",
      kind: "ReplicatedStore",
      metadata: { name: "demo", namespace: "ns", uid: "u" },
      spec: {},
    });
    const claims = cached.map((name): KubeObject => ({ metadata: { name, namespace: "ns" } }));
    const pods = [podFacts({ metadata, spec: { nodeName } }, IN_SYNC_GATE)];
    const sight = { store, storeId: "s", pods, claims: claimsByName(claims) };
    const trouble = await labels.reconcile(sight, call().signal);
    const asked = server.requests.map(
      ({ method, path: at }) => `${method} ${at.split("/").at(-1)}`,
    );
    return { trouble, asked: asked.toSorted() };
  }

  it("get them, beside those that they have", async () => {
    for (const name of NAMES) server.put(path(name), { metadata: { labels: { team: "a" } } });
    const { trouble, asked } = await look();
    assert.equal(trouble, null);
    assert.deepEqual(asked, [...NAMES.map((n) => `GET ${n}`), ...NAMES.map((n) => `PATCH ${n}`)]);
    for (const name of NAMES) {
      assert.deepEqual(server.get(path(name))?.metadata.labels, { team: "a", ...LABELS });
    }
  });

  it("get those of this store though they are named as another's: the pod is on them", async () => {
    server.put(path("data-demo-0"), { metadata: { labels: selectorLabels("other") } });
    await look("m", ["wal-demo-0"]);
    assert.deepEqual(server.get(path("data-demo-0"))?.metadata.labels, LABELS);
  });

  it("are not asked for when the caches have them, nor changed when these are late", async () => {
    for (const name of NAMES) server.put(path(name), { metadata: { labels: LABELS } });
    assert.deepEqual((await look("m", NAMES)).asked, []);
    assert.deepEqual((await look("m", ["wal-demo-0"])).asked, ["GET data-demo-0"]);
  });

  it("are asked for again after a while, and later of a pod that is on no machine yet", async () => {
    const both = NAMES.map((name) => `GET ${name}`);
    assert.deepEqual((await look("")).asked, []);
    nowMs += 1_000;
    assert.deepEqual((await look("")).asked, both);
    nowMs += 4_999;
    assert.deepEqual((await look("m")).asked, []);
    nowMs += 1;
    assert.deepEqual((await look("m")).asked, both);
  });

  it("are told of when they cannot have them, and keep nothing else from being done", async () => {
    for (const name of NAMES) server.put(path(name), { metadata: {} });
    server.fault = ({ method }) =>
      method === "PATCH" ? { kind: "status", status: 403 } : undefined;
    const { trouble } = await look();
    assert.equal(trouble?.reason, "ApplyRejected");
    assert.match(trouble.message, /persistentvolumeclaims\/(data|wal)-demo-0: 403/u);
  });

  it("are let be when others were made meanwhile", async () => {
    for (const name of NAMES) server.put(path(name), { metadata: {} });
    server.fault = ({ method }) =>
      method === "PATCH" ? { kind: "status", status: 409 } : undefined;
    assert.equal((await look()).trouble, null);
    nowMs += 5_000;
    server.fault = ({ method }) =>
      method === "PATCH" ? { kind: "status", status: 404 } : undefined;
    assert.equal((await look()).trouble, null);
  });
});
