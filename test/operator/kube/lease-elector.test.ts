import assert from "node:assert/strict";
import type { ApiTransport } from "../../../operator/kube/api-transport.ts";
import { LeaseElector } from "../../../operator/kube/lease-elector.ts";
import { systemClock } from "../../../operator/local/system-clock.ts";
import { SILENT_LOGGER } from "../../../sidecar/lib/ports/logger.ts";
import { FakeApiServer, type Stored } from "../../support/fake-api-server.ts";
import { clientOf } from "./kube-fixture.ts";

const LEASE = "/apis/coordination.k8s.io/v1/namespaces/ns/leases/resilver";
const LIMITS = { leaseDurationMs: 1_000, leaseRenewMs: 400, leaseRetryMs: 100 };

interface Runner {
  readonly elector: LeaseElector;
  readonly stop: AbortController;
  readonly ended: Promise<string>;
  readonly log: string[];
}

describe("lease elector", () => {
  let server: FakeApiServer;
  const transports: ApiTransport[] = [];
  const runners: Runner[] = [];

  beforeEach(async () => {
    server = await FakeApiServer.start();
  });
  afterEach(async () => {
    for (const { stop } of runners) stop.abort(new Error("the test is over"));
    await Promise.all(runners.map(({ ended }) => ended));
    for (const transport of transports) transport.close();
    runners.length = 0;
    transports.length = 0;
    await server.close();
  });

  /** Runs one process's elector; its work lasts until it is told to stop. */
  function start(identity: string, wallOffsetMs = 0, limits = LIMITS, watched = "*"): Runner {
    const { client, transport } = clientOf(server);
    transports.push(transport);
    const log: string[] = [];
    const elector = new LeaseElector({
      client,
      namespace: "ns",
      name: "resilver",
      identity,
      clock: { ...systemClock, nowMs: () => Date.now() + wallOffsetMs },
      logger: SILENT_LOGGER,
      limits,
      annotations: { watched },
      changed: () => server.nudge(),
    });
    const stop = new AbortController();
    const work = (signal: AbortSignal): Promise<void> =>
      new Promise((resolve) => {
        log.push("works");
        const end = (): void => {
          log.push(`told: ${(signal.reason as Error).message}`);
          resolve();
        };
        if (signal.aborted) end();
        else signal.addEventListener("abort", end, { once: true });
      });
    const ended = elector.run(stop.signal, work);
    const runner = { elector, stop, ended, log };
    runners.push(runner);
    return runner;
  }

  const spec = (): Record<string, unknown> =>
    (server.get(LEASE)?.["spec"] ?? {}) as Record<string, unknown>;
  const leads = ({ elector }: Runner): Promise<unknown> =>
    server.until("it leads", () => elector.leads);
  const renewals = (): number => server.requests.filter(({ method }) => method === "PUT").length;

  it("says of its holder what that says of itself, and leaves alone what others wrote", async () => {
    const a = start("a");
    await leads(a);
    const told = () => server.get(LEASE)?.metadata["annotations"];
    assert.deepEqual(told(), { watched: "*" });
    a.stop.abort(new Error("enough"));
    await a.ended;
    const lease = server.get(LEASE);
    assert.ok(lease);
    const annotations = { watched: "*", team: "storage" };
    server.put(LEASE, { ...lease, metadata: { ...lease.metadata, annotations } });
    await leads(start("b", 0, LIMITS, "ns"));
    assert.deepEqual(told(), { watched: "ns", team: "storage" });
    const renewed = renewals();
    await server.until("a renewal", () => renewals() > renewed);
    assert.deepEqual(told(), { watched: "ns", team: "storage" });
  });

  it("makes the Lease, renews it, and lets go of it at the end", async () => {
    const a = start("a");
    await leads(a);
    assert.equal(spec()["holderIdentity"], "a");
    assert.match(String(spec()["renewTime"]), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/);
    const renewed = renewals();
    await server.until("two renewals", () => renewals() >= renewed + 2);
    a.stop.abort(new Error("stopped"));
    assert.equal(await a.ended, "stopped");
    assert.equal(spec()["holderIdentity"], "");
    assert.deepEqual(a.log, ["works", "told: stopped"]);
  });

  it("only one leads; the next one begins as soon as the first lets go", async () => {
    const a = start("a");
    await leads(a);
    const b = start("b");
    await server.until("b has seen a", () => b.elector.holder === "a");
    assert.equal(b.elector.leads, false);
    a.stop.abort(new Error("stopped"));
    await leads(b);
    assert.deepEqual([spec()["holderIdentity"], spec()["leaseTransitions"]], ["b", 1]);
  });

  it("a holder that died is replaced once its time is over by the watcher's own clock", async () => {
    const renewTime = "2020-01-01T00:00:00.000000Z";
    server.put(LEASE, {
      metadata: {},
      spec: { holderIdentity: "dead", leaseDurationSeconds: 1, renewTime },
    });
    const beganMs = performance.now();
    const b = start("b");
    await leads(b);
    // The time in the Lease is long past: it must not be believed.
    assert.ok(performance.now() - beganMs >= 990, String(performance.now() - beganMs));
  });

  it("clocks that are hours apart do not matter", async () => {
    const a = start("a", -5 * 3_600_000);
    await leads(a);
    const b = start("b", 5 * 3_600_000);
    const renewed = renewals();
    await server.until("a has renewed for longer than it holds", () => renewals() >= renewed + 15);
    assert.deepEqual([a.elector.leads, b.elector.leads], [true, false]);
  });

  for (const kind of ["drop", "stall"] as const) {
    it(`an API server that does not answer (${kind}): stops before another may begin`, async () => {
      const a = start("a");
      await leads(a);
      server.fault = () => ({ kind });
      const beganMs = performance.now();
      assert.equal(await a.ended, "lost");
      const tookMs = performance.now() - beganMs;
      assert.ok(tookMs < LIMITS.leaseDurationMs, String(tookMs));
      assert.deepEqual(a.log, ["works", "told: the leader lease was lost"]);
      assert.equal(spec()["holderIdentity"], "a", "what was lost is not let go of");
    });
  }

  it("a few failed renewals are not yet a loss", async () => {
    const a = start("a");
    await leads(a);
    let left = 2;
    server.fault = () => {
      if (left === 0) return undefined;
      left -= 1;
      return { kind: "status", status: 500 };
    };
    const renewed = renewals();
    await server.until("renewed again", () => left === 0 && renewals() >= renewed + 5);
    assert.equal(a.elector.leads, true);
  });

  it("a server that is slow with each answer: goes on leading, by one call a renewal", async () => {
    const a = start("a", 0, { leaseDurationMs: 5_000, leaseRenewMs: 2_000, leaseRetryMs: 500 });
    await leads(a);
    const before = server.requests.length;
    server.fault = () => ({ kind: "late", afterMs: 800 });
    await server.until("four renewals", () => server.requests.length >= before + 4);
    assert.equal(a.elector.leads, true);
    assert.deepEqual(
      server.requests.slice(before).map(({ method }) => method),
      ["PUT", "PUT", "PUT", "PUT"],
    );
  });

  it("a Lease that somebody touched: reads it again, and goes on", async () => {
    const a = start("a");
    await leads(a);
    const lease = server.get(LEASE) as Stored;
    server.put(LEASE, { ...lease, metadata: { ...lease.metadata, labels: { touched: "yes" } } });
    const renewed = renewals();
    await server.until("renewed again", () => renewals() >= renewed + 4);
    assert.equal(a.elector.leads, true);
    assert.deepEqual(server.get(LEASE)?.metadata.labels, { touched: "yes" });
  });

  it("a Lease that was stolen: stops at once", async () => {
    const a = start("a");
    await leads(a);
    const lease = server.get(LEASE) as Stored;
    server.put(LEASE, { ...lease, spec: { ...spec(), holderIdentity: "thief" } });
    assert.equal(await a.ended, "lost");
    assert.equal(spec()["holderIdentity"], "thief");
  });

  it("two that begin together: one of them leads", async () => {
    const a = start("a");
    const b = start("b");
    await server.until("one leads", () => a.elector.leads || b.elector.leads);
    const renewed = renewals();
    await server.until("some renewals", () => renewals() >= renewed + 3);
    assert.equal(Number(a.elector.leads) + Number(b.elector.leads), 1);
  });
});
