/** Calls against a real HTTP server that refuses, drops, stalls and loses answers. */
import assert from "node:assert/strict";
import type { ApiClient } from "../../../operator/kube/api-client.ts";
import { ApiError, ApiUnreachable } from "../../../operator/kube/api-error.ts";
import type { ApiTransport } from "../../../operator/kube/api-transport.ts";
import { KUBE_LIMITS } from "../../../operator/kube/limits.ts";
import { KINDS, resourcePath } from "../../../operator/kube/resources.ts";
import { FakeApiServer } from "../../support/fake-api-server.ts";
import { call, clientOf } from "./kube-fixture.ts";

const PATH = "/apis/resilver.io/v1alpha1/namespaces/ns/replicatedstores/demo";
const PODS = "/api/v1/namespaces/ns/pods";

describe("api client", () => {
  let server: FakeApiServer;
  let client: ApiClient;
  let transport: ApiTransport;
  const codes: string[] = [];

  beforeEach(async () => {
    codes.length = 0;
    server = await FakeApiServer.start();
    ({ client, transport } = clientOf(server, (method, code) => codes.push(`${method} ${code}`)));
  });
  afterEach(async () => {
    transport.close();
    await server.close();
  });

  it("paths of collections, objects and subresources", () => {
    assert.equal(resourcePath(KINDS.pod, null), "/api/v1/pods");
    assert.equal(resourcePath(KINDS.store, "ns", "demo"), PATH);
    assert.equal(
      resourcePath(KINDS.lease, "a", "b/c", "status"),
      "/apis/coordination.k8s.io/v1/namespaces/a/leases/b%2Fc/status",
    );
  });

  it("gives objects as they are: times as text, unknown fields kept", async () => {
    const spec = { startedAt: "2026-01-02T03:04:05Z", unheardOf: { of: [1] } };
    server.put(PATH, { metadata: {}, spec });
    const store = await client.get(KINDS.store, "ns", "demo", call());
    assert.deepEqual(store?.["spec"], spec);
    assert.equal(await client.get(KINDS.store, "ns", "other", call()), null);
  });

  it("an object can be sent back as it came", async () => {
    server.put(PATH, { metadata: { creationTimestamp: "2026-01-02T03:04:05Z" }, spec: { a: 1 } });
    const store = await client.get(KINDS.store, "ns", "demo", call());
    assert.ok(store);
    const back = await client.replace(KINDS.store, { ...store, spec: { a: 2 } }, call());
    assert.equal(back.metadata.creationTimestamp, "2026-01-02T03:04:05Z");
  });

  it("replaces by compare-and-swap", async () => {
    server.put(PATH, { metadata: {}, spec: { a: 1 } });
    const store = await client.get(KINDS.store, "ns", "demo", call());
    assert.ok(store);
    await client.replace(KINDS.store, { ...store, spec: { a: 2 } }, call());
    await assert.rejects(client.replace(KINDS.store, { ...store, spec: { a: 3 } }, call()), {
      name: "ApiError",
      status: 409,
      reason: "Conflict",
    });
    assert.deepEqual(server.get(PATH)?.["spec"], { a: 2 });
  });

  it("lists page by page", async () => {
    for (let i = 0; i < 1_201; i += 1) server.put(`${PODS}/pod-${i}`, { metadata: {} });
    const { items } = await client.list(KINDS.pod, { namespace: "ns" }, call());
    assert.equal(items.length, 1_201);
    const limits = server.requests.map(({ query }) => query.get("limit"));
    assert.deepEqual(limits, ["500", "500", "500"]);
  });

  it("says what kind of patch it sends, and whose fields they are", async () => {
    server.put(PATH, { metadata: {}, spec: { a: 1 }, status: { ready: "0/3" } });
    const at = { namespace: "ns", name: "demo" };
    const metadata = { name: "demo", namespace: "ns", labels: {} };
    const manifest = { apiVersion: "resilver.io/v1alpha1", kind: "ReplicatedStore", metadata };
    await client.merge(KINDS.store, at, { metadata: { labels: { a: "b" } } }, call());
    await client.apply(KINDS.store, { ...manifest, spec: { b: 2 } }, call());
    await client.apply(KINDS.store, { ...manifest, status: { ready: "3/3" } }, call(), "status");
    const sent = server.requests.map(({ path, contentType, query }) =>
      [path, contentType, query.get("fieldManager"), query.get("force")].join(" "),
    );
    assert.deepEqual(sent, [
      `${PATH} application/merge-patch+json resilver `,
      `${PATH} application/apply-patch+yaml resilver true`,
      `${PATH}/status application/apply-patch+yaml resilver true`,
    ]);
    assert.deepEqual(server.get(PATH)?.["spec"], { a: 1, b: 2 });
    assert.deepEqual(server.get(PATH)?.["status"], { ready: "3/3" });
  });

  it("deletes only what is still the same object", async () => {
    const { metadata } = server.put(`${PODS}/p`, { metadata: {} });
    const other = client.delete(KINDS.pod, "ns", "p", { uid: "other" }, call());
    await assert.rejects(other, { name: "ApiError", status: 409 });
    assert.equal(await client.delete(KINDS.pod, "ns", "p", { uid: metadata.uid }, call()), true);
    assert.equal(await client.delete(KINDS.pod, "ns", "p", {}, call()), false);
  });

  it("evicts as a drain does", async () => {
    const { metadata } = server.put(`${PODS}/p`, { metadata: {} });
    const pod = { namespace: "ns", name: "p", uid: metadata.uid };
    server.allowEviction = () => false;
    assert.equal(await client.evict(pod, call()), "refused");
    server.allowEviction = () => true;
    assert.equal(await client.evict({ ...pod, uid: "another" }, call()), "gone");
    assert.ok(server.get(`${PODS}/p`));
    assert.equal(await client.evict(pod, call()), "evicted");
    server.fault = () => ({ kind: "status", status: 429 });
    await assert.rejects(client.evict(pod, call()), { name: "ApiError", status: 429 });
    server.fault = () => undefined;
    assert.equal(await client.evict(pod, call()), "gone");
  });

  for (const status of [403, 429, 500, 503]) {
    it(`${status} is an error with its status and what the server asks for`, async () => {
      server.fault = () => ({ kind: "status", status, headers: { "retry-after": "7" } });
      await assert.rejects(client.get(KINDS.store, "ns", "demo", call()), (error) => {
        assert.ok(error instanceof ApiError);
        assert.equal(error.status, status);
        assert.equal(error.retryAfterMs, 7_000);
        assert.match(error.message, new RegExp(`GET ${PATH}: ${status} as told`));
        return true;
      });
      assert.deepEqual(codes, [`GET ${status}`]);
    });
  }

  it("a connection that breaks is unreachable, not an answer", async () => {
    server.fault = () => ({ kind: "drop" });
    await assert.rejects(client.get(KINDS.store, "ns", "demo", call()), {
      name: "ApiUnreachable",
      timedOut: false,
    });
    assert.deepEqual(codes, ["GET <error>"]);
  });

  it("ends a connection that nobody uses, before the server does; not a watch's", async () => {
    const quick = clientOf(server, undefined, { connectionIdleMs: 50 });
    const stop = new AbortController();
    const from = { resourceVersion: "100", timeoutSeconds: 60 };
    const watch = quick.client.watch(KINDS.store, { namespace: "ns" }, from, stop.signal, 5_000);
    try {
      const next = watch.next();
      await quick.client.list(KINDS.store, { namespace: "ns" }, call());
      await server.until("the watch's alone is open", () => server.connections === 1, 5_000);
      server.put(resourcePath(KINDS.store, "ns", "demo"), { metadata: {} });
      assert.equal((await next).value?.type, "ADDED");
    } finally {
      stop.abort(new Error("the test is over"));
      await watch.return(undefined);
      quick.transport.close();
    }
  });

  it("an answer that was lost may have been carried out", async () => {
    server.fault = () => ({ kind: "afterwards" });
    const object = { metadata: { name: "demo", namespace: "ns" }, spec: {} };
    await assert.rejects(client.create(KINDS.store, object, call()), { name: "ApiUnreachable" });
    assert.ok(server.get(PATH));
  });

  it("a server that never answers is given up", async () => {
    server.fault = () => ({ kind: "stall" });
    await assert.rejects(client.get(KINDS.store, "ns", "demo", call(50)), (error) => {
      assert.ok(error instanceof ApiUnreachable);
      assert.equal(error.timedOut, true);
      assert.match(error.message, /no answer within 50 ms/);
      return true;
    });
  });

  it("an abort ends a call with its own reason", async () => {
    server.fault = () => ({ kind: "stall" });
    const stop = new AbortController();
    const pending = client.get(KINDS.store, "ns", "demo", { signal: stop.signal });
    await server.until("the request is there", () => server.requests.length === 1);
    stop.abort(new Error("stopped"));
    await assert.rejects(pending, { message: "stopped" });
  });

  it("more calls than may be under way wait their turn, but not the urgent ones", async () => {
    const most = KUBE_LIMITS.callsAtOnceMax;
    server.fault = ({ path }) => (path === PATH ? { kind: "stall" } : undefined);
    const stop = new AbortController();
    const calls = Array.from({ length: 2 * most }, () =>
      client.get(KINDS.store, "ns", "demo", { signal: stop.signal }),
    );
    const ended = Promise.allSettled(calls);
    await server.until("all turns are taken", () => server.requests.length === most);
    assert.equal(await client.get(KINDS.lease, "ns", "one", { ...call(), urgent: true }), null);
    assert.equal(server.requests.length, most + 1, "the others wait");
    const late = client.get(KINDS.store, "ns", "other", call());
    stop.abort(new Error("stopped"));
    for (const outcome of await ended) assert.equal(outcome.status, "rejected");
    // Whoever gave up its place in the queue, or its turn, keeps nobody from the next one.
    assert.equal(await late, null);
    assert.equal(server.requests.length, most + 2);
  });

  for (const text of ['{"metadata": {"na', "<html>", "null", '{"kind":"Status"}']) {
    it(`an answer that is no object is not believed: ${text}`, async () => {
      server.fault = () => ({ kind: "body", text });
      await assert.rejects(client.get(KINDS.store, "ns", "demo", call()), {
        name: "ApiUnreachable",
      });
    });
  }

  it("credentials that cannot be had are a failed call, not a crash", async () => {
    const config = server.config();
    config.applyToHTTPSOptions = () => Promise.reject(new Error("the plugin failed"));
    const { ApiTransport: Transport } = await import("../../../operator/kube/api-transport.ts");
    const { systemClock: clock } = await import("../../../operator/local/system-clock.ts");
    const broken = new Transport({ config, clock, userAgent: "test" });
    const request = { method: "GET" as const, path: PATH, ...call() };
    await assert.rejects(broken.call(request), {
      name: "ApiUnreachable",
      message: /plugin failed/,
    });
    await assert.rejects(broken.watch(request, 1_000).next(), { name: "ApiUnreachable" });
    broken.close();
  });
});
