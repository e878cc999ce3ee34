/** A follower that takes no snapshot for now: what its leader keeps for it, and for how long. */
import assert from "node:assert/strict";
import type { FollowerProgress } from "../../../sidecar/protocol/gen/resilver.ts";
import { TestCluster, TRIMMED } from "./cluster-fixture.ts";
import { HandCoordinator } from "./hand-coordinator.ts";

describe("a snapshot that is refused", function () {
  this.timeout(30_000);
  let cluster: TestCluster;
  let coordinator: HandCoordinator;
  let attempts = 0;

  beforeEach(async () => {
    attempts = 0;
    cluster = await TestCluster.start(TRIMMED);
    cluster.meddling.chunk = (_to, chunk) => {
      if (chunk.manifest !== undefined) attempts += 1;
      return [chunk];
    };
    coordinator = new HandCoordinator(cluster);
    await coordinator.bootstrap("a");
    await cluster.writeToCheckpoint("a", "before");
  });

  afterEach(async () => {
    cluster.volumes.freeBytes = () => null;
    await cluster.close();
  });

  /** As the leader sees c. */
  function follower(): FollowerProgress | undefined {
    return cluster.status("a").followers.find(({ node }) => node === "c");
  }

  function fillVolume(): void {
    cluster.volumes.freeBytes = (path) => (path.includes("/c/state/") ? 0 : null);
  }

  async function refusedForSpace(): Promise<void> {
    await cluster.until("it is refused", () => {
      return /^snapshot \S+ needs \d+ bytes in \S+, free: 0$/u.test(follower()?.lastError ?? "");
    });
  }

  /** Whatever was pinned for a refused attempt would hold log and pages from then on. */
  async function assertNothingIsHeld(): Promise<void> {
    for (const round of ["first", "second"]) {
      const { durableOffset } = cluster.status("a");
      await cluster.writeToCheckpoint("a", round);
      await cluster.until("the log goes", () => {
        return cluster.status("a").logFirstOffset > durableOffset + 1;
      });
    }
  }

  it("for want of space holds neither log nor pages, is tried now and then, and done at last", async () => {
    await cluster.stop("c");
    await cluster.wipe("c", ["wal", "state"]);
    await cluster.open("c");
    await coordinator.openShard("c");
    fillVolume();
    const beganMs = performance.now();
    await coordinator.enrol("c");
    await refusedForSpace();
    await assertNothingIsHeld();
    // Each second at first, and less and less often.
    const allowed = 1 + Math.log2((performance.now() - beganMs) / 1_000 + 1);
    assert.ok(attempts <= allowed, `${attempts} attempts, allowed: ${allowed}`);
    assert.deepEqual([follower()?.state, cluster.status("c").votes], ["Snapshot", false]);
    assert.match(follower()?.lastError ?? "", /bytes in \S+, free: 0$/u);
    cluster.volumes.freeBytes = () => null;
    await coordinator.promote("c");
    await cluster.assertEqualStates("a");
  });

  it("by a voter that is far behind leaves it to confirm reads", async () => {
    await cluster.stop("c");
    await cluster.writeToCheckpoint("a", "without c");
    await cluster.until("it is trimmed", () => cluster.status("a").logFirstOffset > 600);
    await cluster.open("c");
    fillVolume();
    await coordinator.attach("c");
    await refusedForSpace();
    await cluster.stop("b");
    for (let n = 0; n < 20; n += 1) {
      assert.equal(await cluster.read("a", "before-1-0"), "x".repeat(64));
    }
    assert.equal(follower()?.state, "Snapshot");
  });
});
