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
/** A Lease is free for so long before its operator counts as gone. */
const FREE_MS = 15_000;
/** From one look at a store of another operator to the next. */
const LOOK_MS = 10_000;
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
  function lease(holderIdentity = "its-process", annotations: Record<string, string> = {}): void {
    server.put(LEASE, {
      metadata: { annotations },
      spec: { holderIdentity, leaseDurationSeconds: 15 },
    });
  }

  /** Looks at the store as often as is due, for so long; true: it was taken over meanwhile. */
  async function looks(object: KubeObject, forMs: number): Promise<boolean> {
    const endMs = nowMs + forMs;
    for (;;) {
      await settle(object);
      if (operatorOf(object) === SELF) return true;
      if (nowMs >= endMs) return false;
      nowMs = Math.min(endMs, nowMs + LOOK_MS);
    }
  }
  const operatorOf = ({ metadata: { name } }: KubeObject): unknown =>
    (status(name) as { operator?: unknown }).operator;

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
    const after = { requeueAfterMs: 10_000, routine: true };
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

  it("another's: told of again, without a line in the log, before its Event is forgotten", async () => {
    lease();
    const found = store(OTHER);
    await settle(found);
    for (const [atMs, times] of [
      [1_799_999, 1],
      [1_800_000, 2],
      [1_810_000, 2],
    ] as const) {
      lease();
      nowMs = atMs;
      await settle(found);
      assert.equal(events.length, times, `at ${atMs}`);
    }
    assert.equal(logged.length, 1);
  });

  const free: readonly (readonly [string, () => void])[] = [
    ["is not there", () => undefined],
    ["is held by nobody", () => lease("")],
  ];
  for (const [what, put] of free) {
    it(`another's whose Lease ${what}: taken over, with the rest of its status`, async () => {
      put();
      const found = store(OTHER);
      assert.deepEqual(await settle(found), { requeueAfterMs: LOOK_MS, routine: true });
      events = [];
      for (nowMs of [LOOK_MS, FREE_MS]) assert.equal(await looks(found, 0), false, `at ${nowMs}`);
      nowMs = 2 * LOOK_MS;
      assert.deepEqual(await settle(found), { requeueAfterMs: 1_000 });
      assert.deepEqual(status(), { ...REST, operator: SELF });
      assert.deepEqual([...new Set(left)], ["ns/demo"], "what was done for it before has ended");
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

  it("another's that died: taken over once its Lease was seen to run out, and not taken again", async () => {
    lease();
    const found = store(OTHER);
    await settle(found);
    nowMs = READ_MS - 1;
    lease();
    nowMs = READ_MS;
    assert.equal(await looks(found, 15_000 + FREE_MS - 1), false);
    assert.equal(await looks(found, READ_MS), true);
  });

  it("another's that is made anew: what it was away from for a moment stays its own", async () => {
    const found = store(OTHER);
    for (let times = 0; times < 4; times += 1) {
      lease("");
      assert.equal(await looks(found, LOOK_MS), false);
      nowMs += LOOK_MS;
      lease();
      assert.equal(await looks(found, LOOK_MS), false);
      nowMs += LOOK_MS;
    }
  });

  it("another's whose Lease was deleted by hand: its own, once there is another", async () => {
    const found = store(OTHER);
    assert.equal(await looks(found, LOOK_MS), false);
    lease();
    nowMs += LOOK_MS;
    assert.equal(await looks(found, FREE_MS - LOOK_MS), false);
  });

  it("another's while the API server is away, for its holder too: its own for a while after", async () => {
    lease();
    const found = store(OTHER);
    await settle(found);
    refuse("GET", { kind: "status", status: 503 });
    nowMs = 60_000;
    await assert.rejects(settle(found));
    server.fault = () => undefined;
    assert.deepEqual(await settle(found), { requeueAfterMs: LOOK_MS, routine: true });
    lease();
    nowMs += LOOK_MS;
    assert.equal(await looks(found, LOOK_MS), false);
  });

  it("another's that was not looked at for long: that its Lease was free before proves nothing", async () => {
    lease("");
    await settle(store(OTHER));
    nowMs = 60_000;
    lease("");
    assert.equal(await looks(store(OTHER, "more"), LOOK_MS), false);
  });

  const WATCHED = "resilver.io/watched-namespaces";
  for (const [watched, stays] of [
    ["*", true],
    ["more,ns", true],
    ["more,ns-2", false],
    ["n", false],
  ] as const) {
    it(`another's that works and watches ${watched}: ${stays ? "stays its own" : "taken over at once"}`, async () => {
      lease("its-process", { [WATCHED]: watched });
      assert.equal(await looks(store(OTHER), 0), !stays);
      if (stays) return;
      const [{ reason, note } = { reason: "", note: "" }] = events;
      assert.equal(reason, "TakenOver");
      assert.equal(
        note,
        `${SELF} looks after this store now: the operator of Lease ${OTHER} does not watch namespace ns`,
      );
    });
  }

  it("another's whose Lease lasts free: the next store is taken at once, after another read", async () => {
    lease("");
    assert.equal(await looks(store(OTHER), 2 * LOOK_MS), true);
    nowMs += 1_000;
    assert.equal(await looks(store(OTHER, "more"), 0), true);
    lease();
    nowMs += 1_000;
    assert.equal(await looks(store(OTHER, "third"), 0), false);
  });

  it("taken over by a third in the same moment: looked at again, and left as it is", async () => {
    const found = store(OTHER);
    assert.equal(await looks(found, FREE_MS), false);
    nowMs += READ_MS;
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
    await assert.rejects(looks(store(OTHER), 2 * LOOK_MS), /403/u);
    assert.deepEqual(status(), { ...REST, operator: OTHER });
  });
});
