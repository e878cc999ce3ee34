import assert from "node:assert/strict";
import type { PodFacts } from "../../../operator/kube/pods.ts";
import { KINDS, resourcePath } from "../../../operator/kube/resources.ts";
import { StatusWriter } from "../../../operator/kube/status-writer.ts";
import type { ShardView } from "../../../operator/core/status.ts";
import { systemClock } from "../../../operator/local/system-clock.ts";
import type { Fault } from "../../support/fake-answers.ts";
import { FakeApiServer } from "../../support/fake-api-server.ts";
import { shardViewOf } from "../local/status-fixture.ts";
import { call, clientOf } from "./kube-fixture.ts";

const pod = (name: string): PodFacts => ({
  name,
  uid: `uid of ${name}`,
  ip: "",
  nodeName: "",
  createdAt: "",
  terminating: false,
  ready: false,
  inSync: null,
  sidecarReady: false,
  revision: "",
  sidecar: "running",
});

describe("the readiness gates of a store's pods", () => {
  let server: FakeApiServer;
  let close: () => void;
  let gates: (views?: readonly ShardView[]) => Promise<void>;

  beforeEach(async () => {
    server = await FakeApiServer.start();
    const { client, transport } = clientOf(server);
    close = () => transport.close();
    const sight = {
      store: { metadata: { name: "demo", namespace: "ns" } },
      pods: [pod("demo-0"), pod("demo-1")],
    };
    gates = (views = []) =>
      new StatusWriter(client, systemClock).gates(sight, views, call().signal);
    for (const { name } of sight.pods) {
      server.put(resourcePath(KINDS.pod, "ns", name), { metadata: { name } });
    }
  });
  afterEach(async () => {
    close();
    await server.close();
  });

  /** The first pod's gate is answered so. */
  function answerFirst(fault: Fault): void {
    server.fault = ({ path }) => (path.includes("demo-0") ? fault : undefined);
  }
  const told = (): readonly string[] =>
    server.requests.map(({ path }) => path.split("/").at(-2) ?? "");

  const replaced = { kind: "Status", code: 422, message: "metadata.uid: field is immutable" };
  const answers: readonly (readonly [string, Fault])[] = [
    ["is gone", { kind: "status", status: 404 }],
    ["was made again", { kind: "status", status: 409 }],
    ["was made again, said in another way", { kind: "value", status: 422, value: replaced }],
  ];
  for (const [what, fault] of answers) {
    it(`goes on with the other pods when one ${what}`, async () => {
      answerFirst(fault);
      await gates();
      assert.deepEqual(told(), ["demo-0", "demo-1"]);
    });
  }

  it("stay as they are while a record is not to be believed", async () => {
    const stop = { reason: "RecordLost", message: "x" } as const;
    await gates([shardViewOf([], { initialized: false, stop })]);
    assert.deepEqual(told(), []);
  });

  it("fails when the server refuses for another reason", async () => {
    answerFirst({ kind: "status", status: 422 });
    await assert.rejects(gates(), /422 as told/u);
  });
});
