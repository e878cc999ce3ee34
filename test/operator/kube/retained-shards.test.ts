import assert from "node:assert/strict";
import type { StoreShardStatus } from "../../../operator/api/v1alpha1/store-shard.ts";
import { RetainedShards } from "../../../operator/kube/retained-shards.ts";
import { KINDS, type KubeObject, resourcePath } from "../../../operator/kube/resources.ts";
import { systemClock } from "../../../operator/local/system-clock.ts";
import { FakeApiServer } from "../../support/fake-api-server.ts";
import { call, clientOf } from "./kube-fixture.ts";

const SHARD = resourcePath(KINDS.shard, "ns", "demo.default.0");
const SPEC = { storeName: "demo", generation: 7 };

describe("the StoreShards of a store that is gone", () => {
  let server: FakeApiServer;
  let close: () => void;
  let reconcile: () => Promise<void>;

  beforeEach(async () => {
    server = await FakeApiServer.start();
    const { client, transport } = clientOf(server);
    close = () => transport.close();
    const shards = new RetainedShards(client, systemClock);
    reconcile = async () => {
      const object = structuredClone(server.get(SHARD)) as unknown as KubeObject;
      await shards.reconcile("ns", "demo", [object], call().signal);
    };
    const { apiVersion, kind } = KINDS.shard;
    server.put(SHARD, {
      apiVersion,
      kind,
      metadata: { name: "demo.default.0", namespace: "ns" },
      spec: SPEC,
      status: {
        voters: "3/3",
        learners: 1,
        commitOffset: 5,
        state: "Available",
        replicas: [{ node: "demo-0", voting: true, head: { term: 2, offset: 5 } }],
        conditions: [
          {
            type: "Available",
            status: "True",
            observedGeneration: 7,
            lastTransitionTime: "2026-01-01T00:00:00Z",
            reason: "Led",
            message: "demo-0 leads term 2",
          },
        ],
      },
    });
  });
  afterEach(async () => {
    close();
    await server.close();
  });

  const status = (): StoreShardStatus => (server.get(SHARD)?.["status"] ?? {}) as StoreShardStatus;
  const writes = () => server.requests.filter(({ method }) => method === "PATCH").length;

  it("say that they are retained, once, and what each replica held last", async () => {
    await reconcile();
    const { conditions = [], ...told } = status();
    assert.deepEqual(told, {
      voters: "0/3",
      learners: 0,
      state: "Retained",
      replicas: [{ node: "demo-0", voting: false, head: { term: 2, offset: 5 } }],
    });
    assert.deepEqual(
      conditions.map(({ type, status: word, reason }) => `${type}=${word} ${reason}`),
      ["Available=False Retained", "Degraded=False Retained", "Progressing=False Retained"],
    );
    assert.match(conditions[0]?.message ?? "", /^there is no ReplicatedStore demo, /u);
    assert.deepEqual(server.get(SHARD)?.["spec"], SPEC, "the record is nobody's to touch");
    await reconcile();
    assert.equal(writes(), 1);
  });

  it("but not while the store was only not told of yet, nor while they go as well", async () => {
    server.put(resourcePath(KINDS.store, "ns", "demo"), { metadata: {} });
    await reconcile();
    server.remove(resourcePath(KINDS.store, "ns", "demo"));
    const { metadata, ...rest } = server.get(SHARD) ?? assert.fail();
    const deletionTimestamp = "2026-01-01T00:00:00Z";
    server.put(SHARD, { ...rest, metadata: { ...metadata, deletionTimestamp } });
    await reconcile();
    assert.equal(writes(), 0);
  });

  for (const code of [404, 409]) {
    it(`that are gone or others by now (${code}) are left alone`, async () => {
      server.fault = ({ method }) =>
        method === "PATCH" ? { kind: "status", status: code } : undefined;
      await reconcile();
      assert.equal(status().state, "Available");
    });
  }
});
