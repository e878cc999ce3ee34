/**
 * Operators of two releases, each with a Lease of its own, that watch the same store: one of them
 * looks after it. With real sidecars; the API server and the kubelet are stand-ins.
 */
import assert from "node:assert/strict";
import type { KubeLimits } from "../../operator/kube/limits.ts";
import { isAllowed, operatorRoles } from "../support/access.ts";
import type { Seen } from "../support/fake-api-server.ts";
import { OperatorLife, type RunningOperator, WAIT_MS } from "../support/operator-life.ts";

/** That of the golden files. */
const RELEASE = "resilver-system";
/** Both operators' own, by their tokens. */
const LEASES = { one: "elsewhere/resilver-operator", two: `${RELEASE}/resilver-operator` };
const LEASE_OF_ONE = "/apis/coordination.k8s.io/v1/namespaces/elsewhere/leases/resilver-operator";
/** A fifth of what it is, and looks as often as that asks for. */
const SHORT: Partial<KubeLimits> = {
  ...{ leaseDurationMs: 3_000, leaseRenewMs: 2_000, leaseRetryMs: 300 },
  ...{ otherLookMs: 500, otherLeaseMs: 400, freeLeaseMs: 50, otherFreeMs: 3_000 },
};

describe("operators of two releases", () => {
  let life: OperatorLife;

  beforeEach(async () => {
    life = await OperatorLife.begin();
    const roles = operatorRoles("chart-default");
    life.server.fault = (request) =>
      request.token === "two" && !isAllowed(request, roles)
        ? { kind: "status", status: 403 }
        : undefined;
  });
  afterEach(async () => {
    await life.close();
  });

  const start = (
    token: "one" | "two",
    namespaces: readonly string[] | null = null,
  ): RunningOperator => {
    const [leaseNamespace = ""] = LEASES[token].split("/");
    const config = life.server.config(token);
    return life.start(token, { config, leaseNamespace, namespaces, limits: SHORT });
  };
  const leads = (running: RunningOperator): Promise<unknown> =>
    life.server.until("it has its Lease", () => running.operator.leads, WAIT_MS);
  const owner = (): unknown => life.column("operator");

  /** What an operator wrote of the store, or of anything that is the store's. */
  const writes = (token: string): readonly Seen[] =>
    life.server.requests.filter(({ token: of, method, path }) => {
      return of === token && method !== "GET" && !/\/(leases|events)(\/|$)/u.test(path);
    });
  const told = () =>
    life.server.list("/apis/events.k8s.io/v1/events").filter((event) => {
      return event["reason"] === "OtherOperator";
    });

  /** A store that is the first one's, while the second one looks on. */
  async function watched(): Promise<{ one: RunningOperator; two: RunningOperator }> {
    const one = start("one");
    life.apply({ replicas: 1 });
    await life.whole(1);
    const two = start("two");
    await life.server.until("it is told of", () => told().length > 0, WAIT_MS);
    return { one, two };
  }

  /** Its only pod is made again, which takes an election. */
  async function proveLookedAfter(): Promise<void> {
    const uid = life.pod("demo-0")?.metadata.uid;
    const { term } = life.record() as unknown as { term: number };
    life.server.remove(life.path("v1", "pods", "demo-0"));
    await life.server.until(
      "its pod is another one, which leads",
      () => {
        const { term: now, leader } = life.record() as unknown as { term: number; leader: unknown };
        return life.pod("demo-0")?.metadata.uid !== uid && now > term && leader !== null;
      },
      WAIT_MS,
    );
    await life.whole(1);
  }

  it("one looks after the store, the other says so and writes nothing; then that one, when it ends", async () => {
    const { one } = await watched();
    assert.equal(owner(), LEASES.one);
    await proveLookedAfter();
    assert.deepEqual(writes("two"), []);
    assert.match(String(told()[0]?.["note"]), /elsewhere\/resilver-operator, whose Lease is held/u);
    assert.equal(told().length, 1);
    await life.end(one);
    const before = writes("one").length;
    await life.server.until("it is taken over", () => owner() === LEASES.two, WAIT_MS);
    await proveLookedAfter();
    assert.equal(writes("one").length, before);
  });

  it("one that watches other namespaces from now on leaves its stores here to the other", async () => {
    const { one } = await watched();
    await life.end(one);
    await leads(start("one", ["more"]));
    await life.server.until("it is taken over", () => owner() === LEASES.two, WAIT_MS);
    await proveLookedAfter();
  });

  it("one that is made anew keeps its stores", async () => {
    let { one } = await watched();
    for (let times = 0; times < 3; times += 1) {
      await life.end(one);
      one = start("one");
      await leads(one);
      await proveLookedAfter();
    }
    assert.deepEqual([owner(), writes("two")], [LEASES.one, []]);
  });

  it("one that is cut off and runs on is succeeded once its Lease has run out, not before", async () => {
    const { one } = await watched();
    let renewedAt = 0;
    let takenAt = 0;
    let cut = false;
    const refuse = life.server.fault;
    life.server.fault = (request) => {
      const { token, method, path } = request;
      if (token === "one" && cut) return { kind: "drop" };
      if (method === "PUT" && path === LEASE_OF_ONE) renewedAt = performance.now();
      if (token === "two" && path === `${life.storePath}/status`) takenAt ||= performance.now();
      return refuse(request);
    };
    await life.server.until("it is renewed", () => renewedAt > 0, WAIT_MS);
    cut = true;
    await life.server.until("it is taken over", () => owner() === LEASES.two, WAIT_MS);
    const afterMs = takenAt - renewedAt;
    assert.ok(afterMs >= 3_000, `taken over ${afterMs} ms after the Lease was renewed`);
    assert.equal(await one.ended, "lost");
    await proveLookedAfter();
  });

  it("a store that is made while both are there is looked after by one", async () => {
    for (const running of [start("one"), start("two")]) await leads(running);
    life.apply({ replicas: 1 });
    await life.whole(1);
    await life.server.until("it is told of", () => told().length > 0, WAIT_MS);
    const loser = owner() === LEASES.one ? "two" : "one";
    // Both may have claimed it: the later claim was refused.
    const claim = `${life.storePath}/status`;
    const others = writes(loser).filter(({ path }) => path !== claim);
    assert.deepEqual(others, []);
    assert.ok(writes(loser).length <= 1);
  });

  it("taken over by hand: what the first one does for it has ended by then", async () => {
    await watched();
    const store = life.store();
    const status = { ...(store["status"] as object), operator: LEASES.two };
    life.server.put(life.storePath, { ...store, status });
    // By its watch: no look at the store is due for longer than this.
    await life.server.until("the first one says so", () => told().length === 2, 10_000);
    const before = writes("one").length;
    await proveLookedAfter();
    assert.equal(writes("one").length, before);
    assert.equal(owner(), LEASES.two);
  });
});
