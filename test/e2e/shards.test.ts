import assert from "node:assert/strict";
import { Ledger } from "../../operator/local/demo/ledger.ts";
import { readBack } from "../../operator/local/demo/verify.ts";
import { StoreClient } from "../../operator/sidecar-client/store-client.ts";
import { TestStore, type TestStoreOptions } from "../support/local-store.ts";

describe("Many shards", function () {
  this.timeout(120_000);
  let test: TestStore;

  afterEach(async () => {
    await test.close();
  });

  async function start(options: TestStoreOptions): Promise<void> {
    test = await TestStore.start(options);
    await test.load(200, 16 * 1024);
    test.startWriting();
    await test.written(50);
  }

  /** Wipes a node and waits until every replica it has was made anew and votes. */
  async function wipeAndWait(node: string, what: "all" | "wal" | "state" = "all"): Promise<void> {
    const uids = () =>
      test.store
        .views()
        .map(({ replicas }) => replicas.find((replica) => replica.node === node)?.uid);
    const old = new Set(uids());
    await test.store.platform.wipe(node, what);
    await test.until("new identities", () => uids().every((uid) => !old.has(uid)));
    await test.store.whole(60_000);
  }

  it("4 shards: leaders are spread; each node is wiped in turn while clients write", async () => {
    await start({ shards: 4 });
    const leaders = new Set(test.store.views().map(({ leader }) => leader));
    assert.equal(leaders.size, 3);
    for (const [at, what] of (["all", "wal", "state"] as const).entries()) {
      await wipeAndWait(`resilver-${at}`, what);
    }
    await test.written(50);
    await test.proveNothingLost("resilver-1");
  });

  it("4 shards: a node is wiped again while it is being filled", async () => {
    await start({ shards: 4, sidecar: { snapshotBytesPerSecond: 1024 * 1024 } });
    // Several chunks a shard: with one only, the transfer is over once its bytes are seen.
    await test.load(200, 64 * 1024, "more");
    const node = "resilver-2";
    await test.store.platform.wipe(node, "all");
    await test.until("bytes arrive", () =>
      test.store
        .views()
        .some(({ replicas }) => replicas.some((r) => r.node === node && r.bytesDone > 0)),
    );
    await wipeAndWait(node);
    await test.proveNothingLost(node);
  });

  it("several namespaces: the same keys in each, apart from each other, over a wipe", async () => {
    await start({ namespaces: ["default", "orders", "Users_2"], shards: 2 });
    assert.deepEqual(
      test.store.views().map(({ namespace, shard }) => `${namespace}/${shard}`),
      ["default/0", "default/1", "orders/2", "orders/3", "Users_2/4", "Users_2/5"],
    );
    const others = ["orders", "Users_2"].map((namespace) => ({
      namespace,
      ledger: new Ledger(),
      client: new StoreClient({ servers: test.store.servers(), namespace }),
    }));
    try {
      for (const { namespace, client, ledger } of others) {
        for (let n = 0; n < 50; n += 1) {
          const key = `load/${String(n).padStart(6, "0")}`;
          const value = Buffer.from(`${namespace} ${n}`);
          await client.put(key, value);
          ledger.acknowledge(key, value);
        }
      }
      await wipeAndWait("resilver-0");
      await test.proveNothingLost("resilver-0");
      for (const { client, ledger } of others) {
        const { lost, read } = await readBack(client, ledger, () => undefined);
        assert.deepEqual([read, lost], [50, 0]);
        const keys: string[] = [];
        for await (const key of client.list("", "")) keys.push(key);
        assert.equal(keys.length, 50);
      }
    } finally {
      await Promise.all(others.map(({ client }) => client.close()));
    }
  });
});
