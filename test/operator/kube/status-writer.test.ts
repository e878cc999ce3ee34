import assert from "node:assert/strict";
import type { ReplicatedStoreStatus } from "../../../operator/api/v1alpha1/replicated-store.ts";
import { parseReplicatedStore } from "../../../operator/api/v1alpha1/validation.ts";
import type { PodFacts } from "../../../operator/kube/pods.ts";
import { KINDS, type KubeObject, resourcePath } from "../../../operator/kube/resources.ts";
import { StatusWriter } from "../../../operator/kube/status-writer.ts";
import type { ShardView } from "../../../operator/core/status.ts";
import type { StoreSight } from "../../../operator/kube/store-view.ts";
import { systemClock } from "../../../operator/local/system-clock.ts";
import type { Fault } from "../../support/fake-answers.ts";
import { FakeApiServer } from "../../support/fake-api-server.ts";
import { shardViewOf, wholeShard } from "../local/status-fixture.ts";
import { call, clientOf } from "./kube-fixture.ts";

const pod = (name: string): PodFacts => ({
  name,
  uid: `uid of ${name}`,
  ip: "",
  nodeName: "",
  createdAt: "",
  terminating: false,
  ready: false,
  inSync: null,
  sidecarReady: false,
  waiting: "",
  revision: "",
  sidecar: "running",
});

describe("the readiness gates of a store's pods", () => {
  let server: FakeApiServer;
  let close: () => void;
  let gates: (views?: readonly ShardView[]) => Promise<void>;

  beforeEach(async () => {
    server = await FakeApiServer.start();
    const { client, transport } = clientOf(server);
    close = () => transport.close();
    const sight = {
      store: { metadata: { name: "demo", namespace: "ns" } },
      pods: [pod("demo-0"), pod("demo-1")],
    };
    gates = (views = []) =>
      new StatusWriter(client, systemClock).gates(sight, views, call().signal);
    for (const { name } of sight.pods) {
      server.put(resourcePath(KINDS.pod, "ns", name), { metadata: { name } });
    }
  });
  afterEach(async () => {
    close();
    await server.close();
  });

  /** The first pod's gate is answered so. */
  function answerFirst(fault: Fault): void {
    server.fault = ({ path }) => (path.includes("demo-0") ? fault : undefined);
  }
  const told = (): readonly string[] =>
    server.requests.map(({ path }) => path.split("/").at(-2) ?? "");

  const replaced = { kind: "Status", code: 422, message: "metadata.uid: field is immutable" };
  const answers: readonly (readonly [string, Fault])[] = [
    ["is gone", { kind: "status", status: 404 }],
    ["was made again", { kind: "status", status: 409 }],
    ["was made again, said in another way", { kind: "value", status: 422, value: replaced }],
  ];
  for (const [what, fault] of answers) {
    it(`goes on with the other pods when one ${what}`, async () => {
      answerFirst(fault);
      await gates();
      assert.deepEqual(told(), ["demo-0", "demo-1"]);
    });
  }

  it("stay as they are while a record is not to be believed", async () => {
    const stop = { reason: "RecordLost", message: "x" } as const;
    await gates([shardViewOf([], { initialized: false, stop })]);
    assert.deepEqual(told(), []);
  });

  it("fails when the server refuses for another reason", async () => {
    answerFirst({ kind: "status", status: 422 });
    await assert.rejects(gates(), /422 as told/u);
  });
});

describe("a store's status", () => {
  const STORE = resourcePath(KINDS.store, "ns", "demo");
  const OPERATOR = "system/resilver-operator";
  const OTHER = "elsewhere/resilver-operator";
  let server: FakeApiServer;
  let close: () => void;
  /** Both ways in which it is written; each resolves with what it says. */
  let writes: Readonly<Record<string, (object: KubeObject) => Promise<boolean>>>;
  /** Of a store with one shard that serves and one that is being made. */
  let tell: (object: KubeObject) => Promise<boolean>;

  beforeEach(async () => {
    server = await FakeApiServer.start();
    const { client, transport } = clientOf(server);
    close = () => transport.close();
    const writer = new StatusWriter(client, systemClock);
    const under = { settled: [], rollout: null, nodeLoss: null, trouble: null };
    const { signal } = call();
    tell = (object) => {
      const store = parseReplicatedStore(object);
      const sight = { store, object, pods: [], storeId: "s" } as unknown as StoreSight;
      const made = shardViewOf([], { shard: 1, initialized: false, leader: null, serving: false });
      const settled = [wholeShard()];
      return writer.store(sight, [...settled, made], 3, { ...under, settled }, signal);
    };
    writes = {
      refuse: (object) => writer.refuse(object, "SpecInvalid", "wrong", signal),
      store: (object) => {
        const store = parseReplicatedStore(object);
        const sight = { store, object, pods: [], storeId: "s" } as unknown as StoreSight;
        return writer.store(sight, [], 3, under, signal);
      },
    };
  });
  afterEach(async () => {
    close();
    await server.close();
  });

  /** As the cache has it. */
  function put(status?: object): KubeObject {
    const { apiVersion, kind } = KINDS.store;
    const fields = status === undefined ? {} : { status };
    const stored = server.put(STORE, { apiVersion, kind, metadata: {}, spec: {}, ...fields });
    return structuredClone(stored) as unknown as KubeObject;
  }
  const operator = (): unknown =>
    (server.get(STORE)?.["status"] as { operator?: unknown } | undefined)?.operator;

  it("is not available before all of a new store serves, and stays so while a shard is added", async () => {
    const available = (): unknown => {
      const status = server.get(STORE)?.["status"] as ReplicatedStoreStatus | undefined;
      return status?.conditions?.find(({ type }) => type === "Available")?.status;
    };
    await tell(put());
    assert.equal(available(), "False");
    const lastTransitionTime = "2026-01-01T00:00:00Z";
    const told = { type: "Available", status: "True", reason: "AllShardsServe", message: "" };
    await tell(put({ conditions: [{ ...told, lastTransitionTime, observedGeneration: 1 }] }));
    assert.equal(available(), "True");
  });

  for (const way of ["refuse", "store"]) {
    it(`still names the operator after ${way}()`, async () => {
      assert.equal(await writes[way]?.(put({ operator: OPERATOR })), true);
      assert.equal(operator(), OPERATOR);
      assert.equal(server.requests.length, 1);
    });

    it(`names none after ${way}() when it named none: older definitions know no such field`, async () => {
      assert.equal(await writes[way]?.(put()), true);
      assert.ok(!JSON.stringify(server.requests.map(({ body }) => body)).includes("operator"));
    });

    it(`is left as it is by ${way}() when another operator took the store over`, async () => {
      const seen = put({ operator: OPERATOR });
      const taken = put({ operator: OTHER, state: "Available" });
      assert.equal(await writes[way]?.(seen), false);
      assert.deepEqual(server.get(STORE)?.["status"], taken["status"]);
    });

    it(`fails by ${way}() when the server refuses for another reason`, async () => {
      server.fault = () => ({ kind: "status", status: 403 });
      await assert.rejects(async () => await writes[way]?.(put()), /403/u);
    });
  }
});
