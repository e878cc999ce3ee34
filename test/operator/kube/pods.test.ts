import assert from "node:assert/strict";
import { CallFailed } from "../../../operator/controller/ports.ts";
import { KubePlatform, podAddressResolver } from "../../../operator/kube/kube-platform.ts";
import { claimFacts, claimUidUnder, podFacts } from "../../../operator/kube/pods.ts";
import type { KubeObject } from "../../../operator/kube/resources.ts";
import { IN_SYNC_GATE } from "../../../operator/specs/labels.ts";
import { FakeApiServer } from "../../support/fake-api-server.ts";
import { call, clientOf } from "./kube-fixture.ts";

function pod(status: object, metadata: object = {}): KubeObject {
  return {
    metadata: { name: "demo-1", namespace: "ns", uid: "pod-uid", ...metadata },
    spec: { nodeName: "machine" },
    status,
  };
}

const sidecar = (state: object) => ({ containerStatuses: [{ name: "resilver", ...state }] });

const STATES: readonly (readonly [string, object, object, string, boolean])[] = [
  ["on a machine that has not reported", { phase: "Pending" }, {}, "unknown", false],
  ["waiting for its image", sidecar({ state: { waiting: {} } }), {}, "never started", true],
  ["running", sidecar({ state: { running: {} } }), {}, "running", false],
  [
    "a native sidecar that runs",
    { initContainerStatuses: [{ name: "resilver", state: { running: {} } }] },
    {},
    "running",
    false,
  ],
  [
    "crashing",
    sidecar({ restartCount: 3, state: { waiting: {} }, lastState: { terminated: {} } }),
    {},
    "between starts",
    false,
  ],
  ["ended", { phase: "Failed" }, {}, "ended for good", true],
  [
    "being deleted on a machine that is silent",
    sidecar({ state: { waiting: {} } }),
    { deletionTimestamp: "2026-01-01T00:00:00Z" },
    "never started",
    false,
  ],
];

describe("pods", () => {
  let server: FakeApiServer;
  beforeEach(async () => {
    server = await FakeApiServer.start();
  });
  afterEach(() => server.close());

  it("say why they do not start, whichever container it is", () => {
    const waits = (name: string, reason: string) => ({ name, state: { waiting: { reason } } });
    const running = { name: "resilver", state: { running: {} } };
    const waiting = (status: object): string => podFacts(pod(status, {}), IN_SYNC_GATE).waiting;
    assert.equal(
      waiting({ containerStatuses: [waits("resilver", "ImagePullBackOff")] }),
      "ImagePullBackOff",
    );
    assert.equal(
      waiting({ containerStatuses: [running, waits("app", "CrashLoopBackOff")] }),
      "CrashLoopBackOff",
    );
    assert.equal(
      waiting({
        containerStatuses: [waits("app", "PodInitializing")],
        initContainerStatuses: [waits("resilver", "ErrImagePull")],
      }),
      "ErrImagePull",
    );
    assert.equal(waiting({ containerStatuses: [waits("resilver", "ContainerCreating")] }), "");
    assert.equal(waiting({ containerStatuses: [running] }), "");
  });

  for (const [what, status, metadata, state, stopped] of STATES) {
    it(`${what}: ${state}, ${stopped ? "" : "not "}stopped`, async () => {
      const object = pod(status, metadata);
      assert.equal(podFacts(object, IN_SYNC_GATE).sidecar, state);
      server.put("/api/v1/namespaces/ns/pods/demo-1", { ...object });
      const { client, transport } = clientOf(server);
      const platform = new KubePlatform(
        client,
        "ns",
        () => undefined,
        () => undefined,
      );
      assert.equal(await platform.isStopped("demo-1", call().signal), stopped);
      assert.equal(await platform.isStopped("demo-2", call().signal), true);
      transport.close();
    });
  }

  it("a volume is terminating while either claim of its pod is being deleted", () => {
    const { client, transport } = clientOf(server);
    const deletionTimestamp = "2026-01-01T00:00:00Z";
    for (const claim of ["data-demo-1", "wal-demo-1"]) {
      const claims = (name: string): KubeObject => ({
        metadata: { name, namespace: "ns", ...(name === claim ? { deletionTimestamp } : {}) },
      });
      const platform = new KubePlatform(client, "ns", claims, () => undefined);
      assert.equal(platform.isVolumeTerminating("demo-1"), true, claim);
      assert.equal(platform.isVolumeTerminating("demo-2"), false);
    }
    const none = new KubePlatform(
      client,
      "ns",
      () => undefined,
      () => undefined,
    );
    assert.equal(none.isVolumeTerminating("demo-1"), false, "nothing is there to be deleted");
    transport.close();
  });

  it("a pod that is on no machine has never started", () => {
    const object = { ...pod({ phase: "Pending" }), spec: {} };
    assert.equal(podFacts(object, IN_SYNC_GATE).sidecar, "never started");
  });

  it("conditions", () => {
    const conditions = [
      { type: "Ready", status: "True" },
      { type: IN_SYNC_GATE, status: "False" },
    ];
    const facts = podFacts(pod({ conditions, podIP: "10.0.0.7" }), IN_SYNC_GATE);
    assert.deepEqual([facts.ready, facts.inSync, facts.ip], [true, false, "10.0.0.7"]);
    assert.equal(podFacts(pod({}), IN_SYNC_GATE).inSync, null);
  });

  it("addresses are those of the pod there is now", () => {
    let object: KubeObject | undefined;
    const resolve = podAddressResolver(() => object, 6649);
    assert.throws(() => resolve("demo-1"), CallFailed);
    object = pod({});
    assert.throws(() => resolve("demo-1"), /no address yet/);
    object = pod({ podIP: "10.0.0.7" });
    assert.equal(resolve("demo-1"), "10.0.0.7:6649");
    object = pod({ podIP: "fd00::7" });
    assert.equal(resolve("demo-1"), "[fd00::7]:6649");
  });

  it("a claim's uid is evidence only for a pod that was made after it", () => {
    const at = (seconds: number) => new Date(1_767_225_600_000 + seconds * 1_000).toISOString();
    const running = { ...sidecar({ state: { running: {} } }) };
    const podAt = (seconds: number) =>
      podFacts(pod(running, { creationTimestamp: at(seconds) }), IN_SYNC_GATE);
    const claimAt = (seconds: number, more: object = {}) =>
      claimFacts({
        metadata: {
          name: "data-demo-1",
          namespace: "ns",
          uid: "claim-uid",
          creationTimestamp: at(seconds),
          ...more,
        },
      });
    assert.equal(claimUidUnder(podAt(10), claimAt(5)), "claim-uid");
    assert.equal(claimUidUnder(podAt(10), claimAt(10)), "claim-uid");
    assert.equal(claimUidUnder(podAt(10), claimAt(11)), null);
    assert.equal(claimUidUnder(podAt(10), claimAt(5, { deletionTimestamp: at(11) })), null);
    assert.equal(claimUidUnder(podAt(10), null), null);
  });
});
