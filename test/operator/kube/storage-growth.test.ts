import assert from "node:assert/strict";
import { parseReplicatedStore } from "../../../operator/api/v1alpha1/validation.ts";
import { KINDS, type KubeObject, resourcePath } from "../../../operator/kube/resources.ts";
import { growClaims } from "../../../operator/kube/storage-growth.ts";
import { FakeApiServer } from "../../support/fake-api-server.ts";
import { call, clientOf } from "./kube-fixture.ts";

const store = parseReplicatedStore({
  apiVersion: KINDS.store.apiVersion,
  kind: KINDS.store.kind,
  metadata: { name: "demo", namespace: "ns", uid: "u" },
  spec: { replicas: 1, storage: { data: { size: "20Gi" }, wal: { size: "8Gi" } } },
});

describe("claims that are smaller than what is asked for", () => {
  let server: FakeApiServer;
  let close: () => void;
  let grow: () => ReturnType<typeof growClaims>;

  beforeEach(async () => {
    server = await FakeApiServer.start();
    const { client, transport } = clientOf(server);
    close = () => transport.close();
    const caches = {
      ofStore: () =>
        server.list(resourcePath(KINDS.claim, "ns")) as unknown as readonly KubeObject[],
    };
    grow = () => growClaims(client, caches, { store }, call().signal);
  });
  afterEach(async () => {
    close();
    await server.close();
  });

  function claim(name: string, storage: string, storageClassName = "fast", phase = "Bound"): void {
    server.put(resourcePath(KINDS.claim, "ns", name), {
      metadata: { name },
      spec: { storageClassName, resources: { requests: { storage } } },
      status: { phase },
    });
  }
  function sizeOf(name: string): unknown {
    const spec = server.get(resourcePath(KINDS.claim, "ns", name))?.["spec"];
    return (spec as { resources: { requests: { storage: string } } }).resources.requests.storage;
  }
  const patches = () => server.requests.filter(({ method }) => method === "PATCH").length;

  it("grow, also those of pods that are not there", async () => {
    claim("data-demo-0", "10Gi");
    claim("data-demo-7", "10Gi");
    claim("wal-demo-0", "4Gi");
    assert.equal(await grow(), null);
    assert.deepEqual(["data-demo-0", "data-demo-7", "wal-demo-0"].map(sizeOf), [
      "20Gi",
      "20Gi",
      "8Gi",
    ]);
    await grow();
    assert.equal(patches(), 3, "nothing is asked for twice");
  });

  it("are no others: larger, of another name, or not bound yet", async () => {
    claim("data-demo-0", "30Gi");
    claim("data-demo-more-0", "1Gi");
    claim("backup-demo-0", "1Gi");
    claim("data-demo-1", "10Gi", "fast", "Pending");
    assert.equal(await grow(), null);
    assert.equal(patches(), 0);
  });

  it("that cannot grow are told of once for their storage class, and hold up no other", async () => {
    for (const ordinal of [0, 1, 2]) claim(`data-demo-${ordinal}`, "10Gi", "fixed");
    claim("data-demo-3", "10Gi");
    server.fault = ({ method, path }) =>
      method === "PATCH" && !path.endsWith("-3") ? { kind: "status", status: 403 } : undefined;
    const refusal = await grow();
    assert.equal(refusal?.reason, "StorageCannotGrow");
    assert.match(
      refusal?.message ?? "",
      /^spec\.storage\.data\.size is 20Gi; .*data-demo-0 cannot/u,
    );
    assert.deepEqual([patches(), sizeOf("data-demo-3")], [2, "20Gi"]);
  });
});
