import assert from "node:assert/strict";
import {
  type ClientDuplexStream,
  Metadata,
  type ServiceError,
  status as Code,
} from "@grpc/grpc-js";
import { LIMITS } from "../../../sidecar/limits.ts";
import { ProtocolError } from "../../../sidecar/protocol/errors.ts";
import {
  ReadRequest,
  WriteRequest,
  WriteResponse,
} from "../../../sidecar/protocol/gen/oxia-client.ts";
import { OxiaClientService as Api } from "../../../sidecar/protocol/service.ts";
import { FakeRuntime, fakeReplica } from "./fake-runtime.ts";
import { collect, type Harness, metadataOf, openHarness, within } from "./harness.ts";

type Stream = ClientDuplexStream<WriteRequest, WriteResponse>;

const SHARD_0 = { "shard-id": "0", namespace: "default" };

/** A replica that answers when the test says so. */
class ManualReplica {
  readonly pending: {
    readonly key: string;
    resolve(): void;
    reject(error: Error): void;
  }[] = [];
  #arrived: () => void = () => {};

  /** Key of the write that is refused at once. */
  refuses: string | null = null;

  readonly write = (request: WriteRequest): Promise<WriteResponse> => {
    const key = request.puts[0]?.key ?? "";
    if (key === this.refuses) {
      return Promise.reject(new ProtocolError("RESOURCE_UNAVAILABLE", "too many writes wait"));
    }
    return new Promise((resolve, reject) => {
      this.pending.push({
        key,
        resolve: () => resolve(WriteResponse.create({ puts: [{ key }] })),
        reject,
      });
      this.#arrived();
    });
  };

  async arrived(count: number): Promise<void> {
    while (this.pending.length < count) {
      await new Promise<void>((resolve) => {
        this.#arrived = resolve;
      });
    }
  }
}

function request(key: string, bytes: number = 1): WriteRequest {
  return WriteRequest.create({ shard: 0, puts: [{ key, value: Buffer.alloc(bytes) }] });
}

function outcome(stream: Stream): Promise<{ keys: string[]; error: ServiceError | null }> {
  const keys: string[] = [];
  stream.on("data", (response: WriteResponse) => keys.push(response.puts[0]?.key ?? ""));
  return within(
    new Promise((resolve) => {
      stream.on("error", (error: ServiceError) => resolve({ keys, error }));
      stream.on("end", () => resolve({ keys, error: null }));
    }),
  );
}

describe("WriteStream", () => {
  let harness: Harness;
  let replica: ManualReplica;

  beforeEach(async () => {
    replica = new ManualReplica();
    const handle = fakeReplica("default", 0, { write: replica.write });
    harness = await openHarness(new FakeRuntime([handle]));
  });

  afterEach(() => harness.close());

  function open(metadata: Metadata = metadataOf(SHARD_0)): Stream {
    const method = Api.writeStream;
    return harness.public.makeBidiStreamRequest(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
      metadata,
    );
  }

  it("answers in request order, whatever order writes finish in", async () => {
    const stream = open();
    const end = outcome(stream);
    for (const key of ["a", "b", "c"]) stream.write(request(key));
    stream.end();
    await within(replica.arrived(3));
    for (const write of replica.pending.toReversed()) write.resolve();
    assert.deepEqual(await end, { keys: ["a", "b", "c"], error: null });
  });

  it("tells of a refusal in its turn: what succeeded before it is answered", async () => {
    const stream = open();
    const end = outcome(stream);
    for (const key of ["a", "b", "c"]) stream.write(request(key));
    await within(replica.arrived(3));
    replica.pending[1]?.reject(new ProtocolError("NODE_IS_NOT_LEADER", "node is not leader"));
    replica.pending[2]?.resolve();
    replica.pending[0]?.resolve();
    const { keys, error } = await end;
    assert.equal(error?.code, Code.ABORTED);
    assert.ok(keys.length <= 1 && !keys.includes("c"));
  });

  it("executes nothing after a refused write, since nobody would be told", async () => {
    const stream = open();
    const end = outcome(stream);
    stream.write(request("a"));
    stream.write(request("x".repeat(LIMITS.keyBytesMax + 1)));
    const sent = new Promise((resolve) => stream.write(request("b"), resolve));
    await within(replica.arrived(1));
    await within(sent);
    // Calls on the same connection, sent after all of them.
    for (let turn = 0; turn < 20; turn++) {
      await collect(harness.public, Api.read, ReadRequest.create({ shard: 0 }));
    }
    assert.deepEqual(
      replica.pending.map(({ key }) => key),
      ["a"],
    );
    replica.pending[0]?.resolve();
    const { error } = await end;
    assert.equal(error?.code, Code.INVALID_ARGUMENT);
  });

  it("executes nothing of one burst after the write that the replica refuses at once", async () => {
    const stream = open();
    const end = outcome(stream);
    const { writeStreamRequestsMax: max } = LIMITS;
    replica.refuses = `k${max}`;
    for (let at = 0; at < max + 8; at++) stream.write(request(`k${at}`));
    await within(replica.arrived(max));
    // What waits in the stream's buffer comes without a pause between when it goes on.
    for (const write of replica.pending.splice(0)) write.resolve();
    const { error } = await end;
    assert.equal(error?.code, Code.UNAVAILABLE);
    assert.deepEqual(replica.pending, []);
  });

  it("accepts no more than its bound before answers are due", async () => {
    const stream = open();
    const end = outcome(stream);
    const total = LIMITS.writeStreamRequestsMax + 200;
    for (let at = 0; at < total; at++) stream.write(request(`k${at}`));
    stream.end();
    await within(replica.arrived(LIMITS.writeStreamRequestsMax));
    for (let turn = 0; turn < 50; turn++) await new Promise((resolve) => setImmediate(resolve));
    assert.ok(replica.pending.length <= LIMITS.writeStreamRequestsMax + 1);
    for (let at = 0; at < total; at++) {
      await within(replica.arrived(at + 1));
      replica.pending[at]?.resolve();
    }
    const { keys, error } = await end;
    assert.equal(error, null);
    assert.equal(keys.length, total);
  });

  it("names what is wrong with its metadata or a request", async () => {
    const cases: readonly (readonly [Metadata, WriteRequest, RegExp])[] = [
      [metadataOf({ namespace: "default" }), request("a"), /shard-id is absent/],
      [metadataOf({ "shard-id": "x" }), request("a"), /shard-id is "x".*whole number/],
      [metadataOf({ "shard-id": "5" }), request("a"), /shard 5/],
      [metadataOf({ "shard-id": "0", namespace: "no" }), request("a"), /namespace no/],
      [metadataOf(SHARD_0), WriteRequest.create({ shard: 1 }), /shard is 1 .*shard 0/],
      [metadataOf(SHARD_0), request("a", LIMITS.valueBytesMax + 1), /value/],
    ];
    for (const [metadata, write, text] of cases) {
      const stream = open(metadata);
      const end = outcome(stream);
      stream.write(write);
      const { error } = await end;
      assert.match(error?.details ?? "", text);
    }
  });

  it("answers what it accepted when the process stops, then ends the stream", async () => {
    const stream = open();
    const end = outcome(stream);
    stream.write(request("a"));
    await within(replica.arrived(1));
    const closing = harness.servers.close(async () => {});
    replica.pending[0]?.resolve();
    const { keys, error } = await end;
    await within(closing);
    assert.equal(error?.code, Code.UNAVAILABLE);
    assert.deepEqual(keys, ["a"]);
  });

  it("survives a client that goes away with writes in flight", async () => {
    const stream = open();
    stream.on("error", () => {});
    stream.write(request("a"));
    await within(replica.arrived(1));
    stream.cancel();
    await within(new Promise((resolve) => stream.once("status", resolve)));
    replica.pending[0]?.resolve();
    const second = open();
    const end = outcome(second);
    second.end(request("b"));
    await within(replica.arrived(2));
    replica.pending[1]?.resolve();
    assert.deepEqual(await end, { keys: ["b"], error: null });
  });
});
