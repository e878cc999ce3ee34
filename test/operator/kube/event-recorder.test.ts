import assert from "node:assert/strict";
import type { ApiTransport } from "../../../operator/kube/api-transport.ts";
import { EventRecorder } from "../../../operator/kube/event-recorder.ts";
import type { KubeLimits } from "../../../operator/kube/limits.ts";
import type { KubeObject } from "../../../operator/kube/resources.ts";
import { systemClock } from "../../../operator/local/system-clock.ts";
import { SILENT_LOGGER } from "../../../sidecar/lib/ports/logger.ts";
import { FakeApiServer } from "../../support/fake-api-server.ts";
import { clientOf, QUICK } from "./kube-fixture.ts";

const EVENTS = "/apis/events.k8s.io/v1/namespaces/ns/events";

const POD: KubeObject = {
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name: "demo-1", namespace: "ns", uid: "pod-uid", resourceVersion: "7" },
};

describe("event recorder", () => {
  let server: FakeApiServer;
  let transport: ApiTransport;
  let stop: AbortController;
  let running: Promise<void>;

  beforeEach(async () => {
    server = await FakeApiServer.start();
    stop = new AbortController();
    running = Promise.resolve();
  });
  afterEach(async () => {
    stop.abort(new Error("the test is over"));
    await running;
    transport.close();
    await server.close();
  });

  function recorder(limits: Partial<KubeLimits> = {}): EventRecorder {
    const made = clientOf(server);
    ({ transport } = made);
    return new EventRecorder({
      client: made.client,
      clock: systemClock,
      logger: SILENT_LOGGER,
      controller: "resilver.io/operator",
      instance: "operator-0",
      limits: { ...QUICK, ...limits },
    });
  }

  const event = (note: string) =>
    ({ regarding: POD, type: "Warning", reason: "Deferred", action: "Wait", note }) as const;
  const stored = () => server.list(EVENTS);

  it("tells of an object, once, with a count that grows", async () => {
    const events = recorder();
    running = events.run(stop.signal);
    events.record(event("one"));
    await server.until("it is there", () => stored().length === 1);
    const [first] = stored();
    assert.deepEqual(first?.["regarding"], {
      apiVersion: "v1",
      kind: "Pod",
      namespace: "ns",
      name: "demo-1",
      uid: "pod-uid",
      resourceVersion: "7",
    });
    assert.match(String(first?.["eventTime"]), /\.\d{6}Z$/);
    assert.equal(first?.["series"], undefined);
    for (let i = 0; i < 7; i += 1) events.record(event("one"));
    await server.until("it counts", () => {
      const series = stored()[0]?.["series"] as { count?: number } | undefined;
      return (series?.count ?? 0) > 4;
    });
    events.record(event("another note"));
    await server.until("both are there", () => stored().length === 2);
    const writes = server.requests.length;
    assert.ok(writes <= 5, `${writes} requests for 9 events`);
  });

  it("a note that is too long is cut, not refused", async () => {
    const events = recorder();
    running = events.run(stop.signal);
    events.record(event("é".repeat(600)));
    await server.until("it is there", () => stored().length === 1);
    const note = String(stored()[0]?.["note"]);
    assert.ok(Buffer.byteLength(note) <= 1_024);
    assert.match(note, /^é+\.\.\.$/);
  });

  it("an event that has expired meanwhile is made again", async () => {
    const events = recorder();
    running = events.run(stop.signal);
    events.record(event("one"));
    const [first] = await server.until("it is there", () => stored().length === 1 && stored());
    server.remove(`${EVENTS}/${first?.metadata.name}`);
    events.record(event("one"));
    await server.until("it is there again", () => stored().length === 1);
    const series = stored()[0]?.["series"] as { count?: number } | undefined;
    assert.equal(series?.count, 2);
  });

  it("while the API server is away they wait, up to a bound; the newest are kept", async () => {
    const events = recorder({ eventsWaitingMax: 3 });
    let away = true;
    server.fault = () => (away ? { kind: "status", status: 503 } : undefined);
    for (let i = 0; i < 10; i += 1) events.record(event(`note ${i}`));
    assert.equal(events.dropped, 7);
    running = events.run(stop.signal);
    await server.until("it was tried", () => server.requests.length >= 2);
    away = false;
    await server.until("they are there", () => stored().length === 3);
    assert.deepEqual(
      stored().map((object) => object["note"]),
      ["note 7", "note 8", "note 9"],
    );
  });

  it("a refusal drops the event and nothing else", async () => {
    const events = recorder();
    let refused = false;
    server.fault = () => {
      if (refused) return undefined;
      refused = true;
      return { kind: "status", status: 403 };
    };
    running = events.run(stop.signal);
    events.record(event("refused"));
    events.record(event("taken"));
    await server.until("the second is there", () => stored().length === 1);
    assert.equal(stored()[0]?.["note"], "taken");
    assert.equal(events.dropped, 1);
  });

  it("an answer that was lost makes no second event", async () => {
    const events = recorder();
    let lost = false;
    server.fault = () => {
      if (lost) return undefined;
      lost = true;
      return { kind: "afterwards" };
    };
    running = events.run(stop.signal);
    events.record(event("one"));
    await server.until("it was sent twice", () => server.requests.length === 2);
    assert.equal(stored().length, 1);
  });
});
