/** The coordinators of many stores that begin at once. */
import assert from "node:assert/strict";
import { DEFAULT_RECOVERY_POLICY } from "../../../operator/core/gates.ts";
import { CallSlots } from "../../../operator/kube/call-slots.ts";
import { StoreRuntime } from "../../../operator/kube/store-runtime.ts";
import { FakeCluster } from "../controller/fake-cluster.ts";

const NODES = ["a", "b", "c"];

function begin(cluster: FakeCluster, starts: CallSlots): StoreRuntime {
  return new StoreRuntime({
    spec: cluster.spec(),
    policy: { ...DEFAULT_RECOVERY_POLICY, cooldownMs: 0 },
    records: cluster.records,
    sidecars: cluster,
    platform: {
      isStopped: (node, signal) => cluster.isStopped(node, signal),
      isVolumeTerminating: () => false,
      claims: () => null,
    },
    clock: cluster.clock,
    starts,
    changed: () => undefined,
    told: () => undefined,
    notMoved: () => undefined,
    broken: (error) => {
      throw error;
    },
  });
}

describe("coordinators that begin", () => {
  let clusters: FakeCluster[];
  let runtimes: StoreRuntime[];

  beforeEach(() => {
    clusters = [new FakeCluster(NODES), new FakeCluster(NODES)];
    const starts = new CallSlots(1);
    runtimes = clusters.map((cluster) => begin(cluster, starts));
  });

  afterEach(async () => {
    await Promise.all(runtimes.map((runtime) => runtime.close()));
    await Promise.all(clusters.map((cluster) => cluster.close()));
  });

  it("wait until the one before them has looked at its pods and records", async () => {
    const [first, second] = clusters as [FakeCluster, FakeCluster];
    await second.clock.pass(5_000);
    assert.equal(second.records.reads, 0);
    await first.untilSteady();
    await second.untilSteady();
  });

  it("wait no longer than a second for pods that do not answer", async () => {
    const [first, second] = clusters as [FakeCluster, FakeCluster];
    for (const node of first.nodes.values()) node.frozen = true;
    await first.clock.pass(900);
    await second.clock.pass(5_000);
    assert.equal(second.records.reads, 0);
    await first.clock.pass(200);
    await second.untilSteady();
  });

  it("can be closed while they wait", async () => {
    const [, second] = runtimes as [StoreRuntime, StoreRuntime];
    await second.close();
    assert.equal(clusters[1]?.records.reads, 0);
  });
});
