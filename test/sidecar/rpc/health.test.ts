import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { Client, credentials } from "@grpc/grpc-js";
import { SILENT_LOGGER } from "../../../sidecar/lib/ports/logger.ts";
import { openMetrics } from "../../../sidecar/observability/metrics.ts";
import { NodeClock } from "../../../sidecar/os/node-clock.ts";
import { anonymousMemoryBytes } from "../../../sidecar/os/process-memory.ts";
import { ShardAssignments } from "../../../sidecar/protocol/gen/oxia-client.ts";
import {
  FollowerProgress,
  RecoveryProgress,
  ReplicaStatus,
  ServingStatus,
} from "../../../sidecar/protocol/gen/resilver.ts";
import type { MethodDefinition } from "../../../sidecar/protocol/service.ts";
import { ListenError } from "../../../sidecar/rpc/server.ts";
import { SidecarServers } from "../../../sidecar/rpc/sidecar-servers.ts";
import { FakeRuntime, fakeReplica } from "./fake-runtime.ts";
import { callUnary, failure, within } from "./harness.ts";

const health = createRequire(import.meta.url)("grpc-health-check") as {
  service: {
    Check: MethodDefinition<{ service: string }, { status: string }>;
    List: MethodDefinition<object, { statuses: Record<string, { status: string }> }>;
    Watch: MethodDefinition<{ service: string }, { status: string }, false, true>;
  };
};

describe("Health and metrics", () => {
  let runtime: FakeRuntime;
  let servers: SidecarServers;
  let status: ReplicaStatus;

  beforeEach(async () => {
    status = fakeReplica("default", 0).status();
    runtime = new FakeRuntime([fakeReplica("default", 0, { status: () => status })]);
    servers = await open(0);
  });

  afterEach(() => servers.close(() => runtime.close()));

  function open(port: number): Promise<SidecarServers> {
    return SidecarServers.open({
      publicAddress: "127.0.0.1:0",
      internalAddress: "127.0.0.1:0",
      metricsAddress: { host: "127.0.0.1", port },
      storeId: "",
      version: "test",
      runtime,
      clock: new NodeClock(),
      logger: SILENT_LOGGER,
      metrics: openMetrics({
        node: "node-1",
        statuses: () => runtime.status().replicas,
        anonymousMemoryBytes,
      }),
    });
  }

  async function get(path: string): Promise<{ code: number; body: string }> {
    const response = await fetch(`http://127.0.0.1:${servers.ports.metrics}${path}`);
    return { code: response.status, body: await response.text() };
  }

  it("is ready only when every replica votes, and names the one that does not", async () => {
    assert.equal((await get("/readyz")).code, 200);
    const wiped = {
      ...status,
      namespace: "other",
      shard: 2,
      status: ServingStatus.NOT_MEMBER,
    };
    runtime.handles.push(fakeReplica("other", 2, { status: () => wiped }));
    const { code, body } = await get("/readyz");
    assert.equal(code, 503);
    assert.match(body, /shard 2 of namespace other is NOT_MEMBER/);
    assert.equal((await get("/healthz")).code, 200);
    runtime.handles.pop();
    for (const [change, text] of [
      [{ status: ServingStatus.FENCED }, /FENCED/],
      [
        { votes: false, recovery: RecoveryProgress.create({ phase: "Transferring" }) },
        /rebuilt: Transferring/,
      ],
      [{ votes: false }, /does not vote yet/],
      [{ fault: "bad record" }, /faulty: bad record/],
    ] as const) {
      status = { ...fakeReplica("default", 0).status(), ...change };
      const answer = await get("/readyz");
      assert.equal(answer.code, 503);
      assert.match(answer.body, text);
      assert.equal((await get("/healthz")).code, 200);
    }
  });

  it("is not ready without replicas before the coordinator came", async () => {
    runtime.handles.pop();
    assert.equal((await get("/readyz")).code, 503);
    servers.assignments.update(ShardAssignments.create({}));
    assert.equal((await get("/readyz")).code, 200);
  });

  it("is not ready where directories of another store keep a replica away", async () => {
    runtime.foreign.push("/data/state/other/2: storeId is s9");
    const { code, body } = await get("/readyz");
    assert.deepEqual([code, body], [503, "not ready: /data/state/other/2: storeId is s9\n"]);
    assert.equal((await get("/healthz")).code, 200);
  });

  it("shows series of what is, and ends them with it", async () => {
    status = {
      ...status,
      followers: [FollowerProgress.create({ node: "node-2", ackOffset: 4 })],
    };
    const labels = 'store="store-1",namespace="default",shard="0"';
    const { body } = await get("/metrics");
    for (const line of [
      `resilver_replica_status{${labels},status="LEADER",pod="node-1"} 1`,
      `resilver_replica_status{${labels},status="FOLLOWER",pod="node-1"} 0`,
      `resilver_shard_term{${labels},pod="node-1"} 3`,
      `resilver_shard_head_offset{${labels},pod="node-1"} 9`,
      `resilver_shard_commit_offset{${labels},pod="node-1"} 7`,
      `resilver_follower_lag_entries{${labels},follower="node-2",pod="node-1"} 5`,
    ]) {
      assert.ok(body.includes(line), line);
    }
    assert.match(body, /resilver_anonymous_memory_bytes\{pod="node-1"\} [1-9]/);
    assert.match(body, /nodejs_eventloop_lag_seconds/);
    assert.match(body, /process_cpu_seconds_total/);
    runtime.handles.pop();
    assert.doesNotMatch((await get("/metrics")).body, /resilver_shard_term\{/);
  });

  it("answers grpc.health.v1 on both ports", async () => {
    const { Check } = health.service;
    for (const port of [servers.ports.public, servers.ports.internal]) {
      const client = new Client(`127.0.0.1:${port}`, credentials.createInsecure());
      for (const service of ["", "io.oxia.proto.v1.OxiaClient"]) {
        assert.deepEqual(await callUnary(client, Check, { service }), { status: "SERVING" });
      }
      assert.equal((await failure(callUnary(client, Check, { service: "x" }))).code, 5);
      const { statuses } = await callUnary(client, health.service.List, {});
      assert.deepEqual(statuses["resilver.v1.Coordination"], { status: "SERVING" });
      client.close();
    }
  });

  it("tells watchers when the process begins to end", async () => {
    const client = new Client(`127.0.0.1:${servers.ports.internal}`, credentials.createInsecure());
    const { path, requestSerialize, responseDeserialize } = health.service.Watch;
    const watch = (service: string): AsyncIterator<{ status: string }> => {
      const request = { service };
      const call = client.makeServerStreamRequest(
        path,
        requestSerialize,
        responseDeserialize,
        request,
      );
      // It is cut off in the end.
      call.on("error", () => undefined);
      return call[Symbol.asyncIterator]();
    };
    const known = watch("");
    const unknown = watch("x");
    assert.deepEqual((await within(known.next())).value, { status: "SERVING" });
    assert.deepEqual((await within(unknown.next())).value, { status: "SERVICE_UNKNOWN" });
    const closing = servers.close(() => runtime.close());
    assert.deepEqual((await within(known.next())).value, { status: "NOT_SERVING" });
    client.close();
    await closing;
    servers = await open(0);
  });

  it("names its address when the metrics port is in use, and leaves no port open", async () => {
    const port = servers.ports.metrics;
    await assert.rejects(
      open(port),
      (error) =>
        error instanceof ListenError &&
        error.message.includes(`metricsAddress 127.0.0.1:${port} is in use`),
    );
  });

  it("answers unknown paths and odd requests", async () => {
    assert.equal((await get("/nothing")).code, 404);
    assert.equal((await get("//")).code, 404);
    assert.equal((await get("/readyz?verbose")).code, 200);
  });
});
