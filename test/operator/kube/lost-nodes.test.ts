import assert from "node:assert/strict";
import { parseReplicatedStore } from "../../../operator/api/v1alpha1/validation.ts";
import { LostNodes } from "../../../operator/kube/lost-nodes.ts";
import { podFacts } from "../../../operator/kube/pods.ts";
import { KINDS, type KubeObject, resourcePath } from "../../../operator/kube/resources.ts";
import type { StoreSight } from "../../../operator/kube/store-view.ts";
import { IN_SYNC_GATE } from "../../../operator/specs/labels.ts";
import { systemClock } from "../../../operator/local/system-clock.ts";
import { NODE_LOSS_ROLE, operatorRoles, rightsIn, rightsOf } from "../../support/access.ts";
import { FakeApiServer } from "../../support/fake-api-server.ts";
import type { Clock } from "../../../sidecar/lib/ports/clock.ts";
import { replicaView, shardViewOf } from "../local/status-fixture.ts";
import { call, clientOf } from "./kube-fixture.ts";

const PODS = ["demo-0", "demo-1", "demo-2"];
const HOSTNAME = "kubernetes.io/hostname";

/** Affinity of a volume to whatever has this label. */
const boundTo = (key: string, value: string) => ({
  required: {
    nodeSelectorTerms: [{ matchExpressions: [{ key, operator: "In", values: [value] }] }],
  },
});

const readyNode = (name: string, more: object = {}) => ({
  metadata: { name, labels: { [HOSTNAME]: name } },
  spec: {},
  status: { conditions: [{ type: "Ready", status: "True" }] },
  ...more,
});

/** A store of three whose last pod waits for the machine `m2`. */
class World {
  readonly server: FakeApiServer;
  readonly #lost: LostNodes;
  /** What there is a StoreShard of. */
  shards = ["demo.default.0"];
  nodeLossGrace = "0";
  onNodeLoss = "Replace";
  answering: readonly string[] = PODS;

  constructor(server: FakeApiServer, clock: Clock = systemClock) {
    this.server = server;
    this.#lost = new LostNodes(clientOf(server).client, clock);
    for (const name of PODS) {
      this.pod(name, name !== "demo-2");
      for (const volume of ["data", "wal"]) {
        server.put(resourcePath(KINDS.claim, "ns", `${volume}-${name}`), {
          metadata: { name: `${volume}-${name}` },
          spec: { volumeName: `pv-${volume}-${name}` },
        });
      }
    }
    this.volumes(boundTo(HOSTNAME, "m2"));
  }

  /** A pod that runs on the machine of its number, or waits for one. */
  pod(name: string, runs: boolean): void {
    const spec = runs ? { nodeName: name.replace("demo-", "m") } : {};
    const conditions = [{ type: "Ready", status: runs ? "True" : "False" }];
    const path = resourcePath(KINDS.pod, "ns", name);
    const { uid } = (this.server.get(path)?.metadata ?? {}) as { uid?: string };
    const metadata = uid === undefined ? { name } : { name, uid };
    this.server.put(path, { metadata, spec, status: { conditions } });
  }

  volumes(nodeAffinity: object): void {
    for (const volume of ["data", "wal"]) {
      const name = `pv-${volume}-demo-2`;
      const path = resourcePath(KINDS.volume, null, name);
      this.server.put(path, { metadata: { name }, spec: { nodeAffinity } });
    }
  }

  node(node: { readonly metadata: { readonly name: string } }): void {
    this.server.put(resourcePath(KINDS.node, null, node.metadata.name), { ...node });
  }

  object(kind: (typeof KINDS)[keyof typeof KINDS], name: string): KubeObject | undefined {
    return this.server.get(resourcePath(kind, "ns", name)) as KubeObject | undefined;
  }

  /** Another operator looks after the store. */
  leave(): void {
    this.#lost.forget("u");
  }

  async look() {
    const pods = PODS.flatMap((name) => this.object(KINDS.pod, name) ?? []);
    const { nodeLossGrace, onNodeLoss } = this;
    const store = parseReplicatedStore({
      apiVersion: "resilver.io/v1alpha1",
      kind: "ReplicatedStore",
      metadata: { name: "demo", namespace: "ns", uid: "u" },
      spec: { recovery: { nodeLossGrace, onNodeLoss } },
    });
    const voting = PODS.map((node) =>
      replicaView(node, node === "demo-2" ? { voting: false, reach: "down" } : {}),
    );
    const view = shardViewOf(voting, { ensemble: PODS });
    const sight = {
      store,
      storeId: "u",
      pods: pods.map((pod) => podFacts(pod, IN_SYNC_GATE)),
      records: [],
      claims: new Map(),
      shards: this.shards.map((name) => ({ metadata: { name } })),
    } as unknown as StoreSight;
    const claims = (name: string) => this.object(KINDS.claim, name);
    const answers = (node: string) => Promise.resolve(this.answering.includes(node));
    const look = { sight, views: [view], claims, answers };
    return await this.#lost.reconcile(look, call().signal);
  }
}

describe("claims on lost machines", () => {
  let world: World;

  beforeEach(async () => {
    world = new World(await FakeApiServer.start());
  });

  afterEach(() => world.server.close());

  it("are deleted when the Node is gone, and the pod is made again", async () => {
    const report = await world.look();
    assert.deepEqual(report?.deleted, ["data-demo-2", "wal-demo-2"]);
    assert.match(report?.message ?? "", /m2 \(gone\); data-demo-2 and wal-demo-2 were deleted/u);
    for (const volume of ["data", "wal"]) {
      assert.equal(world.object(KINDS.claim, `${volume}-demo-2`), undefined);
      assert.ok(world.object(KINDS.claim, `${volume}-demo-1`));
    }
    assert.equal(world.object(KINDS.pod, "demo-2"), undefined);
    assert.ok(world.object(KINDS.pod, "demo-1"));
  });

  it("are kept while the machine is ready, silent, or waited for", async () => {
    world.node(readyNode("m2"));
    assert.equal(await world.look(), null);
    world.node(readyNode("m2", { status: { conditions: [{ type: "Ready", status: "Unknown" }] } }));
    assert.match((await world.look())?.message ?? "", /m2 \(not ready\); when it will not/u);
    world.server.remove(resourcePath(KINDS.node, null, "m2"));
    world.nodeLossGrace = "10m";
    assert.match((await world.look())?.message ?? "", /replaced when it is still so in \d+ s/u);
    assert.ok(world.object(KINDS.claim, "data-demo-2"));
  });

  it("are deleted when a person declares the machine out of service", async () => {
    const taints = [{ key: "node.kubernetes.io/out-of-service", effect: "NoExecute" }];
    world.node(readyNode("m2", { spec: { taints } }));
    assert.match((await world.look())?.message ?? "", /m2 \(back\); take the taint/u);
    world.node(readyNode("m2", { spec: { taints }, status: {} }));
    assert.equal((await world.look())?.deleted.length, 2);
  });

  it("are kept when the machine goes by another name, or the volume can be reached from others", async () => {
    world.node({
      ...readyNode("ip-10-0-0-2"),
      metadata: { name: "ip-10-0-0-2", labels: { [HOSTNAME]: "m2" } },
    } as never);
    assert.equal(await world.look(), null);
    world.server.remove(resourcePath(KINDS.node, null, "ip-10-0-0-2"));
    world.volumes(boundTo("topology.kubernetes.io/zone", "m2"));
    assert.equal(await world.look(), null);
    world.volumes({});
    assert.equal(await world.look(), null);
  });

  it("are kept while the coordinator has nothing to say of one of the shards", async () => {
    world.shards = ["demo.default.0", "demo.more.1"];
    assert.match((await world.look())?.message ?? "", /nothing is known of demo\.more\.1; looks/u);
    world.shards = [];
    assert.match((await world.look())?.message ?? "", /nothing is known of default\/0; looks/u);
    assert.ok(world.object(KINDS.claim, "data-demo-2"));
  });

  it("are found by the labels of drivers of local volumes", async () => {
    world.volumes(boundTo("topology.topolvm.io/node", "m2"));
    assert.equal((await world.look())?.deleted.length, 2);
  });

  it("are kept while one of the others does not answer where its present pod is", async () => {
    world.answering = ["demo-0"];
    assert.match((await world.look())?.message ?? "", /; demo-1 does not answer, looks again$/u);
    world.answering = PODS;
    const stale = world.object(KINDS.pod, "demo-1");
    world.pod("demo-1", false);
    const before = world.object.bind(world);
    world.object = (kind, name) => (name === "demo-1" && stale ? stale : before(kind, name));
    assert.match((await world.look())?.message ?? "", /; demo-1 has changed, looks again$/u);
    world.object = before;
    assert.ok(world.object(KINDS.claim, "data-demo-2"));
  });

  it("are kept until the machine was found lost at every look of the grace time", async () => {
    let nowMs = 0;
    const clock = { ...systemClock, monotonicMs: () => nowMs };
    world = new World(world.server, clock);
    world.nodeLossGrace = "10m";
    // A drain: the pod waits for a machine that is there.
    world.node(readyNode("m2"));
    assert.equal(await world.look(), null);
    nowMs += 20 * 60_000;
    // It is taken out and joins again: the time of the drain does not count.
    world.server.remove(resourcePath(KINDS.node, null, "m2"));
    assert.match((await world.look())?.message ?? "", /when it is still so in 600 s$/u);
    nowMs += 9 * 60_000;
    world.node(readyNode("m2"));
    assert.equal(await world.look(), null);
    world.server.remove(resourcePath(KINDS.node, null, "m2"));
    assert.match((await world.look())?.message ?? "", /when it is still so in 600 s$/u);
    nowMs += 10 * 60_000;
    assert.equal((await world.look())?.deleted.length, 2);
  });

  it("are kept for the grace time anew where another operator looked after the store meanwhile", async () => {
    let nowMs = 0;
    world = new World(world.server, { ...systemClock, monotonicMs: () => nowMs });
    world.nodeLossGrace = "10m";
    assert.match((await world.look())?.message ?? "", /when it is still so in 600 s$/u);
    world.leave();
    // The machine may have been there, and its pod too, and is lost again.
    nowMs += 60 * 60_000;
    assert.match((await world.look())?.message ?? "", /when it is still so in 600 s$/u);
    assert.ok(world.object(KINDS.claim, "data-demo-2"));
  });

  it("that went are told of, also when the other one cannot be deleted", async () => {
    world.server.fault = ({ path, method }) =>
      method === "DELETE" && path.includes("wal-") ? { kind: "status", status: 403 } : undefined;
    const report = await world.look();
    assert.deepEqual(report?.deleted, ["data-demo-2"]);
    assert.match(report?.message ?? "", /data-demo-2 were deleted, then: /u);
  });

  it("are waited for on a machine that has fallen silent under its pod", async () => {
    world.pod("demo-2", true);
    world.server.put(resourcePath(KINDS.pod, "ns", "demo-2"), {
      metadata: { name: "demo-2" },
      spec: { nodeName: "m2" },
      status: { conditions: [{ type: "Ready", status: "False" }] },
    });
    world.node(readyNode("m2", { status: {} }));
    assert.match((await world.look())?.message ?? "", /^it is on m2 \(not ready\); when/u);
    world.node(readyNode("m2"));
    assert.equal(await world.look(), null);
  });

  it("are kept when the pod has found a machine since it was looked at", async () => {
    const stale = world.object(KINDS.pod, "demo-2");
    assert.ok(stale);
    const before = world.object.bind(world);
    world.server.put(resourcePath(KINDS.pod, "ns", "demo-2"), {
      metadata: { name: "demo-2", uid: stale.metadata.uid },
      spec: { nodeName: "m3" },
    });
    world.object = (kind, name) => (name === "demo-2" ? stale : before(kind, name));
    const report = await world.look();
    assert.match(report?.message ?? "", /looks again$/u);
    world.object = before;
    assert.ok(world.object(KINDS.claim, "data-demo-2"));
  });

  it("are kept, with the reason, when the operator may not look at machines", async () => {
    world.server.fault = ({ path }) =>
      path.includes("persistentvolumes/") ? { kind: "status", status: 403 } : undefined;
    const report = await world.look();
    assert.deepEqual(report?.deleted, []);
    assert.match(report?.message ?? "", /install the chart with nodeLoss.enabled=true$/u);
    world.onNodeLoss = "Retain";
    assert.equal(await world.look(), null);
    assert.ok(world.object(KINDS.claim, "data-demo-2"));
  });

  describe("by the rights that the chart gives for this", () => {
    const roles = operatorRoles("chart-two-namespaces", NODE_LOSS_ROLE);
    const given = rightsIn(roles.flatMap(({ rules }) => rules));

    /** Of what belongs to no namespace nothing else is to be seen. */
    const allow = (rights: readonly string[]): void => {
      world.server.fault = (request) => {
        const inNamespace = request.path.includes("/namespaces/");
        if (inNamespace || rightsOf(request).every((right) => rights.includes(right)))
          return undefined;
        return { kind: "status", status: 403 };
      };
    };

    it("are deleted, and no further right is needed", async () => {
      assert.deepEqual(
        roles.map(({ kind }) => kind),
        ["ClusterRole"],
      );
      allow(given);
      assert.equal((await world.look())?.deleted.length, 2);
    });

    for (const right of given) {
      it(`are kept without "${right}": each is needed`, async () => {
        allow(given.filter((other) => other !== right));
        assert.match(
          (await world.look())?.message ?? "",
          /cannot be told: .*; install the chart with/u,
        );
        assert.ok(world.object(KINDS.claim, "data-demo-2"));
      });
    }
  });

  it("are not asked for again and again where the operator may not look", async () => {
    let nowMs = 0;
    world = new World(world.server, { ...systemClock, monotonicMs: () => nowMs });
    world.server.fault = ({ path }) =>
      path.includes("/nodes/") ? { kind: "status", status: 403 } : undefined;
    const asked = () => world.server.requests.filter(({ path }) => path.includes("/nodes/")).length;
    // A pod that starts: it is on a machine and not ready.
    world.server.put(resourcePath(KINDS.pod, "ns", "demo-2"), {
      metadata: { name: "demo-2" },
      spec: { nodeName: "m2" },
      status: { conditions: [{ type: "Ready", status: "False" }] },
    });
    for (const _look of [1, 2, 3]) assert.equal(await world.look(), null);
    assert.equal(asked(), 1);
    nowMs += 5 * 60_000;
    await world.look();
    assert.equal(asked(), 2, "the rights may have been given since");
  });

  it("are kept, with the reason, when the API server does not answer what is asked", async () => {
    world.server.fault = ({ path }) =>
      path.includes("/nodes/") ? { kind: "status", status: 500 } : undefined;
    const report = await world.look();
    assert.match(report?.message ?? "", /is not settled: .*500.*; looks again$/u);
    assert.ok(world.object(KINDS.claim, "data-demo-2"));
    world.server.fault = () => undefined;
    assert.equal((await world.look())?.deleted.length, 2);
  });
});
