/** Addresses of pods that are gone go to other pods. */
import assert from "node:assert/strict";
import { SIDECAR_CONTAINER } from "../../../operator/api/v1alpha1/pod-template.ts";
import { CallFailed, type SidecarClient } from "../../../operator/controller/ports.ts";
import { addressedSidecars } from "../../../operator/kube/addressed-sidecars.ts";
import { podAddressResolver } from "../../../operator/kube/kube-platform.ts";
import type { KubeObject } from "../../../operator/kube/resources.ts";
import {
  DeleteShardRequest,
  GetInfoResponse,
  OpenShardRequest,
  ReplicaStatus,
} from "../../../sidecar/protocol/gen/resilver.ts";

const to = { node: "demo-1", internalAddress: "its name", publicAddress: "its name" };
const call = { deadlineMs: 1_000, signal: new AbortController().signal };

describe("calls to where a pod is", () => {
  /** Who is at the address that the pod had last. */
  let there: string;
  let sidecars: SidecarClient;
  let deleted: string[];

  beforeEach(() => {
    there = "demo-1";
    deleted = [];
    // The network: an address says nothing of who is there.
    const network: Pick<SidecarClient, "getInfo" | "openShard" | "deleteShard"> = {
      getInfo: async () => GetInfoResponse.fromPartial({ node: there }),
      openShard: async () => ReplicaStatus.fromPartial({ node: there }),
      deleteShard: async () => void deleted.push(there),
    };
    sidecars = addressedSidecars(network as SidecarClient, () => "10.0.0.1:6649");
  });

  const asks: Readonly<Record<string, () => Promise<{ readonly node: string }>>> = {
    getInfo: () => sidecars.getInfo(to, call),
    openShard: () => sidecars.openShard(to, OpenShardRequest.create(), call),
  };
  for (const [name, ask] of Object.entries(asks)) {
    it(`${name}: what the pod says`, async () => {
      assert.equal((await ask()).node, "demo-1");
    });

    it(`${name}: fails where another pod is by now`, async () => {
      there = "demo-2";
      await assert.rejects(ask(), (error: CallFailed) => {
        assert.ok(error instanceof CallFailed);
        assert.deepEqual([error.node, error.timedOut], ["demo-1", false]);
        assert.equal(error.message, "demo-1: at 10.0.0.1:6649 there is demo-2 now");
        return true;
      });
    });
  }

  it("deleteShard, which names no replica: asks first who is there", async () => {
    await sidecars.deleteShard(to, DeleteShardRequest.create(), call);
    there = "demo-2";
    await assert.rejects(
      sidecars.deleteShard(to, DeleteShardRequest.create(), call),
      /^CallFailed: demo-1: at 10\.0\.0\.1:6649 there is demo-2 now$/u,
    );
    assert.deepEqual(deleted, ["demo-1"]);
  });

  it("is nowhere once it has ended for good, whatever address is still told", () => {
    const pod = (phase: string): KubeObject => ({
      metadata: { name: "demo-1", namespace: "ns" },
      status: { phase, podIP: "10.0.0.1", containerStatuses: [{ name: SIDECAR_CONTAINER }] },
    });
    const resolve = (phase: string) => podAddressResolver(() => pod(phase), 6649)("demo-1");
    assert.equal(resolve("Running"), "10.0.0.1:6649");
    assert.throws(() => resolve("Failed"), /^CallFailed: the pod has ended$/u);
  });
});
