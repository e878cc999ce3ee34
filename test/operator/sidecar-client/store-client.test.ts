import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";
import {
  StoreClient,
  type StoreClientOptions,
} from "../../../operator/sidecar-client/store-client.ts";
import { StoreError } from "../../../operator/sidecar-client/store-error.ts";
import { findFreePorts } from "../../../operator/local/free-ports.ts";
import { FakeStore, FakeStoreServer } from "../../support/fake-store-server.ts";

const bytes = (text: string) => Buffer.from(text);

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const item of items) found.push(item);
  return found;
}

function failsWith(code: StoreError["code"], reason: string | null = null) {
  return (error: unknown) => {
    assert.ok(error instanceof StoreError, String(error));
    assert.equal(error.code, code, error.message);
    if (reason !== null) assert.equal(error.reason, reason);
    return true;
  };
}

describe("StoreClient", () => {
  let store: FakeStore;
  let first: FakeStoreServer;
  let second: FakeStoreServer;
  let clients: StoreClient[];

  beforeEach(async () => {
    store = new FakeStore(3);
    first = new FakeStoreServer(store);
    second = new FakeStoreServer(store);
    await Promise.all([first.start(), second.start()]);
    for (const shard of store.shards.keys()) store.setLeader(shard, first.address);
    clients = [];
  });

  afterEach(async () => {
    await Promise.all(clients.map((client) => client.close()));
    first.stop();
    second.stop();
  });

  function connect(options: Partial<StoreClientOptions> = {}): StoreClient {
    const servers = [first.address, second.address];
    const client = new StoreClient({ servers, requestTimeoutMs: 5_000, ...options });
    clients.push(client);
    return client;
  }

  it("reaches a server elsewhere than under the name that it was given", async () => {
    const asked = new Set<string>();
    const reachedAt = (address: string): string => {
      asked.add(address);
      return address === "demo-0.demo-pods:6648" ? first.address : address;
    };
    const client = connect({ servers: ["demo-0.demo-pods:6648"], reachedAt });
    assert.equal((await client.put("/k", bytes("v"))).written, true);
    assert.ok(asked.has(first.address), "also a leader that a server names");
  });

  it("puts, gets, lists, scans and deletes over several shards", async () => {
    const client = connect();
    const keys = Array.from({ length: 200 }, (_, n) => `/k/${String(n).padStart(3, "0")}`);
    await Promise.all(keys.map((key) => client.put(key, bytes(`v${key}`))));
    assert.ok(
      store.shards.every((records) => records.size > 20),
      "every shard got a share",
    );
    assert.ok(store.applied.length < 100, `batched into ${store.applied.length} requests`);

    assert.equal(Buffer.from((await client.get("/k/007"))?.value ?? []).toString(), "v/k/007");
    assert.equal(await client.get("/absent"), null);
    assert.deepEqual(await collect(client.list("/k/", "/k//")), keys);
    const scanned = await collect(client.scan("/k/010", "/k/013"));
    assert.deepEqual(
      scanned.map(({ key }) => key),
      ["/k/010", "/k/011", "/k/012"],
    );

    assert.equal(await client.delete("/k/000"), "deleted");
    assert.equal(await client.delete("/k/000"), "absent");
    await client.deleteRange("/k/", "/k//");
    assert.deepEqual(await collect(client.list("", "")), []);
  });

  it("reports a version that does not match", async () => {
    const client = connect();
    const put = await client.put("a", bytes("1"), { expectedVersionId: -1 });
    assert.ok(put.written);
    assert.deepEqual(await client.put("a", bytes("2"), { expectedVersionId: -1 }), {
      written: false,
    });
    const { versionId } = put.version;
    assert.ok((await client.put("a", bytes("2"), { expectedVersionId: versionId })).written);
  });

  it("keeps the order of put, delete and put of one key", async () => {
    const client = connect();
    await client.ready();
    await Promise.all([
      client.put("a", bytes("1")),
      client.delete("a"),
      client.put("a", bytes("2")),
    ]);
    assert.equal(Buffer.from((await client.get("a"))?.value ?? []).toString(), "2");
  });

  it("follows a redirect and a new assignment", async () => {
    const client = connect();
    await client.put("a", bytes("1"));
    // The stream does not tell; only the refusal does.
    for (const shard of store.shards.keys()) store.leaders[shard] = second.address;
    await client.put("a", bytes("2"));
    assert.equal(Buffer.from((await client.get("a"))?.value ?? []).toString(), "2");
    for (const shard of store.shards.keys()) store.setLeader(shard, first.address);
    await client.put("a", bytes("3"));
    assert.equal(client.leaders().get(0), first.address);
  });

  it("sends an unconditional write again when the stream broke", async () => {
    const client = connect();
    await client.put("a", bytes("0"));
    for (const fault of ["breakFirst", "applyThenBreak"] as const) {
      first.fault = fault;
      assert.ok((await client.put("a", bytes(fault))).written);
    }
  });

  it("does not explain a silence by what failed before the last answer", async () => {
    const client = connect({ requestTimeoutMs: 300 });
    first.fault = "breakFirst";
    assert.ok((await client.put("a", bytes("0"))).written);
    first.fault = "silent";
    await assert.rejects(client.put("a", bytes("1")), {
      code: "UNKNOWN_OUTCOME",
      message: `the write may have been done: ${first.address} did not answer in time`,
    });
  });

  it("never sends a conditional write again: its outcome is unknown", async () => {
    const client = connect();
    await client.put("a", bytes("0"));
    const faults = [
      "breakFirst",
      "applyThenBreak",
      "applyThenStepDown",
      "applyThenExhaust",
    ] as const;
    for (const fault of faults) {
      const before = store.applied.length;
      first.fault = fault;
      const put = client.put(`new-${fault}`, bytes("1"), { expectedVersionId: -1 });
      await assert.rejects(put, failsWith("UNKNOWN_OUTCOME"));
      await client.put("a", bytes("1"));
      assert.equal(store.applied.length - before, fault === "breakFirst" ? 1 : 2);
    }
    first.fault = "breakFirst";
    const put = client.put("b", bytes("1"), { retryUnknown: false });
    await assert.rejects(put, failsWith("UNKNOWN_OUTCOME"));
  });

  it("says that nothing was done when no connection to the leader could be made", async () => {
    const port = await findFreePorts(1, Math.random);
    for (const shard of store.shards.keys()) store.setLeader(shard, `127.0.0.1:${port}`);
    const client = connect({ requestTimeoutMs: 500 });
    for (const options of [{}, { expectedVersionId: -1 }, { retryUnknown: false }]) {
      const put = client.put("a", bytes("1"), options);
      await assert.rejects(put, failsWith("UNAVAILABLE"));
      await assert.rejects(put, /ECONNREFUSED/u);
    }
  });

  it("says that nothing was done when nobody took the connection", async () => {
    // Accepts and says nothing, not even what a server of this protocol says first.
    const sockets: Socket[] = [];
    const silent = createServer((socket) => sockets.push(socket));
    silent.listen(0, "127.0.0.1");
    await once(silent, "listening");
    const { port } = silent.address() as AddressInfo;
    for (const shard of store.shards.keys()) store.setLeader(shard, `127.0.0.1:${port}`);
    const client = connect({ requestTimeoutMs: 500 });
    await client.ready();
    await assert.rejects(client.put("a", bytes("1")), failsWith("UNAVAILABLE"));
    const stop = new AbortController();
    const aborted = client.put("a", bytes("1"), { signal: stop.signal });
    setImmediate(() => stop.abort());
    await assert.rejects(aborted, failsWith("ABORTED"));
    silent.close();
    for (const socket of sockets) socket.destroy();
  });

  it("sends a conditional write to the next leader when none could be sent to the last", async () => {
    const port = await findFreePorts(1, Math.random);
    for (const shard of store.shards.keys()) store.setLeader(shard, `127.0.0.1:${port}`);
    const client = connect();
    await client.ready();
    const put = client.put("a", bytes("1"), { expectedVersionId: -1 });
    for (const shard of store.shards.keys()) store.setLeader(shard, second.address);
    assert.ok((await put).written);
    assert.equal(store.applied.length, 1);
  });

  it("tells at once of a call that ended for good without a refusal by name", async () => {
    const client = connect();
    await client.put("a", bytes("0"));
    first.fault = "applyThenExhaust";
    await assert.rejects(client.put("a", bytes("1")), failsWith("UNKNOWN_OUTCOME"));
    assert.equal(store.applied.length, 2);
  });

  it("refuses a write that no message can hold, and leaves alone those before it", async () => {
    const client = connect({ batch: { operationsMax: 1_000, bytesMax: 2 ** 30 } });
    await client.ready();
    // One routing key: all of them go to one shard.
    const once = { partitionKey: "a", expectedVersionId: -1 };
    const small = client.put("a", bytes("1"), once);
    const tooBig = client.put("b", Buffer.alloc(8 * 1024 * 1024), once);
    await assert.rejects(tooBig, failsWith("REFUSED"));
    await assert.rejects(tooBig, /8388\d+ bytes.*allowed: up to 838\d+/);
    assert.equal((await small).written, true);

    // Each fits into a message, all of them together do not.
    const half = Buffer.alloc(4 * 1024 * 1024);
    const puts = ["c", "d", "e"].map((key) => client.put(key, half, once));
    for (const { written } of await Promise.all(puts)) assert.equal(written, true);
    assert.equal(store.applied.length, 4);
  });

  it("sends a conditional write again that was refused before anything was done", async () => {
    const client = connect();
    await client.put("a", bytes("0"));
    for (const fault of ["refuse", "overload"] as const) {
      first.fault = fault;
      assert.ok((await client.put(`new-${fault}`, bytes("1"), { expectedVersionId: -1 })).written);
    }
    // The stream does not tell; only the refusal does.
    for (const shard of store.shards.keys()) store.leaders[shard] = second.address;
    assert.ok((await client.put("b", bytes("1"), { expectedVersionId: -1 })).written);
  });

  it("sends all conditional writes again that an overloaded leader took none of", async () => {
    const client = connect({ batch: { operationsMax: 1, bytesMax: 1_024 } });
    const route = { partitionKey: "a" };
    await client.put("a", bytes("0"), route);
    first.fault = "overload";
    const once = { ...route, expectedVersionId: -1 };
    const puts = ["b", "c", "d"].map((key) => client.put(key, bytes("1"), once));
    for (const { written } of await Promise.all(puts)) assert.equal(written, true);
    assert.equal(store.applied.length, 4);
  });

  it("says that nothing was done when each attempt was refused before anything was", async () => {
    const client = connect({ requestTimeoutMs: 300 });
    await client.put("a", bytes("0"));
    first.fault = "refuse";
    first.later = Array.from({ length: 1_000 }, () => "refuse");
    const once = { expectedVersionId: -1 };
    await assert.rejects(client.put("b", bytes("1"), once), failsWith("UNAVAILABLE"));
  });

  it("tells at once of a full volume who asked to be told, and sends the others again", async () => {
    const client = connect();
    await client.put("a", bytes("0"));
    first.fault = "full";
    const once = { expectedVersionId: -1 };
    await assert.rejects(client.put("b", bytes("1"), once), failsWith("REFUSED", "NO_SPACE"));
    first.fault = "full";
    assert.ok((await client.put("b", bytes("1"))).written);
  });

  it("stays in doubt about a write whatever a later attempt is refused with", async () => {
    for (const fault of ["applyThenBreak", "applyThenStepDown"] as const) {
      const client = connect({ requestTimeoutMs: 300 });
      await client.put("a", bytes("0"));
      first.fault = fault;
      first.later = ["invalid"];
      await assert.rejects(client.put("a", bytes("1")), failsWith("UNKNOWN_OUTCOME"));

      first.fault = fault;
      // The second attempt is taken apart, and its parts are refused until the deadline.
      first.later = ["invalid", ...Array.from({ length: 1_000 }, () => "refuse" as const)];
      const puts = ["2", "3"].map((value) => client.put("a", bytes(value)));
      for (const put of await Promise.allSettled(puts)) {
        assert.equal(put.status, "rejected");
        failsWith("UNKNOWN_OUTCOME")(put.reason);
      }
      first.later = [];
      first.fault = "none";
    }
  });

  it("does not call a record absent that its own first attempt may have deleted", async () => {
    const client = connect();
    await client.put("a", bytes("0"));
    first.fault = "applyThenBreak";
    assert.equal(await client.delete("a"), "gone");
    first.fault = "refuse";
    assert.equal(await client.delete("a"), "absent");
  });

  it("goes on behind the last key with a list or scan that was interrupted", async () => {
    const client = connect();
    const keys = Array.from({ length: 40 }, (_, n) => `/k/${String(n).padStart(3, "0")}`);
    await Promise.all(keys.map((key) => client.put(key, bytes(key))));
    first.pagesMax = 3;
    assert.deepEqual(await collect(client.list("/k/", "/k//")), keys);
    const listed = first.interrupted;
    assert.ok(listed >= 12, `interrupted ${listed} times`);
    const seen: string[] = [];
    for await (const { key, value } of client.scan("/k/", "/k//")) {
      assert.equal(Buffer.from(value).toString(), key);
      seen.push(key);
      // The key that it would go on behind is gone by then.
      for (const records of store.shards) records.delete(key);
    }
    assert.deepEqual(seen, keys);
    assert.ok(first.interrupted >= listed + 10);
  });

  it("does not go on with a list or scan that is to show one moment", async () => {
    const client = connect();
    const keys = Array.from({ length: 40 }, (_, n) => `/k/${String(n).padStart(3, "0")}`);
    await Promise.all(keys.map((key) => client.put(key, bytes("1"))));
    const options = { oneView: true };
    assert.equal((await collect(client.scan("", "", options))).length, 40);
    first.pagesMax = 3;
    const refused = failsWith("UNAVAILABLE", "RESOURCE_UNAVAILABLE");
    await assert.rejects(collect(client.scan("", "", options)), refused);
    await assert.rejects(collect(client.list("", "", options)), refused);
  });

  it("gives a list or scan its time for each wait, not for all of it", async () => {
    const client = connect();
    const keys = Array.from({ length: 40 }, (_, n) => `/k/${String(n).padStart(3, "0")}`);
    await Promise.all(keys.map((key) => client.put(key, bytes("1"))));
    // Interrupted, so that there is something to wait for after the time is up.
    first.pagesMax = 3;
    const beganMs = performance.now();
    const scanned: string[] = [];
    for await (const { key } of client.scan("", "", { timeoutMs: 400 })) {
      scanned.push(key);
      // A reader that is slow over each record: time goes by in small steps.
      const { value } = (await client.get(key)) ?? {};
      assert.equal(Buffer.from(value ?? []).toString(), "1");
      while (performance.now() - beganMs < scanned.length * 20) await client.get(key);
    }
    assert.deepEqual(scanned, keys);
  });

  it("refuses only the get that was refused, not those that share its request", async () => {
    const client = connect({ servers: [first.address] });
    await client.put("a", bytes("1"));
    // One routing key: all of them go to one shard.
    const sameShard = { partitionKey: "a" };
    const keys = ["a", "x".repeat(1_025), "absent"];
    const gets = await Promise.allSettled(keys.map((key) => client.get(key, sameShard)));
    const [found, refused, absent] = gets;
    assert.ok(found?.status === "fulfilled" && found.value !== null);
    assert.ok(refused?.status === "rejected");
    failsWith("REFUSED", "INVALID_ARGUMENT")(refused.reason);
    assert.ok(absent?.status === "fulfilled" && absent.value === null);
  });

  it("fails only the get whose own time is up, not those that share its request", async () => {
    const client = connect();
    await client.put("a", bytes("1"));
    first.heldReads = [];
    const hasty = client.get("a", { timeoutMs: 50 });
    const patient = client.get("a");
    await assert.rejects(hasty, failsWith("UNAVAILABLE"));
    for (const answer of first.heldReads) answer();
    assert.equal(Buffer.from((await patient)?.value ?? []).toString(), "1");
  });

  it("reports a refusal, and only for the write that was refused", async () => {
    const client = connect();
    await client.put("a", bytes("0"));
    first.fault = "invalid";
    const puts = ["a", "a", "a"].map((key, n) => client.put(key, bytes(String(n))));
    // The first answer refuses all three; sent alone each of them is fine.
    assert.ok((await Promise.all(puts)).every(({ written }) => written));
    first.fault = "invalid";
    await assert.rejects(client.put("a", bytes("0")), failsWith("REFUSED", "INVALID_ARGUMENT"));
  });

  it("gives up at the deadline: unknown when it was sent, unavailable when it was not", async () => {
    const client = connect({ requestTimeoutMs: 300 });
    await client.put("a", bytes("0"));
    first.fault = "silent";
    await assert.rejects(client.put("a", bytes("1")), failsWith("UNKNOWN_OUTCOME"));
    for (const shard of store.shards.keys()) store.setLeader(shard, "");
    const other = connect({ requestTimeoutMs: 300 });
    await assert.rejects(other.put("a", bytes("1")), failsWith("UNAVAILABLE"));
    await assert.rejects(other.get("a"), failsWith("UNAVAILABLE"));
  });

  it("leaves a silent leader when another one is named", async () => {
    const client = connect();
    await client.put("a", bytes("0"));
    first.fault = "silent";
    const put = client.put("a", bytes("1"));
    for (const shard of store.shards.keys()) store.setLeader(shard, second.address);
    assert.ok((await put).written);
  });

  it("asks another server when the leader is silent", async () => {
    const client = connect();
    await client.put("a", bytes("0"));
    first.fault = "silent";
    const put = client.put("a", bytes("1"));
    // Nobody tells the stream of the first server; only the second knows.
    for (const shard of store.shards.keys()) store.leaders[shard] = second.address;
    assert.ok((await put).written);
    assert.ok(second.assignmentStreams > 0);
  });

  it("bounds what it holds, and ends everything on close", async () => {
    const client = connect({ pendingWritesMax: 2 });
    await client.ready();
    first.fault = "silent";
    const held = [client.put("a", bytes("1")), client.put("b", bytes("1"))];
    const outcomes = Promise.allSettled(held);
    await assert.rejects(client.put("c", bytes("1")), failsWith("OVERLOADED"));
    await client.close();
    for (const outcome of await outcomes) assert.equal(outcome.status, "rejected");
    await assert.rejects(client.put("a", bytes("1")), failsWith("CLOSED"));
  });

  it("ends reads on close, also those that have only just been asked for", async () => {
    const client = connect({ requestTimeoutMs: 60_000 });
    await client.ready();
    const seen = await client.get("a");
    assert.equal(seen, null);
    const others = connect({ requestTimeoutMs: 60_000 });
    await others.ready();
    // One has a reader of the shard already, the other one would make it.
    for (const one of [client, others]) {
      const during = [one.get("a"), collect(one.list("", "")), collect(one.scan("", ""))];
      const outcomes = Promise.allSettled(during);
      await one.close();
      for (const outcome of await outcomes) {
        assert.equal(outcome.status, "rejected");
        failsWith("CLOSED")(outcome.reason);
      }
      await assert.rejects(one.get("a"), failsWith("CLOSED"));
      await assert.rejects(collect(one.list("", "")), failsWith("CLOSED"));
      await assert.rejects(collect(one.scan("", "")), failsWith("CLOSED"));
    }
  });

  it("starts with one server down", async () => {
    first.stop();
    for (const shard of store.shards.keys()) store.setLeader(shard, second.address);
    assert.ok((await connect().put("a", bytes("1"))).written);
  });

  it("starts with a server that is silent: it passes it over", async () => {
    const sockets: Socket[] = [];
    const silent = createServer((socket) => sockets.push(socket));
    silent.listen(0, "127.0.0.1");
    await once(silent, "listening");
    const { port } = silent.address() as AddressInfo;
    try {
      const client = connect({ servers: [`127.0.0.1:${port}`, second.address] });
      await client.ready();
    } finally {
      silent.close();
      for (const socket of sockets) socket.destroy();
    }
  });

  it("an aborted write says whether it was sent", async () => {
    const client = connect();
    await client.ready();
    first.fault = "silent";
    const abort = new AbortController();
    const put = client.put("a", bytes("1"), { signal: abort.signal });
    setImmediate(() => setImmediate(() => abort.abort()));
    await assert.rejects(put, failsWith("UNKNOWN_OUTCOME"));
  });
});
