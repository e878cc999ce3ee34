import assert from "node:assert/strict";
import { EventEmitter, once } from "node:events";
import { connect } from "node:net";
import { type ServiceError, status as Code } from "@grpc/grpc-js";
import { LIMITS } from "../../../sidecar/limits.ts";
import { DETAILS_KEY, decodeErrorDetail } from "../../../sidecar/protocol/error-detail.ts";
import { ProtocolError } from "../../../sidecar/protocol/errors.ts";
import {
  GetRequest,
  GetResponse,
  ListRequest,
  RangeScanRequest,
  ReadRequest,
  type ReadResponse,
  ShardAssignments,
  WriteRequest,
  WriteResponse,
} from "../../../sidecar/protocol/gen/oxia-client.ts";
import { OxiaClientService as Api } from "../../../sidecar/protocol/service.ts";
import { FakeRuntime, fakeReplica, type Overrides } from "./fake-runtime.ts";
import {
  callUnary,
  collect,
  failure,
  type Harness,
  metadataOf,
  openHarness,
  openStream,
  within,
} from "./harness.ts";

/** 2^62 as a varint. */
const NUMBER_ABOVE = Buffer.from([0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x40]);

const LEADER = "leader.example:6648";

function assignmentsOf(leader: string): ShardAssignments {
  return ShardAssignments.create({
    namespaces: {
      default: {
        assignments: [
          { shard: 0, leader },
          { shard: 9, leader },
        ],
      },
    },
  });
}

function put(key: string, value: Uint8Array = Buffer.from("v")): WriteRequest {
  return WriteRequest.create({ shard: 0, puts: [{ key, value }] });
}

describe("Public API", () => {
  let harness: Harness;

  async function open(overrides: Overrides = {}): Promise<Harness> {
    harness = await openHarness(new FakeRuntime([fakeReplica("default", 0, overrides)]));
    return harness;
  }

  afterEach(() => harness.close());

  it("tells a replica when a reader has gone", async () => {
    const waiting = new EventEmitter();
    const { public: client } = await open({
      readBarrier: (signal) =>
        new Promise((_resolve, reject) => {
          signal.addEventListener("abort", () => {
            waiting.emit("gone");
            reject(signal.reason as Error);
          });
          waiting.emit("waits");
        }),
    });
    for (const [api, request] of [
      [Api.read, ReadRequest.create({ shard: 0 })],
      [Api.list, ListRequest.create({ shard: 0 })],
      [Api.rangeScan, RangeScanRequest.create({ shard: 0 })],
    ] as const) {
      const waits = once(waiting, "waits");
      const call = openStream<unknown, unknown>(client, api as never, request);
      call.on("error", () => undefined);
      await within(waits);
      const gone = once(waiting, "gone");
      call.cancel();
      await within(gone);
    }
  });

  it("writes, reads, lists and scans, each read after one barrier", async () => {
    let barriers = 0;
    const { public: client } = await open({
      async readBarrier() {
        barriers++;
      },
    });
    const written = await callUnary(client, Api.write, put("a", Buffer.from("1")));
    assert.equal(written.puts[0]?.key, "a");
    const gets = [GetRequest.create({ key: "a" }), GetRequest.create({ key: "none" })];
    const [read] = await collect(client, Api.read, ReadRequest.create({ shard: 0, gets }));
    assert.deepEqual(
      read?.gets.map(({ status, value }) => [status, value && Buffer.from(value).toString()]),
      [
        [0, "1"],
        [1, undefined],
      ],
    );
    const listed = await collect(client, Api.list, ListRequest.create({ shard: 0 }));
    assert.deepEqual(
      listed.flatMap(({ keys }) => keys),
      ["a"],
    );
    const scan = RangeScanRequest.create({ shard: 0 });
    const scanned = await collect(client, Api.rangeScan, scan);
    assert.equal(scanned[0]?.records[0]?.key, "a");
    assert.equal(barriers, 3);
  });

  it("hands the replica the bytes of a write as they came", async () => {
    let seen: Uint8Array | undefined;
    const { public: client } = await open({
      async write(_request, raw) {
        seen = raw;
        return WriteResponse.create({});
      },
    });
    const request = put("key", Buffer.alloc(100_000, 7));
    await callUnary(client, Api.write, request);
    assert.deepEqual(Buffer.from(seen ?? []), Api.write.requestSerialize(request));
  });

  it("refuses a value over the limit, naming field, value and limit", async () => {
    const { public: client } = await open();
    const big = put("k", Buffer.alloc(LIMITS.valueBytesMax + 1));
    const error = await failure(callUnary(client, Api.write, big));
    assert.equal(error.code, Code.INVALID_ARGUMENT);
    assert.match(
      error.details,
      new RegExp(`value.*${LIMITS.valueBytesMax + 1}.*${LIMITS.valueBytesMax}`),
    );
  });

  it("names size and limit of a message that is too big to be decoded, and serves on", async () => {
    const { public: client } = await open();
    const huge = put("k", Buffer.alloc(LIMITS.messageBytesMax + 1));
    const error = await failure(callUnary(client, Api.write, huge));
    assert.equal(error.code, Code.RESOURCE_EXHAUSTED);
    assert.match(error.details, new RegExp(String(LIMITS.messageBytesMax)));
    await callUnary(client, Api.write, put("small"));
  });

  it("refuses by name what it does not support yet", async () => {
    const { public: client } = await open();
    const session = { shard: 0, sessionId: 1 };
    const calls: readonly (readonly [Promise<unknown>, RegExp])[] = [
      [callUnary(client, Api.keepAlive, session), /KeepAlive/],
      [callUnary(client, Api.closeSession, session), /CloseSession/],
      [
        callUnary(client, Api.createSession, {
          shard: 0,
          sessionTimeoutMs: 5_000,
          clientIdentity: "c",
        }),
        /CreateSession/,
      ],
      [collect(client, Api.getSequenceUpdates, { shard: 0, key: "k" }), /GetSequenceUpdates/],
      [
        collect(client, Api.getNotifications, { shard: 0, startOffsetExclusive: undefined }),
        /GetNotifications/,
      ],
      [
        callUnary(client, Api.write, WriteRequest.create({ shard: 0, puts: [{ sessionId: 1 }] })),
        /session_id/,
      ],
      [
        collect(client, Api.list, ListRequest.create({ shard: 0, secondaryIndexName: "i" })),
        /secondary_index_name/,
      ],
    ];
    for (const [call, text] of calls) {
      const error = await failure(call);
      assert.equal(error.code, Code.UNIMPLEMENTED);
      assert.match(error.details, text);
    }
  });

  it("cuts what a client made long in the refusal of it", async () => {
    const { public: client } = await open();
    const request = ListRequest.create({ shard: 0, secondaryIndexName: "i".repeat(1_000_000) });
    const index = await failure(collect(client, Api.list, request));
    assert.equal(index.code, Code.UNIMPLEMENTED);
    assert.match(index.details, /^secondary_index_name is set to i{64}\.\.\., /);
    harness.servers.assignments.update(assignmentsOf(LEADER));
    const namespace = "n".repeat(1_000_000);
    const space = await failure(collect(client, Api.getShardAssignments, { namespace }));
    assert.equal(space.code, Code.NOT_FOUND);
    const detail = decodeErrorDetail(space.metadata.get(DETAILS_KEY)[0] as Buffer);
    assert.equal(detail?.metadata["value"]?.length, 323);
  });

  it("names an unknown shard and an unknown namespace", async () => {
    const { public: client } = await open();
    const shard = await failure(callUnary(client, Api.write, WriteRequest.create({ shard: 77 })));
    assert.equal(shard.code, Code.NOT_FOUND);
    assert.match(shard.details, /77/);
    const metadata = metadataOf({ namespace: "nowhere" });
    const space = await failure(callUnary(client, Api.write, put("a"), metadata));
    assert.equal(space.code, Code.NOT_FOUND);
    assert.match(space.details, /nowhere/);
    const absent = await failure(callUnary(client, Api.write, WriteRequest.create({})));
    assert.equal(absent.code, Code.INVALID_ARGUMENT);
    assert.match(absent.details, /shard is absent/);
  });

  it("finds a shard of another namespace by its number alone, as Oxia's clients ask", async () => {
    harness = await openHarness(
      new FakeRuntime([fakeReplica("default", 0), fakeReplica("other", 4)]),
    );
    const request = WriteRequest.create({ shard: 4, puts: [{ key: "a" }] });
    assert.equal((await callUnary(harness.public, Api.write, request)).puts[0]?.key, "a");
  });

  it("redirects to the leader that the assignments name", async () => {
    const { public: client, servers } = await open({
      async write() {
        throw new ProtocolError("NODE_IS_NOT_LEADER", "node is not leader for shard 0");
      },
    });
    servers.assignments.update(assignmentsOf(LEADER));
    const path = "/io.streamnative.oxia.proto.OxiaClient/Write";
    const renamed = { ...Api.write, path };
    for (const shard of [0, 9]) {
      const request = WriteRequest.create({ shard, puts: [{ key: "a" }] });
      const error = await failure(callUnary(client, Api.write, request));
      assert.equal(error.code, Code.ABORTED);
      const detail = decodeErrorDetail(error.metadata.get(DETAILS_KEY)[0] as Buffer);
      assert.equal(detail?.reason, "NODE_IS_NOT_LEADER");
      assert.equal(detail?.domain, "oxia.io");
      assert.equal(detail?.metadata["leader"], LEADER);
      assert.equal(detail?.metadata["shard"], String(shard));
      const released = await failure(callUnary(client, renamed, request));
      assert.equal(released.code, Code.UNAVAILABLE);
    }
  });

  it("names the leader of another namespace's shard that it has no replica of", async () => {
    const { public: client, servers } = await open();
    const other = { assignments: [{ shard: 4, leader: LEADER }] };
    // One number in two namespaces: the call says which.
    const both = { assignments: [{ shard: 5, leader: LEADER }] };
    const wrong = { assignments: [{ shard: 5, leader: "wrong:1" }] };
    servers.assignments.update(
      ShardAssignments.create({ namespaces: { default: wrong, other, third: both } }),
    );
    for (const [shard, named] of [
      [4, {}],
      [4, { namespace: "other" }],
      [5, { namespace: "third" }],
    ] as const) {
      const request = ListRequest.create({ shard });
      const error = await failure(collect(client, Api.list, request, metadataOf(named)));
      const detail = decodeErrorDetail(error.metadata.get(DETAILS_KEY)[0] as Buffer);
      assert.equal(detail?.reason, "NODE_IS_NOT_LEADER");
      assert.equal(detail?.metadata["leader"], LEADER);
    }
  });

  it("names the leader of the namespace that the call is for, of two with one number", async () => {
    const replica = fakeReplica("third", 5, {
      async readBarrier() {
        throw new ProtocolError("NODE_IS_NOT_LEADER", "node is not leader for shard 5");
      },
    });
    harness = await openHarness(new FakeRuntime([replica]));
    const third = { assignments: [{ shard: 5, leader: LEADER }] };
    const other = { assignments: [{ shard: 5, leader: "wrong:1" }] };
    harness.servers.assignments.update(
      ShardAssignments.create({ namespaces: { default: other, third } }),
    );
    const request = ListRequest.create({ shard: 5 });
    const named = metadataOf({ namespace: "third" });
    const error = await failure(collect(harness.public, Api.list, request, named));
    const detail = decodeErrorDetail(error.metadata.get(DETAILS_KEY)[0] as Buffer);
    assert.equal(detail?.metadata["leader"], LEADER);
  });

  it("streams assignments and each change of them", async () => {
    const { public: client, servers } = await open();
    const request = { namespace: "" };
    const early = await failure(collect(client, Api.getShardAssignments, request));
    assert.equal(early.code, Code.UNAVAILABLE);
    servers.assignments.update(assignmentsOf("first:1"));
    const unknown = await failure(collect(client, Api.getShardAssignments, { namespace: "x" }));
    assert.equal(unknown.code, Code.NOT_FOUND);
    assert.match(unknown.details, /"x".*default/);
    const stream = openStream(client, Api.getShardAssignments, request);
    const leaders: (string | undefined)[] = [];
    for await (const message of stream) {
      leaders.push(message.namespaces["default"]?.assignments[0]?.leader);
      if (leaders.length === 2) break;
      servers.assignments.update(assignmentsOf("second:2"));
    }
    assert.deepEqual(leaders, ["first:1", "second:2"]);
  });

  it("pages a big scan, waits for a slow reader, and stops when it cancels", async () => {
    let made = 0;
    let released: () => void = () => {};
    const done = new Promise<void>((resolve) => {
      released = resolve;
    });
    const value = Buffer.alloc(1024 * 1024);
    const { public: client } = await open({
      *scan() {
        try {
          for (;;) {
            made++;
            yield [GetResponse.create({ key: `k${made}`, value })];
          }
        } finally {
          released();
        }
      },
    });
    const stream = openStream(client, Api.rangeScan, RangeScanRequest.create({ shard: 0 }));
    stream.on("error", () => {});
    await new Promise((resolve) => stream.once("data", resolve));
    stream.pause();
    // What fits into the windows and buffers between, and no more.
    for (let turn = 0; turn < 50; turn++) {
      await collect(client, Api.read, ReadRequest.create({ shard: 0, gets: [] }));
    }
    assert.ok(made < 64, `${made} pages were made for a reader that took one`);
    stream.cancel();
    await within(done);
  });

  it("reads many large values in messages of bounded size", async () => {
    const value = Buffer.alloc(900_000, 1);
    const { public: client } = await open({ get: () => GetResponse.create({ value }) });
    const gets = Array.from({ length: 10 }, (_, at) => GetRequest.create({ key: `k${at}` }));
    const pages = await collect(client, Api.read, ReadRequest.create({ shard: 0, gets }));
    assert.equal(pages.flatMap((page) => page.gets).length, 10);
    for (const page of pages) {
      const bytes = page.gets.reduce((sum, get) => sum + (get.value?.byteLength ?? 0), 0);
      assert.ok(bytes <= LIMITS.readBytesPerMessageMax);
    }
  });

  it("counts client identities too, so that each message of a read can be sent", async () => {
    const version = { versionId: 1, clientIdentity: "i".repeat(60 * 1024) };
    const answer = GetResponse.fromPartial({ version, value: Buffer.from("1") });
    const { public: client } = await open({ get: () => answer });
    const gets = Array.from({ length: 200 }, () => GetRequest.create({ key: "k" }));
    const pages = await collect(client, Api.read, ReadRequest.create({ shard: 0, gets }));
    assert.equal(pages.flatMap((page) => page.gets).length, 200);
    for (const page of pages) {
      assert.ok(Api.read.responseSerialize(page).length <= LIMITS.readBytesPerMessageMax);
    }
  });

  it("answers many gets in pages, with turns for others between, and bounds their number", async () => {
    const turns: number[] = [];
    let reads = 0;
    const { public: client } = await open({
      get: () => {
        // Runs when the pages before it let go of the event loop.
        if (reads++ === 0) setImmediate(() => turns.push(reads));
        return GetResponse.create({});
      },
    });
    const read = (count: number): Promise<readonly ReadResponse[]> => {
      const gets = Array.from({ length: count }, () => GetRequest.create({ key: "k" }));
      return collect(client, Api.read, ReadRequest.create({ shard: 0, gets }));
    };
    const pages = await read(LIMITS.readGetsMax);
    assert.deepEqual(
      pages.map(({ gets }) => gets.length),
      Array(LIMITS.readGetsMax / 1_000).fill(1_000),
    );
    assert.ok((turns[0] ?? Infinity) <= 2_001, `others waited for ${turns[0]} gets`);
    const error = await failure(read(LIMITS.readGetsMax + 1));
    assert.equal(error.code, Code.INVALID_ARGUMENT);
    assert.match(error.details, /^request has more than 10000 gets .*allowed: at most 10000/);
    assert.equal(reads, LIMITS.readGetsMax);
  });

  it("lists more keys than fit into a message", async () => {
    const { public: client } = await open();
    const puts = Array.from({ length: 2_500 }, (_, at) => ({ key: `k${at}` }));
    await callUnary(client, Api.write, WriteRequest.create({ shard: 0, puts }));
    const pages = await collect(client, Api.list, ListRequest.create({ shard: 0 }));
    assert.deepEqual(
      pages.map(({ keys }) => keys.length),
      [1_000, 1_000, 500],
    );
  });

  it("survives garbage on both gRPC ports", async () => {
    const { public: client, servers } = await open();
    const garbage = [
      Buffer.alloc(4_096, 0xff),
      Buffer.from("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
      Buffer.concat([Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Buffer.alloc(512, 0x41)]),
    ];
    for (const port of [servers.ports.public, servers.ports.internal, servers.ports.metrics]) {
      for (const bytes of garbage) {
        await within(
          new Promise<void>((resolve) => {
            const socket = connect(port, "127.0.0.1", () => socket.end(bytes));
            socket.on("error", () => resolve());
            socket.on("close", () => resolve());
            socket.resume();
          }),
        );
      }
    }
    await callUnary(client, Api.write, put("a"));
  });

  it("refuses a read whose bytes are no whole message or no text, by name", async () => {
    const { public: client } = await open();
    const cases = [
      [Api.read, [8, 0, 18, 3, 10, 1, 0xff], /^gets.key has text that is not UTF-8 .hex ff/],
      [Api.read, [8, 0, 18, 2, 10, 1], /^gets has field 1 without an end/],
      [Api.list, [8, 0, 18, 1, 0xfe], /^request.start_inclusive has text that is not UTF-8/],
      [Api.rangeScan, [8, 0, 26, 1, 0xfe], /^request.end_exclusive has text that is not UTF-8/],
      [Api.list, [8, ...NUMBER_ABOVE], /^request cannot be decoded: .*2\^53/],
    ] as const;
    for (const [api, bytes, text] of cases) {
      const method = { ...api, requestSerialize: () => Buffer.from(bytes) };
      const error = await failure(collect<unknown, unknown>(client, method as never, {}));
      assert.equal(error.code, Code.INVALID_ARGUMENT);
      assert.match(error.details, text);
    }
  });

  it("refuses a request whose bytes are no whole message, by name, and serves on", async () => {
    let writes = 0;
    const { public: client } = await open({
      async write() {
        writes++;
        return WriteResponse.create({});
      },
    });
    const whole = Api.write.requestSerialize(put("a"));
    const tooBig = WriteRequest.create({ shard: 0, puts: [{ overrideVersionId: 5 }] });
    const big = Buffer.concat([Api.write.requestSerialize(tooBig).subarray(0, -1), NUMBER_ABOVE]);
    big[3] = (big[3] ?? 0) + NUMBER_ABOVE.length - 1;
    for (const [bytes, text] of [
      [Buffer.from([0x0f, 0xff, 0xff]), /^request has tag 15 of wire type 7 at byte 0/],
      [Buffer.concat([whole, Buffer.from([0, 10, 0])]), /^request has tag 0 at byte/],
      [Buffer.from([0, 0, 18, 2, 10, 0]), /^request has tag 0 at byte 0/],
      [Buffer.from([8, 0, 18, 3, 10, 1, 0xff]), /^puts.key has text that is not UTF-8 .hex ff/],
      [whole.subarray(0, -1), /^request has field 2 without an end/],
      [Buffer.concat(Array(10_001).fill(whole.subarray(2))), /^request has more than 10000 op/],
      [big, /^request cannot be decoded: .*2\^53/],
    ] as const) {
      const broken = { requestSerialize: () => bytes };
      const error = await failure(callUnary(client, { ...Api.write, ...broken }, put("a")));
      assert.equal(error.code, Code.INVALID_ARGUMENT);
      assert.match(error.details, text);
      const method = { ...Api.writeStream, ...broken };
      const stream = client.makeBidiStreamRequest(
        method.path,
        method.requestSerialize,
        method.responseDeserialize,
        metadataOf({ "shard-id": "0" }),
      );
      const failed = within(once(stream, "error"));
      stream.resume();
      stream.write(put("a"));
      const [streamed] = (await failed) as [ServiceError];
      assert.equal(streamed.code, Code.INVALID_ARGUMENT);
      assert.match(streamed.details, text);
    }
    assert.equal(writes, 0);
    await callUnary(client, Api.write, put("a"));
    assert.equal(writes, 1);
  });
});
