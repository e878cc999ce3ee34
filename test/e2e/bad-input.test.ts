/** What must be refused by real processes, clearly, and without a trace in what they hold. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:net";
import { Client, credentials, type ServiceError, status as Code } from "@grpc/grpc-js";
import { LIMITS } from "../../sidecar/limits.ts";
import { DETAILS_KEY, refusalOf } from "../../sidecar/protocol/error-detail.ts";
import { WriteRequest } from "../../sidecar/protocol/gen/oxia-client.ts";
import {
  Append,
  DeleteShardRequest,
  EnrolRequest,
  NewTermRequest,
  OpenShardRequest,
  type ReplicaStatus,
  SnapshotChunk,
} from "../../sidecar/protocol/gen/resilver.ts";
import {
  CoordinationService,
  LogReplicationService,
  type MethodDefinition,
  OxiaClientService,
} from "../../sidecar/protocol/service.ts";
import { peerToMetadata } from "../../sidecar/rpc/peer-metadata.ts";
import { callUnary, failure, metadataOf, within } from "../sidecar/rpc/harness.ts";
import { TestStore } from "../support/local-store.ts";

const KEY = { namespace: "default", shard: 0 };

describe("Bad input to a real store", function () {
  this.timeout(120_000);
  let test: TestStore;
  let clients: Client[];
  let was: ReplicaStatus;
  let victim: string;

  before(async () => {
    test = await TestStore.start();
    await test.load(50, 1024);
  });

  beforeEach(async () => {
    clients = [];
    await test.store.whole(30_000);
    victim = test.follower();
    was = await test.sidecarStatus(victim);
  });

  /** Every refusal leaves term, identity and log as they were, and the store serves on. */
  afterEach(async () => {
    for (const client of clients) client.close();
    const after = await test.sidecarStatus(victim);
    assert.deepEqual(
      [after.replicaUid, after.term, after.status, after.head],
      [was.replicaUid, was.term, was.status, was.head],
    );
    await test.load(5, 1024, "after");
    await test.proveNothingLost();
  });

  after(async () => {
    await test.close();
  });

  function open(address: string): Client {
    const client = new Client(address, credentials.createInsecure(), {
      "grpc.max_send_message_length": -1,
    });
    clients.push(client);
    return client;
  }

  const internal = () => open(test.store.endpoint(victim).internalAddress);
  const leading = () => open(test.store.endpoint(test.leader()).publicAddress);

  function refusal(error: ServiceError) {
    const detail = error.metadata.get(DETAILS_KEY)[0];
    const found = refusalOf(error.code, error.details, detail as Buffer | undefined);
    assert.ok(found !== null, `${error.code}: ${error.details}`);
    return found;
  }

  /** What a bidirectional call fails with, opened as this leader to this replica. */
  async function streamFailure<Request, Response>(
    method: MethodDefinition<Request, Response, true, true>,
    message: Request,
    peer: { readonly term?: number; readonly targetUid?: string; readonly storeId?: string },
  ): Promise<ServiceError> {
    const metadata = peerToMetadata({
      ...KEY,
      term: was.term,
      generation: 1_000,
      majorityHolds: false,
      leaderUid: test.replica(test.leader()).uid,
      targetUid: was.replicaUid,
      storeId: test.store.settings.storeId,
      ...peer,
    });
    const stream = internal().makeBidiStreamRequest(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
      metadata,
    );
    stream.resume();
    const failed = once(stream, "error") as Promise<[ServiceError]>;
    stream.write(message);
    return (await within(failed))[0];
  }

  it("an order for another store", async () => {
    const storeId = "store-of-somebody-else";
    const { targetUid, term } = { targetUid: was.replicaUid, term: was.term + 1 };
    const calls = [
      callUnary(
        internal(),
        CoordinationService.openShard,
        OpenShardRequest.create({ ...KEY, storeId }),
      ),
      callUnary(
        internal(),
        CoordinationService.newTerm,
        NewTermRequest.create({ ...KEY, storeId, targetUid, term }),
      ),
      callUnary(
        internal(),
        CoordinationService.enrol,
        EnrolRequest.create({ ...KEY, storeId, targetUid, term }),
      ),
      callUnary(
        internal(),
        CoordinationService.deleteShard,
        DeleteShardRequest.create({ ...KEY, storeId, term }),
      ),
    ];
    for (const call of calls) {
      const { reason, message } = refusal(await failure(call));
      assert.equal(reason, "WRONG_STORE");
      assert.match(message, new RegExp(`store_id.*${storeId}.*${test.store.settings.storeId}`));
    }
  });

  it("an order for another replica than the one that is here", async () => {
    const targetUid = "somebodyelse";
    const request = { ...KEY, storeId: test.store.settings.storeId, targetUid };
    const term = was.term + 1;
    for (const call of [
      callUnary(
        internal(),
        CoordinationService.newTerm,
        NewTermRequest.create({ ...request, term }),
      ),
      callUnary(internal(), CoordinationService.enrol, EnrolRequest.create({ ...request, term })),
    ]) {
      const { reason, metadata } = refusal(await failure(call));
      assert.equal(reason, "NODE_IS_NOT_MEMBER");
      assert.equal(metadata["observedUid"], was.replicaUid);
      assert.equal(metadata["expectedUid"], targetUid);
    }
  });

  it("an order of an older term", async () => {
    // So that there is an older one.
    await test.store.moveLeader(KEY, victim, 30_000);
    victim = test.follower();
    await test.store.whole(30_000);
    was = await test.sidecarStatus(victim);
    assert.ok(was.term > 0);
    const { storeId } = test.store.settings;
    const request = { ...KEY, storeId, targetUid: was.replicaUid, generation: 1_000 };
    const term = was.term - 1;
    for (const call of [
      callUnary(
        internal(),
        CoordinationService.newTerm,
        NewTermRequest.create({ ...request, term }),
      ),
      callUnary(
        internal(),
        CoordinationService.deleteShard,
        DeleteShardRequest.create({ ...KEY, storeId, term }),
      ),
    ]) {
      const { reason, message, metadata } = refusal(await failure(call));
      assert.equal(reason, "INVALID_TERM");
      assert.match(message, new RegExp(`term ${term}.*term ${was.term}`));
      assert.equal(metadata["allowed"], `>= ${was.term}`);
    }
  });

  for (const rpc of ["replicate", "sendSnapshot"] as const) {
    it(`a ${rpc} stream of an older term, for another replica, or of another store`, async () => {
      await test.store.moveLeader(KEY, victim, 30_000);
      victim = test.follower();
      await test.store.whole(30_000);
      was = await test.sidecarStatus(victim);
      const fail = (peer: Parameters<typeof streamFailure>[2]) => {
        const term = peer.term ?? was.term;
        return rpc === "replicate"
          ? streamFailure(
              LogReplicationService.replicate,
              Append.create({ term, targetUid: peer.targetUid ?? was.replicaUid }),
              peer,
            )
          : streamFailure(
              LogReplicationService.sendSnapshot,
              SnapshotChunk.create({ term, name: "manifest" }),
              peer,
            );
      };
      assert.equal(refusal(await fail({ term: was.term - 1 })).reason, "INVALID_TERM");
      const other = refusal(await fail({ targetUid: "somebodyelse" }));
      assert.equal(other.reason, "NODE_IS_NOT_MEMBER");
      assert.equal(other.metadata["observedUid"], was.replicaUid);
      assert.equal(refusal(await fail({ storeId: "elsewhere" })).reason, "WRONG_STORE");
    });
  }

  it("garbage on every port", async () => {
    const { publicAddress, internalAddress, metricsAddress } = test.store.endpoint(victim);
    const garbage = [
      Buffer.alloc(4_096, 0xff),
      Buffer.from("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
      Buffer.concat([Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Buffer.alloc(512, 0x41)]),
      Buffer.alloc(0),
    ];
    for (const address of [publicAddress, internalAddress, metricsAddress]) {
      const [host = "", port = ""] = address.split(":");
      for (const bytes of garbage) {
        const socket = connect(Number(port), host, () => socket.end(bytes));
        socket.on("error", () => undefined);
        socket.resume();
        await within(once(socket, "close"), 10_000);
      }
    }
    for (const rpc of [CoordinationService.newTerm, CoordinationService.enrol]) {
      const broken = { ...rpc, requestSerialize: () => Buffer.from([0x0f, 0xff, 0xff]) };
      const call = callUnary(
        internal(),
        broken as MethodDefinition<unknown, unknown>,
        NewTermRequest.create({}),
      );
      assert.equal((await failure(call)).code, Code.INTERNAL);
    }
    const { pid, restarts } = test.store.platform.pod(victim).status();
    assert.ok(pid !== null);
    assert.equal(restarts, 0);
  });

  it("a value over the limit, an unknown shard, an unknown namespace", async () => {
    const write = (shard: number, bytes: number) =>
      WriteRequest.create({ shard, puts: [{ key: "k", value: Buffer.alloc(bytes) }] });
    const big = await failure(
      callUnary(leading(), OxiaClientService.write, write(0, LIMITS.valueBytesMax + 1)),
    );
    assert.equal(big.code, Code.INVALID_ARGUMENT);
    assert.match(
      big.details,
      new RegExp(`value.*${LIMITS.valueBytesMax + 1}.*${LIMITS.valueBytesMax}`),
    );
    const shard = await failure(callUnary(leading(), OxiaClientService.write, write(77, 1)));
    assert.equal(shard.code, Code.NOT_FOUND);
    assert.match(shard.details, /shard.*77/);
    const metadata = metadataOf({ namespace: "nowhere" });
    const space = await failure(
      callUnary(leading(), OxiaClientService.write, write(0, 1), metadata),
    );
    assert.equal(space.code, Code.NOT_FOUND);
    assert.match(space.details, /namespace "nowhere".*default/);
  });
});
