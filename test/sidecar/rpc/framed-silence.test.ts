/** How long each side of a framed call waits for the other. */
import assert from "node:assert/strict";
import {
  type AddressInfo,
  connect,
  createServer,
  type Server as NetServer,
  type Socket,
} from "node:net";
import type { DuplexCall } from "../../../sidecar/lib/ports/duplex-call.ts";
import { LIMITS } from "../../../sidecar/limits.ts";
import { FRAME, frameHeader } from "../../../sidecar/protocol/frame.ts";
import { FramedCaller } from "../../../sidecar/protocol/framed-caller.ts";
import { REPLICATE_CALL, WATCH_CALL } from "../../../sidecar/protocol/framed-calls.ts";
import { type Ack, type Append, NodeStatus } from "../../../sidecar/protocol/gen/resilver.ts";
import { serveFramedCalls } from "../../../sidecar/rpc/framed-server.ts";
import { TestClock } from "../snapshot/transfer-fixture.ts";
import { within } from "./harness.ts";

describe("framed calls, by a clock of the test's", () => {
  let clock: TestClock;
  let server: NetServer;
  let calls: DuplexCall<Ack, Append>[];
  let watches: DuplexCall<NodeStatus, never>[];
  let port: number;

  beforeEach(async () => {
    clock = new TestClock();
    calls = [];
    watches = [];
    server = createServer();
    serveFramedCalls(server, clock, {
      sendSnapshot: (_peer, call) => call.cancel(),
      replicate: (_peer, call) => void calls.push(call),
      watchStatus: (_request, call) => void watches.push(call),
      pushAssignments: (call) => call.cancel(),
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    ({ port } = server.address() as AddressInfo);
  });

  afterEach(async () => {
    await new Promise((resolve) => server.close(resolve));
  });

  /** A peer that closes nothing by itself; resolves when it was greeted. */
  async function greeted(bytes: Buffer): Promise<Socket> {
    const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
    socket.on("error", () => undefined);
    const greeting = new Promise((resolve) => socket.once("data", resolve));
    socket.write(bytes);
    await within(greeting);
    return socket;
  }

  it("keeps the watch of a coordinator that says nothing for long, and not for ever", async () => {
    const socket = await greeted(
      Buffer.concat([WATCH_CALL.caller.preface, frameHeader(FRAME.OPEN, 0, 0)]),
    );
    const ended = new Promise((resolve) => {
      socket.once("end", resolve);
      socket.once("error", resolve);
    });
    assert.equal(watches.length, 1);
    const silence = (ms: number): void => {
      for (let passed = 0; passed < ms; passed += 100) clock.advance(100);
    };
    silence(LIMITS.watcherSilenceMs - 1_000);
    const heard = new Promise<void>((resolve) => {
      socket.on("data", (data: Buffer) => {
        if (data.includes("still-there")) resolve();
      });
    });
    watches[0]?.write(NodeStatus.create({ node: "still-there" }));
    await within(heard);
    silence(10_000);
    await within(ended, LIMITS.peerTimeoutMs);
  });

  it("gives up a connection that is neither made nor refused", async () => {
    // Its name is never resolved: as where packets get lost, nothing comes of it.
    const caller = new FramedCaller(clock, (address) => connect({ ...address, lookup: () => {} }));
    const opened = caller.open(WATCH_CALL, "pod-that-was:6649", Buffer.alloc(0));
    const failed = (async () => {
      for await (const _status of opened?.call.messages ?? []) assert.fail("nobody is there");
    })();
    for (let passed = 0; passed < LIMITS.connectTimeoutMs; passed += 100) clock.advance(100);
    await within(
      assert.rejects(failed, {
        message: `UNAVAILABLE: framed stream: no connection to pod-that-was:6649 within ${LIMITS.connectTimeoutMs} ms`,
      }),
    );
    const { isRefused, isUnanswered } = opened ?? assert.fail();
    assert.deepEqual([isRefused(), isUnanswered(), clock.timers], [false, true, []]);
  });

  for (const [what, lateMs] of [
    ["was made", 0],
    ["is made while this process is late", 10 * LIMITS.connectTimeoutMs],
  ] as const) {
    it(`leaves a connection alone that ${what}`, async () => {
      const caller = new FramedCaller(clock, (address) => connect({ ...address }));
      const opened = caller.open(WATCH_CALL, `127.0.0.1:${port}`, Buffer.alloc(0));
      clock.advance(lateMs);
      const messages = opened?.call.messages[Symbol.asyncIterator]();
      const first = messages?.next();
      let failed = false;
      first?.catch(() => (failed = true));
      while (watches.length === 0 && !failed) await clock.yield();
      clock.advance(LIMITS.connectTimeoutMs);
      watches[0]?.write(NodeStatus.create({ node: "still-there" }));
      assert.equal((await within(first ?? assert.fail())).value?.node, "still-there");
      caller.close();
      await within(messages?.next().catch(() => undefined) ?? assert.fail());
    });
  }

  it("lets nobody stay who greets and never says what it wants", async () => {
    const socket = await greeted(REPLICATE_CALL.caller.preface);
    const ended = new Promise((resolve) => {
      socket.once("end", resolve);
      socket.once("error", resolve);
    });
    // At one stroke, or its silence would be what it is disconnected for.
    clock.advance(LIMITS.greetingMs);
    await within(ended, LIMITS.peerTimeoutMs);
    assert.deepEqual(clock.timers, []);
  });

  it("keeps no connection that the other side never closes, after the last word", async () => {
    const opening = frameHeader(FRAME.OPEN, 0, 0);
    const socket = await greeted(Buffer.concat([REPLICATE_CALL.caller.preface, opening]));
    const [call] = calls;
    assert.ok(call !== undefined);
    const ended = new Promise((resolve) => socket.once("end", resolve));
    call.end();
    await within(ended);
    assert.equal(clock.timers.length, 1);
    const count = (): Promise<number> =>
      new Promise((resolve) => server.getConnections((_error, open) => resolve(open)));
    assert.equal(await count(), 1);
    clock.advance(LIMITS.peerTimeoutMs);
    await within(
      (async () => {
        while ((await count()) > 0) await new Promise((resolve) => setImmediate(resolve));
      })(),
    );
    socket.destroy();
  });
});
