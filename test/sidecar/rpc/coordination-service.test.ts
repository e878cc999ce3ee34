import assert from "node:assert/strict";
import { connect } from "node:http2";
import { status as Code } from "@grpc/grpc-js";
import { LIMITS } from "../../../sidecar/limits.ts";
import { refusalOf } from "../../../sidecar/protocol/error-detail.ts";
import { ProtocolError } from "../../../sidecar/protocol/errors.ts";
import { ShardAssignments } from "../../../sidecar/protocol/gen/oxia-client.ts";
import {
  HandshakeStatus,
  NewTermRequest,
  NewTermResponse,
  type NodeStatus,
  OpenShardRequest,
  ServingStatus,
} from "../../../sidecar/protocol/gen/resilver.ts";
import { CoordinationService as Api } from "../../../sidecar/protocol/service.ts";
import { NodeClock } from "../../../sidecar/os/node-clock.ts";
import { ListenError, RpcServer } from "../../../sidecar/rpc/server.ts";
import { FakeRuntime, fakeReplica, type Overrides } from "./fake-runtime.ts";
import { callUnary, failure, type Harness, openHarness, openStream, within } from "./harness.ts";

describe("Coordination service", () => {
  let harness: Harness;
  let runtime: FakeRuntime;

  async function open(overrides: Overrides = {}): Promise<Harness> {
    runtime = new FakeRuntime([fakeReplica("default", 0, overrides)]);
    harness = await openHarness(runtime);
    return harness;
  }

  afterEach(() => harness.close());

  it("passes a request to the replica it names and answers with its response", async () => {
    let seen: NewTermRequest | undefined;
    const { internal } = await open({
      async newTerm(request) {
        seen = request;
        return NewTermResponse.create({ replicaUid: "uid-1", previousTerm: 2 });
      },
    });
    const request = NewTermRequest.create({ namespace: "default", shard: 0, term: 3 });
    const response = await callUnary(internal, Api.newTerm, request);
    assert.equal(response.replicaUid, "uid-1");
    assert.equal(seen?.term, 3);
  });

  it("answers refusals with the numeric code and the detail", async () => {
    const { internal } = await open({
      async newTerm() {
        throw new ProtocolError("INVALID_TERM", "older term", { term: "9" });
      },
    });
    const request = NewTermRequest.create({ namespace: "default", shard: 0, term: 3 });
    const error = await failure(callUnary(internal, Api.newTerm, request));
    assert.equal(error.code, 101);
    const detail = error.metadata.get("grpc-status-details-bin")[0] as Buffer;
    const refusal = refusalOf(error.code, error.details, detail);
    assert.equal(refusal?.reason, "INVALID_TERM");
    assert.equal(refusal?.metadata["term"], "9");
  });

  it("tells a replica when the caller has gone", async () => {
    let aborted: () => void = () => {};
    let started: () => void = () => {};
    const done = new Promise<void>((resolve) => {
      aborted = resolve;
    });
    const running = new Promise<void>((resolve) => {
      started = resolve;
    });
    const { internal } = await open({
      becomeLeader: (_request, signal) => {
        started();
        return new Promise((_resolve, reject) => {
          signal.addEventListener("abort", () => {
            aborted();
            reject(signal.reason as Error);
          });
        });
      },
    });
    const call = internal.makeUnaryRequest(
      Api.becomeLeader.path,
      Api.becomeLeader.requestSerialize,
      Api.becomeLeader.responseDeserialize,
      { ...emptyLeaderRequest(), namespace: "default" },
      () => {},
    );
    await within(running);
    call.cancel();
    await within(done);
  });

  it("refuses another store by name, at the handshake and for a shard", async () => {
    const { internal } = await open();
    const ours = await callUnary(internal, Api.handshake, { instanceId: "store-1" });
    assert.equal(ours.status, HandshakeStatus.BOUND);
    const theirs = await callUnary(internal, Api.handshake, { instanceId: "store-2" });
    assert.equal(theirs.status, HandshakeStatus.MISMATCH);
    const request = OpenShardRequest.create({ namespace: "default", shard: 1, storeId: "store-2" });
    const error = await failure(callUnary(internal, Api.openShard, request));
    assert.equal(error.code, 121);
    assert.match(error.details, /store_id is "store-2".*"store-1"/);
  });

  it("speaks as often as the watcher asks, within bounds", async () => {
    const { internal } = await open();
    const stream = openStream(internal, Api.watchStatus, { heartbeatMs: 100 });
    stream.on("error", () => {});
    const messages = stream[Symbol.asyncIterator]() as AsyncIterator<NodeStatus>;
    await within(messages.next());
    const start = performance.now();
    await within(messages.next());
    await within(messages.next());
    assert.ok(performance.now() - start < LIMITS.statusHeartbeatMs);
    stream.cancel();
    for (const heartbeatMs of [-1, 99, 10_001]) {
      const refused = openStream(internal, Api.watchStatus, { heartbeatMs });
      const error = await failure(within(refused[Symbol.asyncIterator]().next()));
      assert.match(
        error.details,
        new RegExp(`heartbeat_ms is ${heartbeatMs}; allowed: 0 .*100 to`),
      );
    }
  });

  it("watches: everything first, then changes, and speaks when nothing changes", async () => {
    const { internal } = await open();
    const stream = openStream(internal, Api.watchStatus, { heartbeatMs: 0 });
    const messages = stream[Symbol.asyncIterator]() as AsyncIterator<NodeStatus>;
    const first = await within(messages.next());
    assert.equal(first.value.full, true);
    assert.equal(first.value.node, "node-1");
    assert.equal(first.value.replicas.length, 1);
    const changed = { ...fakeReplica("default", 0).status(), status: ServingStatus.NOT_MEMBER };
    for (const watcher of runtime.watchers) watcher([changed]);
    const second = await within(messages.next());
    assert.equal(second.value.full, false);
    assert.equal(second.value.replicas[0]?.status, ServingStatus.NOT_MEMBER);
    const start = performance.now();
    // What the first heartbeat tells is new to it; the next one has no news, and says so.
    const third = await within(messages.next());
    assert.equal(third.value.full, true);
    assert.ok(performance.now() - start < 2 * LIMITS.statusHeartbeatMs);
    const fourth = await within(messages.next());
    assert.deepEqual([fourth.value.full, fourth.value.replicas], [false, []]);
    stream.cancel();
    stream.on("error", () => {});
    await within(
      (async () => {
        while (runtime.watchers.size > 0) await new Promise((r) => setImmediate(r));
      })(),
    );
  });

  it("keeps the latest assignments that the coordinator pushed", async () => {
    const { internal, servers } = await open();
    const method = Api.pushShardAssignments;
    const answered = new Promise((resolve, reject) => {
      const stream = internal.makeClientStreamRequest(
        method.path,
        method.requestSerialize,
        method.responseDeserialize,
        (error, response) => (error === null ? resolve(response) : reject(error)),
      );
      for (const leader of ["a:1", "b:2"]) {
        stream.write(
          ShardAssignments.create({
            namespaces: { default: { assignments: [{ shard: 0, leader }] } },
          }),
        );
      }
      stream.end();
    });
    await within(answered);
    assert.equal(servers.assignments.find("default", 0)?.leader, "b:2");
    assert.deepEqual(servers.assignments.namespacesOf(0), ["default"]);
    assert.equal(servers.assignments.namespace("toString"), undefined);
  });

  it("names field, address and what is allowed when a port is in use", async () => {
    const { servers } = await open();
    await assert.rejects(
      RpcServer.listen({
        port: "public",
        address: `127.0.0.1:${servers.ports.public}`,
        services: [],
        clock: new NodeClock(),
      }),
      (error) =>
        error instanceof ListenError &&
        error.message.includes(`publicAddress 127.0.0.1:${servers.ports.public} is in use`) &&
        error.message.includes("allowed: a free port"),
    );
  });

  it("opens wide HTTP/2 windows to its clients", async () => {
    const { servers } = await open();
    const session = connect(`http://127.0.0.1:${servers.ports.internal}`);
    await within(new Promise<void>((resolve) => session.once("remoteSettings", () => resolve())));
    assert.equal(session.remoteSettings.initialWindowSize, LIMITS.http2WindowBytes);
    await within(
      (async () => {
        // The session's window comes in a frame of its own.
        while ((session.state.remoteWindowSize ?? 0) < LIMITS.http2WindowBytes) {
          await new Promise((resolve) => session.ping(resolve));
        }
      })(),
    );
    session.destroy();
  });

  it("closes within its grace while a peer's stream stays open", async () => {
    const { internal, servers } = await open();
    const stream = openStream(internal, Api.watchStatus, { heartbeatMs: 0 });
    const ended = new Promise<number>((resolve) => {
      stream.on("error", (error: { code?: number }) => resolve(error.code ?? -1));
      stream.resume();
    });
    await within(new Promise((resolve) => stream.once("data", resolve)));
    await within(servers.close(() => runtime.close()));
    assert.ok([100, Code.UNAVAILABLE].includes(await within(ended)));
    assert.ok(runtime.closed);
  });
});

function emptyLeaderRequest(): Parameters<typeof Api.becomeLeader.requestSerialize>[0] {
  return Api.becomeLeader.requestDeserialize(Buffer.alloc(0));
}
