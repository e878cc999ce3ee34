import assert from "node:assert/strict";
import { parseReplicatedStore } from "../../../operator/api/v1alpha1/validation.ts";
import type { ObjectEvent } from "../../../operator/kube/event-recorder.ts";
import { KINDS, type KubeObject, resourcePath } from "../../../operator/kube/resources.ts";
import { StatusWriter } from "../../../operator/kube/status-writer.ts";
import { StoreOwner } from "../../../operator/kube/store-owner.ts";
import { systemClock } from "../../../operator/local/system-clock.ts";
import { SILENT_LOGGER } from "../../../sidecar/lib/ports/logger.ts";
import type { Fault } from "../../support/fake-answers.ts";
import { FakeApiServer } from "../../support/fake-api-server.ts";
import { call, clientOf } from "./kube-fixture.ts";

const SELF = "system/resilver-operator";
const OTHER = "elsewhere/resilver-operator";
const LEASE = resourcePath(KINDS.lease, "elsewhere", "resilver-operator");
/** One read of a Lease serves for so long. */
const READ_MS = 8_000;
const REST = { storeId: "s", state: "Available", replicas: 3 };

describe("whose store it is", () => {
  let server: FakeApiServer;
  let close: () => void;
  let owner: StoreOwner;
  let nowMs: number;
  let events: ObjectEvent[];
  let logged: string[];
  let left: string[];

  beforeEach(async () => {
    server = await FakeApiServer.start();
    const { client, transport } = clientOf(server);
    close = () => transport.close();
    [nowMs, events, logged, left] = [0, [], [], []];
    const log = (message: string): number => logged.push(message);
    owner = new StoreOwner({
      client,
      statuses: new StatusWriter(client, systemClock),
      clock: { ...systemClock, monotonicMs: () => nowMs },
      events: { record: (event) => events.push(event) },
      logger: { ...SILENT_LOGGER, info: log, warn: log },
      lease: { namespace: "system", name: "resilver-operator" },
      leave: async (key) => {
        left.push(key);
      },
    });
  });
  afterEach(async () => {
    close();
    await server.close();
  });

  const path = (name: string): string => resourcePath(KINDS.store, "ns", name);

  /** A store as the cache has it. */
  function store(operator?: string, name = "demo"): KubeObject {
    const { apiVersion, kind } = KINDS.store;
    const status = operator === undefined ? REST : { ...REST, operator };
    return cached(server.put(path(name), { apiVersion, kind, metadata: {}, spec: {}, status }));
  }
  const cached = (object: unknown): KubeObject => structuredClone(object) as KubeObject;
  const settle = (object: KubeObject) =>
    owner.settle(`ns/${object.metadata.name}`, object, call().signal);
  const status = (name = "demo"): unknown => server.get(path(name))?.["status"];
  const asked = (): readonly string[] => server.requests.map(({ method }) => method);

  /** The other operator's Lease, as it writes it each time. */
  function lease(holderIdentity = "its-process", leaseDurationSeconds = 15): void {
    server.put(LEASE, { metadata: {}, spec: { holderIdentity, leaseDurationSeconds } });
  }

  it("ours: no request", async () => {
    assert.equal(await settle(store(SELF)), "ours");
    assert.deepEqual([asked(), left], [[], []]);
  });

  it("nobody's: claimed, by the version that was seen, with the rest of its status", async () => {
    const found = store();
    assert.deepEqual(await settle(found), { requeueAfterMs: 1_000 });
    assert.deepEqual(status(), { ...REST, operator: SELF });
    assert.deepEqual(asked(), ["PATCH"]);
    const [claim] = server.requests.map(({ body }) => body as KubeObject);
    assert.equal(claim?.metadata.resourceVersion, found.metadata.resourceVersion);
    parseReplicatedStore(server.get(path("demo")));
  });

  it("claimed by another in the same moment: looked at again, and left as it is", async () => {
    const found = store();
    store(OTHER);
    assert.deepEqual(await settle(found), { requeueAfterMs: 1_000 });
    assert.deepEqual(status(), { ...REST, operator: OTHER });
  });

  it("another's: left alone and told of once; its Lease is read once for all its stores", async () => {
    lease();
    const stores = [store(OTHER), store(OTHER, "more")];
    const after = { requeueAfterMs: 10_000 };
    const twice = [...stores, ...stores];
    assert.deepEqual(
      await Promise.all(twice.map(settle)),
      twice.map(() => after),
    );
    assert.deepEqual(asked(), ["GET"]);
    assert.deepEqual([...new Set(left)], ["ns/demo", "ns/more"]);
    assert.deepEqual(
      events.map(({ regarding, type, reason }) => [regarding.metadata.name, type, reason]),
      ["demo", "more"].map((name) => [name, "Warning", "OtherOperator"]),
    );
    assert.ok(events.every(({ note }) => note.includes(OTHER) && note.includes(SELF)));
    assert.equal(logged.length, 2);
    nowMs = READ_MS;
    for (const one of stores) await settle(one);
    assert.deepEqual(asked(), ["GET", "GET"]);
    assert.equal(events.length, 2);
  });

  const free: readonly (readonly [string, () => void])[] = [
    ["is not there", () => undefined],
    ["is held by nobody", () => lease("")],
  ];
  for (const [what, put] of free) {
    it(`another's whose Lease ${what}: taken over, with the rest of its status`, async () => {
      put();
      assert.deepEqual(await settle(store(OTHER)), { requeueAfterMs: 1_000 });
      assert.deepEqual(status(), { ...REST, operator: SELF });
      assert.deepEqual(left, ["ns/demo"], "what was done for it before has ended");
      assert.deepEqual(
        events.map(({ type, reason, note }) => [type, reason, note]),
        [
          [
            "Normal",
            "TakenOver",
            `${SELF} looks after this store now: the Lease of ${OTHER} is free`,
          ],
        ],
      );
    });
  }

  it("another's that died: taken over once its Lease was seen unchanged for its duration", async () => {
    lease();
    const found = store(OTHER);
    await settle(found);
    nowMs = READ_MS - 1;
    lease();
    for (nowMs of [READ_MS, READ_MS + 14_999]) {
      assert.deepEqual(await settle(found), { requeueAfterMs: 10_000 }, `after ${nowMs} ms`);
    }
    nowMs += READ_MS;
    await settle(found);
    assert.deepEqual(status(), { ...REST, operator: SELF });
  });

  it("another's that was away for a moment: what it has not lost by then stays its own", async () => {
    lease("");
    await settle(store(OTHER));
    lease();
    nowMs = 1_000;
    await settle(store(OTHER, "more"));
    assert.deepEqual(status("more"), { ...REST, operator: OTHER });
  });

  it("taken over by a third in the same moment: looked at again, and left as it is", async () => {
    const found = store(OTHER);
    store("third/resilver-operator");
    assert.deepEqual(await settle(found), { requeueAfterMs: 1_000 });
    assert.deepEqual(status(), { ...REST, operator: "third/resilver-operator" });
  });

  it("without the right to see: left alone, an error each time, and says what to do", async () => {
    refuse("GET", { kind: "status", status: 403 });
    const found = store(OTHER);
    for (let n = 0; n < 2; n += 1) {
      assert.deepEqual(await settle(found), { requeueAfterMs: 10_000, failed: true });
    }
    assert.deepEqual([asked(), events.length, logged.length], [["GET"], 1, 1]);
    const { note = "" } = events[0] ?? {};
    assert.match(note, /right "get leases\.coordination\.k8s\.io" in namespace elsewhere is/u);
    assert.ok(note.length <= 1_024, "all of it is told");
    // What a person types then.
    const typed =
      /kubectl patch rstore demo --namespace ns --subresource=status --type=merge --patch '(.*?)'/u;
    const patch = JSON.parse(typed.exec(note)?.[1] ?? "") as object;
    const { client, transport } = clientOf(server);
    const at = { namespace: "ns", name: "demo", subresource: "status" } as const;
    await client.merge(KINDS.store, at, patch, call());
    transport.close();
    assert.deepEqual(status(), { ...REST, operator: SELF });
    parseReplicatedStore(server.get(path("demo")));
    assert.equal(await settle(cached(server.get(path("demo")))), "ours");
  });

  it("a Lease that cannot be read: fails, and nothing is taken", async () => {
    refuse("GET", { kind: "drop" });
    await assert.rejects(settle(store(OTHER)), /hang up|reset|closed/u);
    assert.deepEqual([status(), left], [{ ...REST, operator: OTHER }, ["ns/demo"]]);
  });

  function refuse(method: string, fault: Fault): void {
    server.fault = (request) => (request.method === method ? fault : undefined);
  }

  it("nobody's where definitions are older: looked after, and claimed once they know the field", async () => {
    const message =
      "failed to create typed patch object (ns/demo): .status.operator: field not declared in schema";
    refuse("PATCH", { kind: "value", status: 500, value: { kind: "Status", code: 500, message } });
    const found = store();
    for (let n = 0; n < 2; n += 1) assert.equal(await settle(found), "ours");
    assert.deepEqual([asked(), logged.length], [["PATCH"], 1]);
    server.fault = () => undefined;
    nowMs = 10_000;
    await settle(found);
    assert.deepEqual(status(), { ...REST, operator: SELF });
  });

  for (const fault of [{ kind: "status", status: 503 }, { kind: "drop" }] as const) {
    it(`nobody's while the API server does not answer (${JSON.stringify(fault)}): fails`, async () => {
      refuse("PATCH", fault);
      await assert.rejects(settle(store()));
    });
  }

  it("another's that cannot be taken over is not looked after", async () => {
    refuse("PATCH", { kind: "status", status: 403 });
    await assert.rejects(settle(store(OTHER)), /403/u);
    assert.deepEqual(status(), { ...REST, operator: OTHER });
  });
});
