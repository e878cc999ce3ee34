/**
 * What people change of a store that serves: more pods and fewer, another namespace, the store made
 * again. With real sidecars; the API server and the kubelet are stand-ins.
 */
import assert from "node:assert/strict";
import { findFreePorts } from "../../operator/local/free-ports.ts";
import { OperatorLife, type RecordSpec, WAIT_MS } from "../support/operator-life.ts";

const GROUP = "resilver.io/v1alpha1";
const DEFAULT = { name: "default" };
/** Copying to two new replicas and from them takes its time. */
const SCALE_MS = 120_000;

/** What the record and the StatefulSet were at some moment. */
interface Moment {
  readonly record: RecordSpec;
  readonly pods: number;
}

describe("a store that people change", () => {
  let life: OperatorLife;

  beforeEach(async () => {
    life = await OperatorLife.begin();
  });
  afterEach(async () => {
    await life.close();
  });

  /** All that is different from what was before, in order. */
  function moments(): readonly Moment[] {
    const seen: Moment[] = [];
    let last = "";
    life.server.onChange(() => {
      const record = life.record();
      const spec = life.server.get(life.path("apps/v1", "statefulsets", "demo"))?.["spec"];
      if (record === undefined || spec === undefined) return;
      const { ensemble, members, storeId } = record;
      const roles = members.map(({ node, role }) => ({ node, role }));
      const { replicas: pods } = spec as { replicas: number };
      const moment = { record: { storeId, ensemble, members: roles }, pods };
      const text = JSON.stringify(moment);
      if (text === last) return;
      last = text;
      seen.push(structuredClone(moment));
    });
    return seen;
  }

  async function proveKept(prefixes: readonly string[]): Promise<void> {
    await life.client(async (client) => {
      for (const prefix of prefixes) {
        for (let i = 0; i < 20; i += 1) {
          const found = await client.get(`${prefix}-${i}`);
          assert.ok(found !== null, `${prefix}-${i} is lost`);
          assert.ok(Buffer.alloc(1_000, i).equals(found.value), `${prefix}-${i} is another`);
        }
      }
    });
  }

  const ensembleSize = (size: number) =>
    life.server.until(`${size} voters`, () => life.record()?.ensemble.length === size, SCALE_MS);

  it("three pods to five and back: new ones learn first, pods go last", async function () {
    this.timeout(4 * SCALE_MS);
    life.start("one");
    life.apply({ replicas: 3, namespaces: [DEFAULT] });
    await life.whole(3);
    await life.write(20, "three");
    const seen = moments();
    life.apply({ replicas: 5, namespaces: [DEFAULT] });
    await ensembleSize(5);
    await life.whole(5);
    await life.write(20, "five");
    const grown = seen.length;
    for (const node of ["demo-3", "demo-4"]) {
      const roles = seen.flatMap(({ record }) => record.members.filter((m) => m.node === node));
      assert.equal(roles[0]?.role, "learner", `${node} began as ${roles[0]?.role}`);
      assert.equal(roles.at(-1)?.role, "voter");
    }
    life.apply({ replicas: 3, namespaces: [DEFAULT] });
    await ensembleSize(3);
    await life.server.until(
      "the pods are gone",
      () => life.pod("demo-3") === undefined && life.pod("demo-4") === undefined,
      SCALE_MS,
    );
    await life.whole(3);
    const shrinking = seen.slice(grown);
    for (const { record, pods } of shrinking) {
      const held = record.members.map(({ node }) => Number(node.split("-")[1]));
      assert.ok(Math.max(...held) < pods, `${pods} pods, members ${JSON.stringify(record)}`);
    }
    assert.deepEqual([shrinking[0]?.pods, shrinking.at(-1)?.pods], [5, 3]);
    for (const [index, { record }] of seen.entries()) {
      const before = seen[index - 1]?.record.ensemble ?? record.ensemble;
      const moved = Math.abs(record.ensemble.length - before.length);
      assert.ok(moved <= 1, `${before.join()} to ${record.ensemble.join()} in one step`);
    }
    await proveKept(["three", "five"]);
  });

  it("a namespace with two shards is added, and no pod is out of service for it", async () => {
    life.start("one");
    life.apply({ namespaces: [DEFAULT] });
    await life.whole(3);
    await life.write(20);
    const uids = () => ["demo-0", "demo-1", "demo-2"].map((name) => life.pod(name)?.metadata.uid);
    const before = uids();
    const since = life.server.requests.length;
    const states = new Set<unknown>();
    const off = life.server.onChange(() => states.add(life.column("state")));
    life.apply({ namespaces: [DEFAULT, { name: "more", shards: 2 }] });
    await life.server.until("all serve", () => life.column("quorate") === "3/3", WAIT_MS);
    await life.whole(3);
    off();
    // What served before serves on; a new follower may be slow on a busy machine.
    states.delete("Degraded");
    assert.deepEqual([...states], ["Available"]);
    assert.deepEqual(uids(), before);
    const gates = life.server.requests.slice(since).filter(({ method, path }) => {
      return method === "PATCH" && /\/pods\/demo-\d\/status$/u.test(path);
    });
    assert.equal(gates.length, 0, JSON.stringify(gates.map(({ body }) => body)));
    for (const shard of ["more.1", "more.2"]) {
      assert.equal(life.record(shard)?.ensemble.length, 3, shard);
    }
    await life.write(20, "key", "more");
    await proveKept(["key"]);
    // The same key, in another namespace: neither is the other's.
    await life.client((client) => client.put("key-0", Buffer.from("more")), "more");
    await proveKept(["key"]);
  });

  it("a pod that is back leads shards again, after a while and one at a time", async function () {
    this.timeout(300_000);
    life.start("one");
    life.apply({ namespaces: [{ name: "default", shards: 4 }] });
    await life.whole(3);
    // A store waits for up to a minute before it spreads its leaders.
    const led = (pods: string) =>
      life.server.until(pods, () => life.column("leaders") === pods, 60_000 + WAIT_MS);
    await led("demo-0,demo-1,demo-2");
    life.kubelet.hold("demo-0");
    life.server.remove(life.path("v1", "pods", "demo-0"));
    await led("demo-1,demo-2");
    life.kubelet.release("demo-0");
    await life.whole(3);
    await led("demo-0,demo-1,demo-2");
    await life.whole(3);
  });

  it("looked after under another identity: what was counted under the old one ends", async () => {
    const metricsPort = await findFreePorts(1, Math.random);
    const counted = async (): Promise<boolean> => {
      const page = await (await fetch(`http://127.0.0.1:${metricsPort}/metrics`)).text();
      return page.includes(`{store="${life.store().metadata.uid}"`);
    };
    life.start("one", { metricsPort });
    life.apply({ replicas: 1 });
    await life.whole(1);
    assert.ok(await counted());
    const shard = life.path(GROUP, "storeshards", "demo.default.0");
    const spec = { ...life.record(), storeId: "another" };
    life.server.put(shard, { ...life.server.get(shard), spec });
    await life.server.until("it is seen", () => life.column("storeId") === "another", WAIT_MS);
    assert.ok(!(await counted()));
  });

  /** The store is made again over the data that it left behind, without its record. */
  async function madeAgainWithoutRecord(): Promise<{ storeId: string; putBack: () => void }> {
    // A machine that is not there would be all that is told of pods that are not ready.
    const conditions = [{ type: "Ready", status: "True" }];
    life.server.put("/api/v1/nodes/machine", { metadata: {}, status: { conditions } });
    life.start("one");
    life.apply({});
    await life.whole(3);
    await life.write(20);
    const { storeId } = life.record() ?? { storeId: "" };
    const shard = life.path(GROUP, "storeshards", "demo.default.0");
    const kept = life.server.get(shard);
    life.deleteStore();
    const told = () => life.server.get(shard)?.["status"] as { state?: string } | undefined;
    await life.server.until("it is kept", () => told()?.state === "Retained", WAIT_MS);
    life.server.remove(shard);
    await life.server.until("its processes have ended", () => life.kubelet.running === 0, WAIT_MS);
    life.apply({});
    await life.server.until("it is told", () => life.column("state") === "RecordLost", WAIT_MS);
    assert.notEqual(life.column("storeId"), storeId);
    return { storeId, putBack: () => life.server.put(shard, { ...kept }) };
  }

  it("made again without its StoreShard: RecordLost, and it goes on when that is back", async () => {
    const { storeId, putBack } = await madeAgainWithoutRecord();
    const { reason, message = "" } = life.condition("Available") ?? {};
    assert.equal(reason, "RecordLost");
    assert.match(message, /^default\/0: there is no record of this shard, yet demo-\d holds data/u);
    assert.ok(message.includes(`that store ${storeId} wrote (`), message);
    assert.match(message, /restore the records of store .* from a backup; to start empty, /u);
    assert.match(message, /; see runbooks\/conditions\/RecordLost\.md$/u);
    const degraded = life.condition("Degraded")?.message ?? "";
    assert.ok(degraded.includes(`storeId is ${storeId}, allowed: `), degraded);
    assert.equal(life.record(), undefined, "no record is made over the data");
    putBack();
    await life.whole(3);
    assert.equal(life.column("storeId"), storeId);
    await proveKept(["key"]);
  });

  it("made again without its StoreShard, and given empty volumes: begins anew", async () => {
    const { storeId } = await madeAgainWithoutRecord();
    for (const pod of ["demo-0", "demo-1"]) life.replaceVolumes(pod);
    await life.server.until(
      "one is left that holds data",
      () => life.condition("Available")?.message.includes("yet demo-2 holds data") === true,
      WAIT_MS,
    );
    assert.equal(life.record(), undefined, "two empty ones are no new store");
    life.replaceVolumes("demo-2");
    await life.whole(3);
    assert.notEqual(life.record()?.storeId, storeId);
    await life.client(async (client) => assert.equal(await client.get("key-0"), null));
  });
});
