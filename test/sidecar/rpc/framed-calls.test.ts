import assert from "node:assert/strict";
import { join } from "node:path";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import type { DuplexCall } from "../../../sidecar/lib/ports/duplex-call.ts";
import { TransportError } from "../../../sidecar/lib/ports/duplex-call.ts";
import { LIMITS } from "../../../sidecar/limits.ts";
import { NodeClock } from "../../../sidecar/os/node-clock.ts";
import { ProtocolError } from "../../../sidecar/protocol/errors.ts";
import {
  Ack,
  Append,
  Peer,
  SnapshotChunk,
  SnapshotResponse,
} from "../../../sidecar/protocol/gen/resilver.ts";
import { FRAME, FrameError, FrameReader, frameHeader } from "../../../sidecar/protocol/frame.ts";
import { REPLICATE_CALL, SNAPSHOT_CALL } from "../../../sidecar/protocol/framed-calls.ts";
import { NetworkPeerTransport } from "../../../sidecar/rpc/peer-client.ts";
import { engines, NEVER, openState, put, TestLog, withDir } from "../state/state-fixture.ts";
import { FakeRuntime, fakeReplica } from "./fake-runtime.ts";
import { type Harness, openHarness, openOlderServer, within, PEER, drain } from "./harness.ts";

const PREFACE = SNAPSHOT_CALL.caller.preface;

const NAMES = Peer.encode(PEER).finish();
const OPENING = Buffer.concat([frameHeader(FRAME.OPEN, NAMES.length, 0), NAMES]);

type Receiving = DuplexCall<SnapshotResponse, SnapshotChunk>;
type ServeSnapshot = (peer: Peer, call: Receiving) => Promise<void>;
type ServeReplicate = (peer: Peer, call: DuplexCall<Ack, Append>) => Promise<void>;

function chunk(chunkIndex: number, bytes: number): SnapshotChunk {
  return SnapshotChunk.create({ chunkIndex, content: new Uint8Array(bytes).fill(chunkIndex + 1) });
}

describe("framed calls", () => {
  let harness: Harness;
  let transport: NetworkPeerTransport;
  let serve: ServeSnapshot;
  let serveReplicate: ServeReplicate;

  beforeEach(async () => {
    transport = new NetworkPeerTransport(new NodeClock());
    const handle = fakeReplica("default", 0, {
      serveSnapshot: (peer, call) => serve(peer, call),
      serveReplicate: (peer, call) => serveReplicate(peer, call),
    });
    harness = await openHarness(new FakeRuntime([handle]));
  });

  afterEach(async () => {
    await transport.close();
    await harness.close();
  });

  function open(address = harness.internalAddress): DuplexCall<SnapshotChunk, SnapshotResponse> {
    return transport.sendSnapshot(address, PEER);
  }

  it("carries names, chunks of any size and answers, beside gRPC on one port", async () => {
    const sizes = [0, 1, 1_000, 65_536, 262_144, 262_144, 1_048_576, 3];
    const got: number[] = [];
    let seen: Peer | undefined;
    serve = async (peer, call) => {
      seen = peer;
      for await (const { chunkIndex, content } of call.messages) {
        // Valid until the next message is asked for; so it is looked at here.
        assert.ok(content.every((byte) => byte === chunkIndex + 1));
        got.push(content.length);
        call.write(SnapshotResponse.create({ bytesVerified: content.length }));
      }
    };
    const call = open();
    for (const [index, bytes] of sizes.entries()) {
      if (!call.write(chunk(index, bytes))) await call.drained();
    }
    call.end();
    const answers = await within(drain(call.messages));
    assert.deepEqual(got, sizes);
    assert.deepEqual(
      answers.map(({ bytesVerified }) => bytesVerified),
      sizes,
    );
    assert.deepEqual(seen, PEER);
  });

  it("carries entries of any size, heartbeats and answers, whole and to be kept", async () => {
    const frame = {
      term: 4,
      commitOffset: 8,
      cumulativeAcksSupported: true,
      leaderUid: "leader-uid",
      targetUid: "target-uid",
      previous: { term: 3, offset: 9, crc: 77 },
      round: 5,
      targetVotes: true,
    };
    const sizes = [0, 1, 127, 1_000, 1_024, 1_025, 8_191, 65_536, 1_048_576];
    const appends = sizes.map((bytes, at) =>
      Append.create({
        ...frame,
        entry: { term: 4, offset: 10 + at, timestamp: 12_345, value: Buffer.alloc(bytes, at + 1) },
        previousEntryCrc: 77,
        entryCrc: 4_000_000_000,
      }),
    );
    appends.push(Append.create(frame));
    const ack = Ack.create({
      offset: 9,
      round: 5,
      synced: true,
      observedUid: "target-uid",
      mismatch: { term: 3, offset: 2, crc: 1 },
      noSpace: true,
    });
    const got: Append[] = [];
    serveReplicate = async (_peer, call) => {
      for await (const append of call.messages) {
        got.push(append);
        call.write(ack);
      }
    };
    const call = transport.replicate(harness.internalAddress, PEER);
    for (const append of appends) if (!call.write(append)) await call.drained();
    call.end();
    assert.deepEqual(
      await within(drain(call.messages)),
      appends.map(() => ack),
    );
    // Looked at after all came: their bytes are nobody else's.
    const plain = (append: Append): unknown => JSON.parse(JSON.stringify(append));
    assert.deepEqual(got.map(plain), appends.map(plain));
  });

  it("tells the two calls apart however late the first bytes come", async () => {
    serveReplicate = async (_peer, call) => {
      call.write(Ack.create({ offset: 7 }));
    };
    const port = Number(harness.internalAddress.split(":")[1]);
    const socket = connect(port, "127.0.0.1");
    const hello = Buffer.concat([
      REPLICATE_CALL.caller.preface,
      frameHeader(FRAME.OPEN, 0, 0),
      Buffer.from([]),
    ]);
    const answer = new Promise<Buffer>((resolve) => socket.once("data", resolve));
    for (const byte of hello) {
      await new Promise((resolve) => socket.write(Buffer.from([byte]), resolve));
      await new Promise((resolve) => setImmediate(resolve));
    }
    assert.equal((await within(answer)).toString("latin1", 0, 8), "RSLVREP1");
    socket.destroy();
  });

  it("carries records that a chunk ends within, when the next one comes late", () =>
    withDir(async (dir) => {
      const state = await openState(join(dir, "from"));
      const puts = Array.from({ length: 50 }, (_, at) => put(`k/${at}`, Buffer.alloc(1_000, at)));
      state.apply(new TestLog().write({ puts }));
      const pin = await state.pin();
      const writer = await engines.writer(join(dir, "to"), "RECORDS");
      serve = async (_peer, call) => {
        for await (const { chunkIndex, content } of call.messages) {
          await writer.append(content);
          call.write(SnapshotResponse.create({ resumeChunk: chunkIndex + 1 }));
        }
        await writer.finish();
      };
      const call = open();
      const answers = call.messages[Symbol.asyncIterator]();
      let sent = 0;
      for await (const content of pin.engine.records(4_096)) {
        call.write(SnapshotChunk.create({ chunkIndex: sent++, content }));
        // Not before the one before it was written, when its buffer is free again.
        const answer = await within(answers.next());
        assert.equal(answer.value?.resumeChunk, sent);
      }
      call.end();
      assert.equal((await within(answers.next())).done, true);
      assert.ok(sent > 10, `${sent} chunks`);
      const copy = await openState(join(dir, "to"));
      assert.deepEqual(await copy.checksum(NEVER), await state.checksum(NEVER));
      await copy.close();
      await pin.release();
      await state.close();
    }));

  it("brings a refusal with its reason and details, also from before anything was read", async () => {
    serve = async () => {
      throw new ProtocolError("NODE_IS_NOT_MEMBER", "not a member", { observedUid: "new-uid" });
    };
    const call = open();
    const pumping = (async () => {
      for (let at = 0; at < 100; at++) if (!call.write(chunk(at, 262_144))) await call.drained();
    })();
    await within(
      assert.rejects(drain(call.messages), (error: unknown) => {
        assert.ok(error instanceof ProtocolError);
        assert.equal(error.reason, "NODE_IS_NOT_MEMBER");
        assert.equal(error.metadata["observedUid"], "new-uid");
        return true;
      }),
    );
    await within(pumping);
    const unknown = transport.sendSnapshot(harness.internalAddress, { ...PEER, shard: 9 });
    await within(assert.rejects(drain(unknown.messages), ProtocolError));
  });

  it("holds back a sender whose receiver reads nothing, and lets go when it stops", async () => {
    let started = (_call: Receiving): void => {};
    const receiving = new Promise<Receiving>((resolve) => {
      started = resolve;
    });
    serve = async (_peer, call) => {
      started(call);
      await new Promise(() => {});
    };
    const call = open();
    let sent = 0;
    const sending = (async () => {
      // More than all buffers between hold.
      for (; sent < 1_000; sent++) if (!call.write(chunk(0, 262_144))) await call.drained();
    })();
    const receiver = await within(receiving);
    const messages = drain(call.messages);
    for (let still = 0, last = -1; still < 100; last = sent) {
      still = sent === last ? still + 1 : 0;
      await new Promise((resolve) => setImmediate(resolve));
    }
    assert.ok(sent < 1_000, `${sent} chunks of 256 KiB were taken and nobody read one`);
    call.cancel();
    await within(sending);
    assert.deepEqual(await within(messages), []);
    await within(drain(receiver.messages));
  });

  it("takes a cancellation of either side for no error", async () => {
    serve = async (_peer, call) => {
      call.cancel();
      assert.deepEqual(await drain(call.messages), []);
    };
    assert.deepEqual(await within(drain(open().messages)), []);
  });

  it("ends the receiver's messages when the sender goes away", async () => {
    let ended: Promise<unknown> = new Promise(() => {});
    let started: () => void = () => {};
    const running = new Promise<void>((resolve) => {
      started = resolve;
    });
    serve = (_peer, call) => {
      ended = drain(call.messages);
      started();
      return ended.then(() => undefined);
    };
    open().write(chunk(0, 10));
    await within(running);
    await transport.close();
    await within(ended);
    assert.throws(() => open(), TransportError);
  });

  it("tells of a peer that is not there, or never speaks", async () => {
    const accepted: Socket[] = [];
    const silent = createServer((socket) => accepted.push(socket));
    await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
    const address = silent.address();
    assert.ok(typeof address === "object" && address !== null);
    const start = performance.now();
    const call = open(`127.0.0.1:${address.port}`);
    await within(assert.rejects(drain(call.messages), TransportError), 10_000);
    assert.ok(performance.now() - start > LIMITS.peerTimeoutMs);
    for (const socket of accepted) socket.destroy();
    await new Promise((resolve) => silent.close(resolve));
    await within(assert.rejects(drain(open(`127.0.0.1:${address.port}`).messages), TransportError));
  }).timeout(20_000);

  it("falls back to gRPC for a peer that serves no framed calls", async () => {
    let chunks = 0;
    const handle = fakeReplica("default", 0, {
      serveSnapshot: async (_peer, call) => {
        for await (const message of call.messages) chunks += message.content.length > 0 ? 1 : 0;
      },
    });
    const older = await openOlderServer(new FakeRuntime([handle]));
    const { address } = older;
    await within(assert.rejects(drain(open(address).messages), TransportError));
    const call = open(address);
    call.write(chunk(0, 100));
    call.end();
    assert.deepEqual(await within(drain(call.messages)), []);
    assert.equal(chunks, 1);
    await transport.close();
    await older.close();
  });

  for (const [how, next, end] of [
    ["dies before it answers", "RSLVBLK1", (socket: Socket) => socket.resetAndDestroy()],
    ["hangs up in order", "PRI * HT", (socket: Socket) => socket.end()],
    ["answers otherwise", "PRI * HT", (socket: Socket) => socket.end("220 mail ready")],
  ] as const) {
    it(`begins with ${next} the next time when the peer ${how}`, async () => {
      const begun: string[] = [];
      const peer = createServer((socket) => {
        socket.on("error", () => undefined);
        socket.once("data", (first) => {
          begun.push(first.toString("latin1", 0, 8));
          end(socket);
        });
      });
      await new Promise<void>((resolve) => peer.listen(0, "127.0.0.1", resolve));
      const { port } = peer.address() as AddressInfo;
      for (let n = 0; n < 2; n += 1) {
        const call = open(`127.0.0.1:${port}`);
        await within(assert.rejects(drain(call.messages), TransportError));
      }
      await transport.close();
      await new Promise((resolve) => peer.close(resolve));
      assert.deepEqual(begun.slice(0, 2), ["RSLVBLK1", next]);
    });
  }

  for (const [name, bytes] of [
    ["another protocol", Buffer.from("RSLVBLK9 and more of it")],
    ["a frame of an unknown kind", Buffer.concat([PREFACE, frameHeader(77, 0, 0)])],
    ["a frame that is too large", Buffer.concat([PREFACE, frameHeader(2, 0, 2 ** 31)])],
    ["an answer from a caller", Buffer.concat([PREFACE, frameHeader(FRAME.STATUS, 0, 0)])],
    ["half a frame", Buffer.concat([PREFACE, frameHeader(1, 10, 0)])],
    ["nothing but noise", Buffer.from("GET / HTTP/1.1\r\n\r\n")],
  ] as const) {
    it(`disconnects who sends ${name}, and serves on`, async () => {
      const port = Number(harness.internalAddress.split(":")[1]);
      const socket = connect(port, "127.0.0.1");
      socket.on("error", () => undefined);
      socket.resume();
      socket.end(bytes);
      await within(new Promise((resolve) => socket.once("close", resolve)));
      serve = async (_peer, call) => {
        await drain(call.messages);
      };
      const call = open();
      call.end();
      assert.deepEqual(await within(drain(call.messages)), []);
    });
  }

  for (const [name, frames] of [
    ["a message before it says what it wants", [frameHeader(FRAME.MESSAGE, 0, 0)]],
    ["what it wants twice", [OPENING, OPENING]],
  ] as const) {
    it(`disconnects at once who says ${name}`, async () => {
      serve = async (_peer, call) => {
        await drain(call.messages);
      };
      const socket = connect(Number(harness.internalAddress.split(":")[1]), "127.0.0.1");
      socket.on("error", () => undefined);
      socket.resume();
      socket.write(Buffer.concat([PREFACE, ...frames]));
      await within(new Promise((resolve) => socket.once("close", resolve)), LIMITS.peerTimeoutMs);
    });
  }

  it("fails a call to what is no address, and names it", async () => {
    for (const address of ["", "nowhere", "127.0.0.1:99999", "127.0.0.1:"]) {
      const call = transport.replicate(address, PEER);
      assert.equal(call.write(Append.create({})), true);
      await within(
        assert.rejects(drain(call.messages), {
          name: "TransportError",
          message: `address is "${address}"; allowed: host:port`,
        }),
      );
    }
  });

  it("puts frames together wherever the bytes were cut", () => {
    const content = Buffer.from("content");
    const stream = Buffer.concat([
      PREFACE,
      frameHeader(FRAME.OPEN, 4, 0),
      Buffer.from("head"),
      frameHeader(FRAME.PING, 0, 0),
      frameHeader(FRAME.MESSAGE, 1, content.length),
      Buffer.from("h"),
      content,
    ]);
    for (let cut = 0; cut <= stream.length; cut++) {
      const reader = new FrameReader(PREFACE);
      const frames = [stream.subarray(0, cut), stream.subarray(cut)].flatMap((part) => [
        ...reader.push(part),
      ]);
      assert.deepEqual(
        frames.map(({ kind, head, content: body }) => [
          kind,
          Buffer.from(head).toString(),
          Buffer.from(body).toString(),
        ]),
        [
          [FRAME.OPEN, "head", ""],
          [FRAME.PING, "", ""],
          [FRAME.MESSAGE, "h", "content"],
        ],
      );
    }
    assert.throws(
      () => [...new FrameReader(PREFACE).push(Buffer.from("PRI * HTTP/2.0"))],
      FrameError,
    );
  });
});
