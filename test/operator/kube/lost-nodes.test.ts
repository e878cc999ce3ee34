import assert from "node:assert/strict";
import { parseReplicatedStore } from "../../../operator/api/v1alpha1/validation.ts";
import type { ShardRecord } from "../../../operator/core/record.ts";
import { LostNodes } from "../../../operator/kube/lost-nodes.ts";
import { podFacts } from "../../../operator/kube/pods.ts";
import { KINDS, type KubeObject, resourcePath } from "../../../operator/kube/resources.ts";
import type { StoreSight } from "../../../operator/kube/store-view.ts";
import { IN_SYNC_GATE } from "../../../operator/specs/labels.ts";
import { systemClock } from "../../../operator/local/system-clock.ts";
import { FakeApiServer } from "../../support/fake-api-server.ts";
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

  constructor(server: FakeApiServer) {
    this.server = server;
    this.#lost = new LostNodes(clientOf(server).client, systemClock);
    for (const name of PODS) {
      const placed = name === "demo-2" ? {} : { nodeName: name.replace("demo-", "m") };
      server.put(resourcePath(KINDS.pod, "ns", name), { metadata: { name }, spec: placed });
      for (const volume of ["data", "wal"]) {
        server.put(resourcePath(KINDS.claim, "ns", `${volume}-${name}`), {
          metadata: { name: `${volume}-${name}` },
          spec: { volumeName: `pv-${volume}-${name}` },
        });
      }
    }
    this.volumes(boundTo(HOSTNAME, "m2"));
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

  async look() {
    const pods = PODS.flatMap((name) => this.object(KINDS.pod, name) ?? []);
    const { nodeLossGrace, onNodeLoss } = this;
    const store = parseReplicatedStore({
      apiVersion: "resilver.io/v1alpha1",
      kind: "ReplicatedStore",
      metadata: { name: "demo", namespace: "ns", uid: "u" },
      spec: { recovery: { nodeLossGrace, onNodeLoss } },
    });
    const voting = PODS.map((node) => replicaView(node, { voting: node !== "demo-2" }));
    const view = shardViewOf(voting, { ensemble: PODS });
    const record = { namespace: view.namespace, shard: view.shard };
    const sight = {
      store,
      pods: pods.map((pod) => podFacts(pod, IN_SYNC_GATE)),
      records: [record as unknown as ShardRecord],
      shards: this.shards.map((name) => ({ metadata: { name } })),
    } as unknown as StoreSight;
    const claims = (name: string) => this.object(KINDS.claim, name);
    return await this.#lost.reconcile(sight, [view], claims, call().signal);
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
    assert.equal(report?.done, true);
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
    assert.equal((await world.look())?.done, true);
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
    assert.match((await world.look())?.message ?? "", /nothing is known of demo\.more\.1$/u);
    world.shards = [];
    assert.match((await world.look())?.message ?? "", /nothing is known of its shards$/u);
    assert.ok(world.object(KINDS.claim, "data-demo-2"));
  });

  it("are found by the labels of drivers of local volumes", async () => {
    world.volumes(boundTo("topology.topolvm.io/node", "m2"));
    assert.equal((await world.look())?.done, true);
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
    assert.equal(report?.done, false);
    assert.match(report?.message ?? "", /install the chart with nodeLoss.enabled=true$/u);
    world.onNodeLoss = "Retain";
    assert.equal(await world.look(), null);
    assert.ok(world.object(KINDS.claim, "data-demo-2"));
  });
});
