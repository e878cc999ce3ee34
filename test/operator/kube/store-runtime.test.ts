/** The coordinators of many stores that begin at once. */
import assert from "node:assert/strict";
import { DEFAULT_RECOVERY_POLICY } from "../../../operator/core/gates.ts";
import { SIDECAR_CONTAINER } from "../../../operator/api/v1alpha1/pod-template.ts";
import { CallSlots } from "../../../operator/kube/call-slots.ts";
import { podFacts } from "../../../operator/kube/pods.ts";
import type { KubeObject } from "../../../operator/kube/resources.ts";
import { StoreRuntime, timingsOf } from "../../../operator/kube/store-runtime.ts";
import type { StoreParts } from "../../../operator/kube/store-view.ts";
import { IN_SYNC_GATE } from "../../../operator/specs/labels.ts";
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

describe("shards of a coordinator that begins", () => {
  it("have served long since, though their records are read later than their pods are heard of", async () => {
    const cluster = new FakeCluster(NODES);
    const before = begin(cluster, new CallSlots(1));
    await cluster.untilSteady();
    await before.close();
    const leader = cluster.leader();
    cluster.kill(NODES.find((node) => node !== leader) ?? "");
    const read = cluster.records.read.bind(cluster.records);
    cluster.records.read = async () => {
      await cluster.clock.sleep(300, new AbortController().signal);
      return await read();
    };
    const runtime = begin(cluster, new CallSlots(1));
    try {
      const looked = (): boolean => runtime.coordinator.hasLooked;
      await cluster.clock.until("it has looked", 5_000, looked);
      // The one that is away keeps its pod out of service.
      assert.equal(runtime.settledViews().length, 1);
    } finally {
      await runtime.close();
      await cluster.close();
    }
  });
});

describe("shards that are being made", () => {
  let cluster: FakeCluster;
  let runtime: StoreRuntime;

  beforeEach(() => {
    cluster = new FakeCluster(NODES);
    // Nobody is ever elected.
    cluster.onCall = (name) => {
      if (name === "becomeLeader") throw new Error("refused");
    };
    runtime = begin(cluster, new CallSlots(1));
  });

  afterEach(async () => {
    await runtime.close();
    await cluster.close();
  });

  it("count for nothing for a while, since nothing was ever written to them", async () => {
    await cluster.clock.pass(8_000);
    assert.equal(runtime.views().length, 1);
    assert.equal(runtime.settledViews().length, 0);
    await cluster.clock.pass(4_000);
    assert.equal(runtime.settledViews().length, 1, "by now it ought to serve");
  });

  it("count at once where a pod is away, without which they cannot begin", async () => {
    cluster.kill("c");
    await cluster.clock.pass(3_000);
    assert.equal(runtime.settledViews().length, 1);
  });
});

describe("what the platform says of pods", () => {
  const pod = (more: { readonly ready?: boolean; readonly ip?: string } = {}): StoreParts => {
    const { ready = false, ip = "10.0.0.1" } = more;
    const sidecar = { name: SIDECAR_CONTAINER, ready, state: { running: {} } };
    const object: KubeObject = {
      metadata: { name: "a", namespace: "ns", uid: "pod-uid" },
      status: { phase: "Running", podIP: ip, containerStatuses: [sidecar] },
    };
    const pods = [podFacts(object, IN_SYNC_GATE)];
    return { pods, podObjects: [object], claims: new Map(), shards: [] };
  };

  it("has a stream that nobody has answered begun anew only where the pod is elsewhere", async () => {
    const cluster = new FakeCluster(NODES);
    let opened = 0;
    cluster.watchStatus = async function* (to, _request, signal) {
      if (to.node === "a") opened += 1;
      await cluster.clock.sleep(60_000, signal);
      yield* [];
    };
    const runtime = begin(cluster, new CallSlots(1));
    try {
      await cluster.clock.pass(10);
      for (const ready of [false, true, false, true]) {
        runtime.saw(pod({ ready }));
        await cluster.clock.pass(10);
      }
      assert.equal(opened, 1);
      runtime.saw(pod({ ip: "10.0.0.2" }));
      await cluster.clock.pass(10);
      assert.equal(opened, 2);
    } finally {
      await runtime.close();
      await cluster.close();
    }
  });
});

describe("leaders are spread", () => {
  it("at another time by each of many stores, after 30 s to 60 s of rest", () => {
    const waits = Array.from({ length: 100 }, (_, i) => timingsOf(`store-${i}`).balanceAfterMs);
    assert.ok(new Set(waits).size > 90, waits.join());
    assert.ok(Math.min(...waits) >= 30_000 && Math.max(...waits) <= 60_000, waits.join());
    assert.ok(Math.max(...waits) - Math.min(...waits) > 20_000, waits.join());
    assert.equal(timingsOf("store-1").balanceAfterMs, waits[1], "the same after a restart");
  });
});
