import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { RecordStore } from "../../operator/controller/ports.ts";
import { TestStore, type TestStoreOptions } from "../support/local-store.ts";

/** Slow enough to be met in the middle. */
const SLOW = { snapshotBytesPerSecond: 3 * 1024 * 1024 };

describe("Ensemble change", function () {
  this.timeout(120_000);
  let test: TestStore;

  afterEach(async () => {
    await test.close();
  });

  /** Four nodes, three replicas: one node is a spare. */
  async function start(options: TestStoreOptions = {}): Promise<string> {
    test = await TestStore.start({ replicas: 4, ...options });
    await test.load(200, 16 * 1024);
    test.startWriting();
    await test.written(20);
    const { ensemble } = test.view();
    assert.equal(ensemble.length, 3);
    const spare = test.store.servers().map((_, at) => `resilver-${at}`);
    return spare.find((node) => !ensemble.includes(node)) ?? assert.fail("a spare");
  }

  /** Resolves when `spare` has taken the place of `node`, whose files are gone. */
  async function replaced(node: string, spare: string): Promise<void> {
    await test.until(`${spare} has taken the place of ${node}`, () => {
      const { ensemble, replicas } = test.view();
      return ensemble.includes(spare) && replicas.every((replica) => replica.node !== node);
    });
    const { wal, state } = test.store.platform.paths(node);
    for (const dir of [wal, state]) assert.ok(!existsSync(join(dir, "default", "0")), dir);
    await test.store.whole(30_000);
    await test.written(50);
    await test.proveNothingLost(spare);
  }

  it("a spare takes a follower's place while clients write", async () => {
    const spare = await start();
    const old = test.follower();
    const moved = await test.store.replace(old, spare);
    assert.deepEqual(moved, [{ namespace: "default", shard: 0 }]);
    await replaced(old, spare);
    await assert.rejects(test.store.replace(old, spare), /no shard has a replica on/);
  });

  it("a spare takes the leader's place: the leadership goes to one that stays", async () => {
    const spare = await start();
    const old = test.leader();
    await test.store.replace(old, spare);
    await replaced(old, spare);
    assert.notEqual(test.leader(), old);
  });

  it("the spare is wiped while it is being filled", async () => {
    const spare = await start({ sidecar: SLOW });
    const old = test.follower();
    await test.store.replace(old, spare);
    await test.until("bytes arrive", () =>
      test.view().replicas.some(({ node, bytesDone }) => node === spare && bytesDone > 0),
    );
    await test.store.platform.wipe(spare, "all");
    await replaced(old, spare);
  });

  it("a follower that stays is wiped meanwhile: both are filled, none counts before", async () => {
    const spare = await start({ sidecar: SLOW });
    const [old = "", stays = ""] = test.followers();
    const { uid } = test.replica(stays);
    await test.store.replace(old, spare);
    await test.until("bytes arrive", () =>
      test.view().replicas.some(({ node, bytesDone }) => node === spare && bytesDone > 0),
    );
    await test.store.platform.wipe(stays, "all");
    await test.rebuilt(stays, uid);
    await replaced(old, spare);
  });

  describe("in the joint state", () => {
    let joined: (() => Promise<void>) | null = null;

    /** Calls `joined`, once, when a joint state was saved and nobody was told of it yet. */
    const wrapRecords = (records: RecordStore): RecordStore => ({
      read: (key, signal) => records.read(key, signal),
      create: (record, signal) => records.create(record, signal),
      replace: async (record, version, signal) => {
        const saved = await records.replace(record, version, signal);
        if (record.next?.joint === true) {
          const act = joined;
          joined = null;
          await act?.();
        }
        return saved;
      },
    });

    /** Begins a change and resolves once `act` was begun in the middle of it. */
    async function change(act: () => Promise<void>): Promise<readonly [string, string]> {
      const spare = await start({ wrapRecords });
      const old = test.follower();
      const begun = new Promise<void>((resolve) => {
        joined = () => {
          resolve();
          return act();
        };
      });
      await test.store.replace(old, spare);
      await begun;
      return [old, spare];
    }

    it("the coordinator is killed: the next one goes on where the record says", async () => {
      const [old, spare] = await change(() => {
        void test.store.stopCoordinator();
        return Promise.reject(new Error("the coordinator was killed"));
      });
      await test.store.stopCoordinator();
      await test.written(50);
      test.store.startCoordinator();
      await replaced(old, spare);
    });

    it("the leader is killed: majorities of both sets elect the next one", async () => {
      const [old, spare] = await change(async () => {
        const leader = test.leader();
        await test.store.platform.kill(leader);
        test.store.platform.pod(leader).start();
      });
      await replaced(old, spare);
    });
  });
});
