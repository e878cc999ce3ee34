/** The cache against everything that a watch can meet. */
import assert from "node:assert/strict";
import type { ApiTransport } from "../../../operator/kube/api-transport.ts";
import type { KubeLimits } from "../../../operator/kube/limits.ts";
import { ListWatch, type ObjectChange } from "../../../operator/kube/list-watch.ts";
import { KINDS } from "../../../operator/kube/resources.ts";
import { systemClock } from "../../../operator/local/system-clock.ts";
import { SILENT_LOGGER } from "../../../sidecar/lib/ports/logger.ts";
import { FakeApiServer, type Seen } from "../../support/fake-api-server.ts";
import { clientOf, QUICK } from "./kube-fixture.ts";

const CLAIMS = "/api/v1/namespaces/ns/persistentvolumeclaims";

describe("list-watch", () => {
  let server: FakeApiServer;
  let transport: ApiTransport;
  let stop: AbortController;
  let running: Promise<void>;
  let changes: string[];
  let warnings: string[];

  beforeEach(async () => {
    server = await FakeApiServer.start();
    stop = new AbortController();
    running = Promise.resolve();
    changes = [];
    warnings = [];
  });
  afterEach(async () => {
    stop.abort(new Error("the test is over"));
    await running;
    transport.close();
    await server.close();
  });

  function start(limits: Partial<KubeLimits> = {}, changed = note): ListWatch {
    const made = clientOf(server);
    ({ transport } = made);
    const listWatch = new ListWatch({
      client: made.client,
      kind: KINDS.claim,
      scope: { namespace: "ns", labelSelector: "app=resilver" },
      clock: systemClock,
      random: () => 1,
      logger: { ...SILENT_LOGGER, warn: (message) => warnings.push(message) },
      changed,
      limits: { ...QUICK, ...limits },
    });
    running = listWatch.run(stop.signal);
    return listWatch;
  }

  function note({ key, object, previous }: ObjectChange): void {
    const show = (o: typeof object): string => {
      if (o === null) return "none";
      return `${o.metadata.uid ?? ""}/${JSON.stringify(o["size"])}`;
    };
    changes.push(`${key}: ${show(previous)} -> ${show(object)}`);
    server.nudge();
  }

  function put(name: string, size: number): void {
    server.put(`${CLAIMS}/${name}`, { metadata: { labels: { app: "resilver" } }, size });
  }

  const seen = (what: string): Promise<unknown> =>
    server.until(`${what} in ${changes.join("; ")}`, () => changes.includes(what));
  const watched = (count: number): Promise<unknown> =>
    server.until(`${count} watches`, () => watchRequests().length >= count && server.watches > 0);
  const watchRequests = (): readonly Seen[] =>
    server.requests.filter(({ query }) => query.get("watch") === "true");
  const lists = (): number =>
    server.requests.filter(({ query }) => query.get("watch") === null).length;

  it("lists, then follows; what nobody reads is not kept", async () => {
    put("a", 1);
    const cache = start();
    await seen("ns/a: none -> uid-1/1");
    await watched(1);
    assert.equal(cache.synced, true);
    assert.equal(cache.healthy, true);
    put("b", 2);
    await seen("ns/b: none -> uid-2/2");
    put("b", 3);
    await seen("ns/b: uid-2/2 -> uid-2/3");
    server.remove(`${CLAIMS}/a`);
    await seen("ns/a: uid-1/1 -> none");
    assert.equal(cache.get("ns", "a"), undefined);
    assert.equal(cache.get("ns", "b")?.kind, "PersistentVolumeClaim");
    assert.equal("managedFields" in (cache.get("ns", "b")?.metadata ?? {}), false);
    assert.equal([...cache.values()].length, 1);
    const [request] = watchRequests();
    assert.equal(request?.query.get("allowWatchBookmarks"), "true");
    assert.equal(request?.query.get("labelSelector"), "app=resilver");
    assert.equal(request?.query.get("timeoutSeconds"), "600");
  });

  it("goes on where it was after a connection breaks, without listing again", async () => {
    start();
    await watched(1);
    put("a", 1);
    await seen("ns/a: none -> uid-1/1");
    server.endWatches("break");
    put("a", 2);
    await seen("ns/a: uid-1/1 -> uid-1/2");
    assert.equal(lists(), 1);
  });

  it("a bookmark is where the next watch begins", async () => {
    start();
    await watched(1);
    server.put("/api/v1/namespaces/other/persistentvolumeclaims/x", { metadata: {} });
    server.bookmark(CLAIMS);
    server.endWatches("end");
    await watched(2);
    const versions = watchRequests().map(({ query }) => Number(query.get("resourceVersion")));
    assert.ok((versions[1] ?? 0) > (versions[0] ?? 0), versions.join());
  });

  for (const status of [403, 429, 500, 503]) {
    it(`${status} on a watch is not its end`, async () => {
      let left = 3;
      server.fault = ({ query }) => {
        if (query.get("watch") !== "true" || left === 0) return undefined;
        left -= 1;
        return { kind: "status", status };
      };
      start();
      await watched(4);
      put("a", 1);
      await seen("ns/a: none -> uid-1/1");
    });
  }

  for (const kind of ["drop", "stall"] as const) {
    it(`a list that meets a ${kind} is tried again`, async () => {
      let left = 2;
      server.fault = () => {
        if (left === 0) return undefined;
        left -= 1;
        return { kind };
      };
      put("a", 1);
      start({ callDeadlineMs: 50 });
      await seen("ns/a: none -> uid-1/1");
      assert.ok(server.requests.length >= 3);
    });
  }

  it("waits as long as the server asks", async () => {
    let asked = 0;
    server.fault = ({ query }) => {
      if (query.get("watch") !== "true" || asked > 0) return undefined;
      asked = performance.now();
      return { kind: "status", status: 429, headers: { "retry-after": "1" } };
    };
    start();
    await watched(2);
    assert.ok(performance.now() - asked >= 990, String(performance.now() - asked));
  });

  it("a version that has expired: lists anew, and tells what changed meanwhile", async () => {
    put("a", 1);
    put("b", 1);
    start();
    await watched(1);
    server.muted = true;
    server.remove(`${CLAIMS}/a`);
    put("b", 2);
    put("c", 3);
    server.compact();
    server.muted = false;
    server.endWatches("end");
    await seen("ns/a: uid-1/1 -> none");
    await seen("ns/b: uid-2/1 -> uid-2/2");
    await seen("ns/c: none -> uid-3/3");
  });

  it("a page that has expired in mid list: begins the list again", async () => {
    for (let i = 0; i < 600; i += 1) put(`c-${i}`, i);
    let forgotten = false;
    server.fault = ({ query }) => {
      if (query.get("continue") === null || forgotten) return undefined;
      forgotten = true;
      server.forgetPages();
      return undefined;
    };
    const cache = start();
    await cache.whenSynced(stop.signal);
    assert.equal([...cache.values()].length, 600);
    assert.equal(forgotten, true);
  });

  it("an object that was made again in a gap shows both identities", async () => {
    put("a", 1);
    start();
    await watched(1);
    server.muted = true;
    server.remove(`${CLAIMS}/a`);
    put("a", 1);
    server.compact();
    server.muted = false;
    server.endWatches("break");
    await seen("ns/a: uid-1/1 -> uid-2/1");
  });

  it("a connection that has silently died is noticed", async () => {
    start();
    await watched(1);
    server.muted = true;
    put("a", 1);
    server.muted = false;
    await seen("ns/a: none -> uid-1/1");
    assert.ok(watchRequests().length >= 2);
  });

  it("silence alone is no failure: no bookmark comes before a kind's first change", async () => {
    const cache = start();
    await watched(3);
    assert.deepEqual(warnings, []);
    assert.ok(cache.healthy);
    assert.equal(lists(), 1);
  });

  it("headers that never come do not keep it waiting", async () => {
    let held = false;
    server.fault = ({ query }) => {
      if (query.get("watch") !== "true" || held) return undefined;
      held = true;
      return { kind: "stall" };
    };
    const cache = start();
    await cache.whenSynced(stop.signal);
    await watched(2);
  });

  it("events out of order, twice, or cut off do not bring back what is past", async () => {
    put("a", 1);
    const cache = start();
    await watched(1);
    const old = structuredClone(server.get(`${CLAIMS}/a`));
    put("a", 2);
    await seen("ns/a: uid-1/1 -> uid-1/2");
    server.tell(CLAIMS, { type: "MODIFIED", object: old });
    server.tell(CLAIMS, { type: "DELETED", object: old });
    server.tell(CLAIMS, '{"type":"MODIFIED","object":{"meta');
    await watched(2);
    put("a", 3);
    await seen("ns/a: uid-1/2 -> uid-1/3");
    assert.equal(cache.get("ns", "a")?.["size"], 3);
    assert.equal(changes.length, 3);
  });

  it("lists everything anew from time to time, whatever the watch says", async () => {
    put("a", 1);
    start({ relistMs: 0 });
    await watched(1);
    server.endWatches("end");
    await watched(2);
    assert.ok(lists() >= 2);
  });

  it("a server that ends every watch at once is not asked without a pause", async () => {
    server.fault = ({ query }) =>
      query.get("watch") === "true" ? { kind: "body", text: "" } : undefined;
    start({ retryMinMs: 100, retryMaxMs: 200 });
    const began = performance.now();
    await server.until("four watches", () => watchRequests().length === 4);
    assert.ok(performance.now() - began >= 100 + 200 + 200 - 10);
  });

  it("what its owner throws ends it, with that error", async () => {
    put("a", 1);
    const broken = new Error("an invariant is broken");
    start({}, () => {
      throw broken;
    });
    await assert.rejects(running, broken);
    running = Promise.resolve();
  });

  it("ends at once when it is told to", async () => {
    const cache = start();
    await watched(1);
    stop.abort(new Error("stopped"));
    await running;
    assert.equal(cache.healthy, false);
    await assert.rejects(cache.whenSynced(stop.signal), { message: "stopped" });
  });
});
