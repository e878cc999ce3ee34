import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer as createHttp2Server } from "node:http2";
import { type AddressInfo, connect, createServer, type Server as NetServer } from "node:net";
import { Metadata, Server, ServerCredentials, type UntypedHandleCall } from "@grpc/grpc-js";
import { CoordinationClient } from "../../../operator/sidecar-client/coordination-client.ts";
import { CallFailed, type NodeEndpoint } from "../../../operator/controller/ports.ts";
import { systemClock } from "../../../operator/local/system-clock.ts";
import { LIMITS } from "../../../sidecar/limits.ts";
import { DETAILS_KEY, encodeErrorDetail } from "../../../sidecar/protocol/error-detail.ts";
import { ProtocolError } from "../../../sidecar/protocol/errors.ts";
import { NodeStatus, PromoteRequest } from "../../../sidecar/protocol/gen/resilver.ts";
import type { ShardAssignments } from "../../../sidecar/protocol/gen/oxia-client.ts";
import { CoordinationService } from "../../../sidecar/protocol/service.ts";
import { serveFramedCalls } from "../../../sidecar/rpc/framed-server.ts";
import { TestClock } from "../../sidecar/snapshot/transfer-fixture.ts";

const never = new AbortController().signal;
const call = { deadlineMs: 5_000, signal: never };

interface Call {
  readonly on: (event: string, listener: (message: never) => void) => void;
  readonly write: (message: unknown) => void;
  readonly destroy: (error: Error) => void;
}
type Answer = (error: object | null, response?: unknown) => void;

describe("CoordinationClient", () => {
  let server: Server;
  let client: CoordinationClient;
  let endpoint: NodeEndpoint;
  /** Set by each test; a call without a handler is refused as unimplemented. */
  let handlers: Record<string, (call: Call, answer: Answer) => void>;

  beforeEach(async () => {
    handlers = {};
    server = new Server();
    const names = Object.keys(CoordinationService);
    const implementation = Object.fromEntries(
      names.map((name) => [
        name,
        ((request: unknown, answer: Answer) =>
          handlers[name]?.(request as Call, answer)) as UntypedHandleCall,
      ]),
    );
    server.addService(CoordinationService as never, implementation);
    const port = await new Promise<number>((resolve, reject) => {
      server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) => {
        if (error === null) resolve(bound);
        else reject(error);
      });
    });
    const address = `127.0.0.1:${port}`;
    endpoint = { node: "n", internalAddress: address, publicAddress: address };
    client = new CoordinationClient({ clock: systemClock });
  });
  afterEach(async () => {
    await client.close();
    server.forceShutdown();
  });

  const promote = PromoteRequest.fromPartial({ namespace: "default", shard: 0, term: 3 });

  it("turns a refusal into a ProtocolError, by its detail or by its bare number", async () => {
    const refusal = new ProtocolError("NODE_IS_NOT_MEMBER", "wiped", { observedUid: "u2" });
    handlers["promote"] = (_call, answer) => {
      const metadata = new Metadata();
      metadata.set(DETAILS_KEY, Buffer.from(encodeErrorDetail(10, refusal)));
      answer({ code: 10, details: "wiped", metadata });
    };
    await assert.rejects(client.promote(endpoint, promote, call), {
      name: "ProtocolError",
      reason: "NODE_IS_NOT_MEMBER",
      metadata: { observedUid: "u2" },
    });
    handlers["promote"] = (_call, answer) => {
      answer({ code: 101, details: "older term" });
    };
    await assert.rejects(client.promote(endpoint, promote, call), { reason: "INVALID_TERM" });
  });

  it("fails at the deadline, and at once when nobody listens", async () => {
    handlers["promote"] = () => undefined;
    await assert.rejects(client.promote(endpoint, promote, { deadlineMs: 50, signal: never }), {
      name: "CallFailed",
      timedOut: true,
    });
    server.forceShutdown();
    await assert.rejects(client.getInfo(endpoint, call), { name: "CallFailed", timedOut: false });
  });

  it("ends a call with the reason of its signal", async () => {
    const abort = new AbortController();
    handlers["promote"] = () => {
      abort.abort(new Error("overtaken"));
    };
    const { signal } = abort;
    await assert.rejects(
      client.promote(endpoint, promote, { deadlineMs: 5_000, signal }),
      /overtaken/u,
    );
    await assert.rejects(
      client.promote(endpoint, promote, { deadlineMs: 5_000, signal }),
      /overtaken/u,
    );
  });

  it("follows a status stream until it breaks or is given up", async () => {
    const status = NodeStatus.fromPartial({ node: "n", bootId: 7, full: true });
    handlers["watchStatus"] = (stream) => {
      stream.write(status);
    };
    const seen: NodeStatus[] = [];
    const follow = async (signal: AbortSignal, at: () => void): Promise<void> => {
      for await (const message of client.watchStatus(endpoint, { heartbeatMs: 0 }, signal)) {
        seen.push(message);
        at();
      }
    };
    const abort = new AbortController();
    const given = follow(abort.signal, () => {
      abort.abort(new Error("given up"));
    });
    await assert.rejects(given, /given up/u);
    const broken = follow(never, () => {
      server.forceShutdown();
    });
    await assert.rejects(broken, CallFailed);
    assert.deepEqual(seen, [status, status]);
  });

  it("pushes assignments as they come, and stops asking for more when the stream breaks", async () => {
    const received: ShardAssignments[] = [];
    let more: () => void = () => undefined;
    let ended = false;
    handlers["pushShardAssignments"] = (stream) => {
      stream.on("data", (message: ShardAssignments) => {
        received.push(message);
        if (received.length < 2) more();
        else server.forceShutdown();
      });
    };
    const update = { namespaces: {}, allowedAuthorities: ["x"] };
    async function* updates(): AsyncGenerator<ShardAssignments, void> {
      try {
        const first = new Promise<void>((resolve) => {
          more = resolve;
        });
        yield update;
        await first;
        yield update;
        yield await new Promise<ShardAssignments>(() => undefined);
      } finally {
        ended = true;
      }
    }
    // The first says that the other side takes no frames.
    const none = { [Symbol.asyncIterator]: () => ({ next: () => new Promise<never>(() => {}) }) };
    await assert.rejects(client.pushAssignments(endpoint, none, never), CallFailed);
    await assert.rejects(client.pushAssignments(endpoint, updates(), never), CallFailed);
    assert.deepEqual(received, [update, update]);
    assert.equal(ended, false, "a source that waits for ever does not hold up the failure");
  });

  it("follows and pushes in frames to a sidecar that takes them, and tells of its refusals", async () => {
    const received: ShardAssignments[] = [];
    const peer = createHttp2Server();
    const end = serveFramedCalls(peer, systemClock, {
      sendSnapshot: (_peer, call) => call.cancel(),
      replicate: (_peer, call) => call.cancel(),
      watchStatus: ({ heartbeatMs }, call) => {
        if (heartbeatMs === 7) {
          call.fail(new ProtocolError("INVALID_ARGUMENT", "heartbeat_ms is 7", { field: "h" }));
          return;
        }
        call.write(NodeStatus.fromPartial({ node: "framed", bootId: heartbeatMs, full: true }));
        call.end();
      },
      pushAssignments: (call) => {
        void (async () => {
          for await (const pushed of call.messages) received.push(pushed);
          call.end();
        })();
      },
    });
    await once(peer.listen(0, "127.0.0.1"), "listening");
    const address = `127.0.0.1:${(peer.address() as AddressInfo).port}`;
    const to: NodeEndpoint = { node: "n", internalAddress: address, publicAddress: address };
    const seen: NodeStatus[] = [];
    await assert.rejects(async () => {
      for await (const one of client.watchStatus(to, { heartbeatMs: 500 }, never)) seen.push(one);
    }, CallFailed);
    assert.deepEqual(
      seen.map(({ node, bootId }) => [node, bootId]),
      [["framed", 500]],
    );
    await assert.rejects(
      client.watchStatus(to, { heartbeatMs: 7 }, never)[Symbol.asyncIterator]().next(),
      { name: "ProtocolError", reason: "INVALID_ARGUMENT", metadata: { field: "h" } },
    );
    const update: ShardAssignments = { namespaces: {}, allowedAuthorities: ["x"] };
    async function* updates(): AsyncGenerator<ShardAssignments, void> {
      yield update;
      yield update;
    }
    await client.pushAssignments(to, updates(), never);
    assert.deepEqual(received, [update, update]);
    end();
    await new Promise((resolve) => peer.close(resolve));
  });

  it("a watch in frames that is given up does not go on over gRPC", async () => {
    let overGrpc = 0;
    handlers["watchStatus"] = () => {
      overGrpc += 1;
    };
    const peer = createHttp2Server();
    let watched: () => void = () => undefined;
    const begun = new Promise<void>((resolve) => {
      watched = resolve;
    });
    const end = serveFramedCalls(peer, systemClock, {
      sendSnapshot: (_peer, call) => call.cancel(),
      replicate: (_peer, call) => call.cancel(),
      watchStatus: () => watched(),
      pushAssignments: (call) => call.cancel(),
    });
    const grpcPort = Number(endpoint.internalAddress.split(":")[1]);
    let toGrpc = false;
    // One address, where another process listens after a while.
    const front = createServer((socket) => {
      const at = toGrpc ? grpcPort : (peer.address() as AddressInfo).port;
      const onward = connect(at, "127.0.0.1");
      socket.pipe(onward).pipe(socket);
      onward.on("error", () => socket.destroy());
      socket.on("error", () => onward.destroy());
    });
    await once(peer.listen(0, "127.0.0.1"), "listening");
    await once(front.listen(0, "127.0.0.1"), "listening");
    const address = `127.0.0.1:${(front.address() as AddressInfo).port}`;
    const to: NodeEndpoint = { node: "n", internalAddress: address, publicAddress: address };
    const stop = new AbortController();
    const watch = client.watchStatus(to, { heartbeatMs: 500 }, stop.signal);
    const next = watch[Symbol.asyncIterator]().next();
    await begun;
    toGrpc = true;
    // This one learns that no frames are taken at the address.
    const none = { [Symbol.asyncIterator]: () => ({ next: () => new Promise<never>(() => {}) }) };
    await assert.rejects(client.pushAssignments(to, none, never), CallFailed);
    stop.abort(new Error("given up"));
    await assert.rejects(next, /given up/u);
    assert.equal(overGrpc, 0);
    end();
    front.close();
    await new Promise((resolve) => peer.close(resolve));
  });

  it("tells of a watch whose connection was not made in time, as of a call at its deadline", async () => {
    const clock = new TestClock();
    const late = new CoordinationClient({ clock });
    const watched = late.watchStatus(endpoint, { heartbeatMs: 0 }, never);
    const first = watched[Symbol.asyncIterator]().next();
    for (let passed = 0; passed < LIMITS.connectTimeoutMs; passed += 100) clock.advance(100);
    await assert.rejects(first, ({ name, timedOut, message }: CallFailed) => {
      assert.deepEqual([name, timedOut], ["CallFailed", true]);
      assert.match(message, /no connection to .* within 1500 ms$/u);
      return true;
    });
    await late.close();
  });

  it("closes the connection to a pod that nobody asks any more, and none in use", async () => {
    const status = NodeStatus.fromPartial({ node: "n", bootId: 7, full: true });
    handlers["watchStatus"] = (stream) => {
      stream.write(status);
    };
    handlers["promote"] = (_call, answer) => {
      answer(null, {});
    };
    const port = Number(endpoint.internalAddress.split(":")[1]);
    const ended: string[] = [];
    let oneEnded: () => void = () => undefined;
    const forwarders: NetServer[] = [];
    const through = async (name: string): Promise<NodeEndpoint> => {
      const forwarder = createServer((socket) => {
        const onward = connect(port, "127.0.0.1");
        socket.pipe(onward).pipe(socket);
        onward.on("error", () => socket.destroy());
        socket.on("error", () => onward.destroy());
        socket.on("close", () => {
          ended.push(name);
          oneEnded();
        });
      });
      forwarders.push(forwarder);
      await once(forwarder.listen(0, "127.0.0.1"), "listening");
      const address = `127.0.0.1:${(forwarder.address() as AddressInfo).port}`;
      return { node: name, internalAddress: address, publicAddress: address };
    };
    const frugal = new CoordinationClient({ clock: systemClock, unusedMs: 0 });
    const stop = new AbortController();
    const statuses = frugal.watchStatus(await through("followed"), { heartbeatMs: 0 }, stop.signal);
    try {
      await statuses.next();
      // The one that was tried in frames.
      assert.deepEqual(ended.splice(0), ["followed"]);
      const goneEnded = new Promise<void>((resolve) => {
        oneEnded = resolve;
      });
      await frugal.promote(await through("gone"), promote, call);
      await goneEnded;
      assert.deepEqual(ended, ["gone"]);
    } finally {
      stop.abort(new Error("done"));
      await statuses.return().catch(() => undefined);
      await frugal.close();
      for (const forwarder of forwarders) forwarder.close();
    }
  });
});
