/**
 * The operator with `watchNamespaces`: with the rights of the rendered Roles alone, which hold in
 * these namespaces and nowhere else. The API server, which refuses all else, and the kubelet are
 * stand-ins.
 */
import assert from "node:assert/strict";
import { isAllowed, operatorRoles } from "../support/access.ts";
import type { Seen } from "../support/fake-api-server.ts";
import { OperatorLife, WAIT_MS } from "../support/operator-life.ts";

/** Of the golden file. */
const WATCHED = ["team-a", "team-b"];
const OPERATOR = "resilver-system";
/** Looks at stores of others sooner than it would. */
const SHORT = { otherLookMs: 500, otherLeaseMs: 400, otherFreeMs: 1_000 };

describe("operator of some namespaces", () => {
  let life: OperatorLife;
  let refused: Seen[];

  beforeEach(async () => {
    life = await OperatorLife.begin("team-b");
    const roles = operatorRoles("chart-two-namespaces");
    assert.deepEqual(
      roles.map(({ kind }) => kind),
      ["Role", "Role", "Role"],
    );
    refused = [];
    life.server.fault = (request) => {
      if (isAllowed(request, roles)) return undefined;
      refused.push(request);
      return { kind: "status", status: 403 };
    };
    life.start("one", { namespaces: WATCHED, leaseNamespace: OPERATOR, limits: SHORT });
  });
  afterEach(async () => {
    await life.close();
  });

  /** Machines belong to no namespace; without a look at them it does without. */
  const refusals = (): readonly string[] =>
    refused
      .filter(({ path }) => !path.startsWith("/api/v1/nodes/"))
      .map(({ method, path }) => `${method} ${path}`);

  it("needs no right beyond them for a store's whole life", async () => {
    const spec = { replicas: 3, storage: { deletionPolicy: "Delete" } };
    life.apply(spec);
    await life.whole(3);
    await life.write(5);
    life.replaceVolumes("demo-1");
    await life.server.until(
      "it is rebuilt",
      () => life.recoveries().some(({ phase }) => phase === "Succeeded"),
      WAIT_MS,
    );
    await life.whole(3);
    life.apply({ ...spec, image: "resilver:next" });
    await life.server.until(
      "a pod is evicted",
      () => life.server.requests.some(({ path }) => path.endsWith("/eviction")),
      WAIT_MS,
    );
    const { metadata } = life.store();
    life.server.put(life.storePath, {
      ...life.store(),
      metadata: { ...metadata, deletionTimestamp: "2026-01-01T00:00:00Z" },
    });
    await life.server.until(
      "it is let go",
      () => life.store().metadata.finalizers?.length === 0,
      WAIT_MS,
    );
    assert.deepEqual(refusals(), []);
  });

  /** A store that another operator looked after. */
  function putStoreOf(operator: string): void {
    const of = { apiVersion: "resilver.io/v1alpha1", kind: "ReplicatedStore" };
    life.server.put(life.storePath, {
      ...{ ...of, metadata: {}, spec: { replicas: 1 } },
      status: { operator },
    });
  }
  const leases = "/apis/coordination.k8s.io/v1/namespaces";

  it("takes over the store of an operator that is gone, where it may see that", async () => {
    putStoreOf("team-a/resilver-operator");
    await life.whole(1);
    const asked = life.server.requests.filter(({ path }) => path.startsWith(`${leases}/team-a/`));
    assert.deepEqual(
      [[...new Set(asked.map(({ path }) => path))], refusals()],
      [[`${leases}/team-a/leases/resilver-operator`], []],
    );
  });

  it("leaves that of another alone where it may not, names the right, and can be given it", async () => {
    putStoreOf("elsewhere/resilver-operator");
    const note = await life.server.until(
      "it is told",
      () => {
        const [event] = life.server.list("/apis/events.k8s.io/v1/events");
        return event === undefined ? null : String(event["note"]);
      },
      WAIT_MS,
    );
    assert.match(note, /"get leases\.coordination\.k8s\.io" in namespace elsewhere is missing/u);
    const refusedOnce = [...new Set(refusals())];
    assert.deepEqual(refusedOnce, [`GET ${leases}/elsewhere/leases/resilver-operator`]);
    const writes = life.server.requests.filter(({ method, path }) => {
      return method !== "GET" && !/\/(leases|events)(\/|$)/u.test(path);
    });
    assert.deepEqual(writes, []);
    // What it says is to be typed.
    const patch = JSON.parse(/--patch '(.*?)'/u.exec(note)?.[1] ?? "") as { status: object };
    life.server.put(life.storePath, { ...life.store(), ...patch });
    await life.whole(1);
  });

  it("leaves stores of other namespaces alone", async () => {
    const elsewhere = life.storePath.replace("team-b", "team-c");
    const of = { apiVersion: "resilver.io/v1alpha1", kind: "ReplicatedStore" };
    life.server.put(elsewhere, { ...of, metadata: {}, spec: { replicas: 1 } });
    life.apply({ replicas: 1 });
    await life.whole(1);
    assert.equal(life.server.get(elsewhere)?.["status"], undefined);
    const asked = life.server.requests.filter(({ path }) => path.includes("team-c"));
    assert.deepEqual([asked.length, refusals()], [0, []]);
  });
});
