import assert from "node:assert/strict";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { LIMITS } from "../../sidecar/limits.ts";
import { TestStore, type TestStoreOptions } from "../support/local-store.ts";

/** Enough for several snapshot chunks, little enough to be quick. */
const RECORDS = 300;
const RECORD_BYTES = 16 * 1024;
const LARGE_BYTES = 512 * 1024;
/** Logs are cut as soon as that is safe, so that only a snapshot helps. */
const TRIMMED = { walRetentionMs: 0, walRetentionBytes: 0, segmentBytes: 8 * 1024 * 1024 };

describe("Recovery of a wiped replica", function () {
  this.timeout(180_000);
  let test: TestStore;

  afterEach(async () => {
    await test.close();
  });

  async function start(options: TestStoreOptions = {}): Promise<void> {
    test = await TestStore.start(options);
    await test.load(RECORDS, RECORD_BYTES);
  }

  async function wipe(node: string, what: "all" | "wal" | "state" = "all"): Promise<string> {
    const { uid } = test.replica(node);
    await test.store.platform.wipe(node, what);
    return uid;
  }

  it("Follower: snapshot recovery from NOT_MEMBER", async () => {
    await start();
    test.startWriting();
    await test.written(50);
    const victim = test.follower();
    const rejected = test.event((e) => e.kind === "recoveryStarted" && e.node === victim);
    const uid = await wipe(victim);
    const started = await rejected;
    assert.ok(started.kind === "recoveryStarted");
    assert.equal(started.oldUid, uid);
    assert.equal(started.reason, "VolumeEmpty");
    await test.rebuilt(victim, uid);
    await test.written(50);
    await test.proveNothingLost(victim);
  });

  for (const what of ["all", "wal", "state"] as const) {
    for (const role of ["follower", "leader"] as const) {
      for (const writing of [true, false]) {
        it(`${role}, ${what}, ${writing ? "while writing" : "quiet"}`, async () => {
          await start();
          if (writing) test.startWriting();
          const victim = role === "leader" ? test.leader() : test.follower();
          const uid = await wipe(victim, what);
          await test.rebuilt(victim, uid);
          await test.proveNothingLost(victim);
        });
      }
    }
  }

  for (const directory of ["wal", "state"] as const) {
    it(`a cookie only: that of the ${directory} directory`, async () => {
      await start();
      const victim = test.follower();
      const { uid } = test.replica(victim);
      const { platform } = test.store;
      await platform.kill(victim);
      await rm(join(platform.paths(victim)[directory], "default", "0", "cookie.json"));
      platform.pod(victim).start();
      await test.rebuilt(victim, uid);
      await test.proveNothingLost(victim);
    });
  }

  for (const writing of [true, false]) {
    it(`with the leader's log trimmed, ${writing ? "while writing" : "quiet"}`, async () => {
      await start({ sidecar: { ...TRIMMED, checkpointIntervalMs: 200 } });
      // Segments beyond the first, and a checkpoint past them.
      for (let round = 0; round < 20; round += 1) {
        if ((await test.sidecarStatus(test.leader())).logFirstOffset > 0) break;
        await test.load(300, 32 * 1024, `more-${round}`);
      }
      const { logFirstOffset } = await test.sidecarStatus(test.leader());
      assert.ok(logFirstOffset > 0, "the log no longer begins at 0");
      if (writing) test.startWriting();
      const victim = test.follower();
      const uid = await wipe(victim);
      await test.rebuilt(victim, uid);
      await test.proveNothingLost(victim);
    });
  }

  it("with a leader whose log is empty after its own recovery", async () => {
    await start({ sidecar: { ...TRIMMED, checkpointIntervalMs: 200 } });
    const first = test.follower();
    await test.rebuilt(first, await wipe(first));
    await test.store.moveLeader(test.view(), first, 30_000);
    const second = test.follower();
    await test.rebuilt(second, await wipe(second));
    await test.proveNothingLost(second);
  });

  it("twice in a row", async () => {
    await start();
    test.startWriting();
    const victim = test.follower();
    for (let round = 0; round < 2; round += 1) {
      await test.rebuilt(victim, await wipe(victim));
    }
    await test.proveNothingLost(victim);
  });

  it("again during its transfer: the second wipe is a new replica", async () => {
    await start({ sidecar: { snapshotBytesPerSecond: 2 * 1024 * 1024 } });
    test.startWriting();
    const victim = test.follower();
    const first = await wipe(victim);
    await test.until("bytes arrive", () => test.replica(victim).bytesDone > 0);
    const second = await wipe(victim);
    assert.notEqual(second, first);
    await test.rebuilt(victim, second);
    await test.proveNothingLost(victim);
  });

  it("killed during its transfer: it goes on from what it had made durable", async () => {
    const durableBytes = LIMITS.snapshotDurableEveryBytes;
    test = await TestStore.start({
      sidecar: { ...TRIMMED, snapshotBytesPerSecond: durableBytes / 2 },
    });
    await test.load(Math.ceil((1.5 * durableBytes) / LARGE_BYTES), LARGE_BYTES);
    const victim = test.follower();
    const uid = await wipe(victim);
    // The record of it is written beside the next chunks.
    await test.until("more is there than was recorded", () => {
      return test.replica(victim).bytesDone > durableBytes * 1.1;
    });
    await test.store.platform.kill(victim);
    let least = Number.POSITIVE_INFINITY;
    const off = test.store.onChange(() => {
      const { bytesDone } = test.replica(victim);
      // Nothing is told of it until it is fed again.
      if (bytesDone > 0) least = Math.min(least, bytesDone);
    });
    test.store.platform.pod(victim).start();
    await test.rebuilt(victim, uid);
    off();
    assert.ok(least >= durableBytes, `it went on at ${least} of ${durableBytes}`);
    await test.proveNothingLost(victim);
  });

  it("each replica in turn", async () => {
    await start();
    test.startWriting();
    for (const { node } of test.view().replicas) {
      await test.rebuilt(node, await wipe(node));
    }
    await test.proveNothingLost();
  });

  it("several shards at once", async () => {
    await start({ shards: 3 });
    test.startWriting();
    const { node } = test.replica("resilver-1");
    await test.store.platform.wipe(node, "all");
    await test.event((e) => e.kind === "recoveryStarted" && e.node === node);
    await test.store.whole(60_000);
    await test.proveNothingLost(node);
  });
});
