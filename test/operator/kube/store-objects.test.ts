/** What is said when a store's objects cannot be brought about. */
import assert from "node:assert/strict";
import { parseReplicatedStore } from "../../../operator/api/v1alpha1/validation.ts";
import { bringAbout, type ObjectsReport } from "../../../operator/kube/store-objects.ts";
import type { StoreSight } from "../../../operator/kube/store-view.ts";
import type { Fault } from "../../support/fake-answers.ts";
import { FakeApiServer } from "../../support/fake-api-server.ts";
import { call, clientOf } from "./kube-fixture.ts";

describe("a store's objects", () => {
  let server: FakeApiServer;
  let close: () => void;
  let look: (signal?: AbortSignal) => Promise<ObjectsReport>;

  beforeEach(async () => {
    server = await FakeApiServer.start();
    const { client, transport } = clientOf(server);
    close = () => transport.close();
    const store = parseReplicatedStore({
      apiVersion: "resilver.io/v1alpha1",
      kind: "ReplicatedStore",
      metadata: { name: "demo", namespace: "ns", uid: "u" },
      spec: {},
    });
    const sight = { store, storeId: "u" } as unknown as StoreSight;
    const caches = { get: () => undefined, ofStore: () => [] };
    const parts = { client, caches, sight, image: "image", replicas: 3 };
    look = async (signal = call().signal) => await bringAbout(parts, signal);
  });
  afterEach(async () => {
    close();
    await server.close();
  });

  it("are all there, and nothing is said", async () => {
    assert.deepEqual(await look(), { trouble: null, remade: false });
    assert.equal(server.list("/apis/apps/v1/statefulsets").length, 1);
  });

  const failures: readonly (readonly [string, Fault, string, RegExp])[] = [
    ["are refused", { kind: "status", status: 403 }, "ApplyRejected", /configmaps\/.*: 403/u],
    [
      "meet a webhook that fails",
      { kind: "status", status: 500 },
      "ApplyFailed",
      /configmaps\/.*: 500/u,
    ],
    ["are asked for too often", { kind: "status", status: 429 }, "ApplyFailed", /: 429/u],
    ["get no answer", { kind: "drop" }, "ApplyFailed", /configmaps\//u],
  ];
  for (const [what, fault, reason, message] of failures) {
    it(`that ${what} are told of, and nobody has to try again`, async () => {
      server.fault = ({ path }) => (path.includes("/configmaps/") ? fault : undefined);
      const { trouble } = await look();
      assert.equal(trouble?.reason, reason);
      assert.match(trouble.message, message);
    });
  }

  it("that somebody else changed at the same time are tried again at once", async () => {
    server.fault = () => ({ kind: "status", status: 409 });
    await assert.rejects(look(), /: 409/u);
  });

  it("an operator that is told to end does not take it for trouble", async () => {
    const stop = new AbortController();
    server.fault = ({ path }) => {
      if (!path.includes("/configmaps/")) return undefined;
      stop.abort(new Error("it ends"));
      return { kind: "stall" };
    };
    await assert.rejects(look(stop.signal), /it ends/u);
  });
});
