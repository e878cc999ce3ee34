import assert from "node:assert/strict";
import { NodeClock } from "../../../sidecar/os/node-clock.ts";
import { TestCluster, TRIMMED } from "./cluster-fixture.ts";
import { HandCoordinator } from "./hand-coordinator.ts";

/** A clock that notes long sleeps, and does not make anybody wait for them. */
class HastyClock extends NodeClock {
  readonly longMs: number[] = [];

  override sleep(ms: number, signal: AbortSignal): Promise<void> {
    if (ms < 30_000) return super.sleep(ms, signal);
    this.longMs.push(ms);
    return super.sleep(0, signal);
  }
}

describe("the rate of snapshot transfers", function () {
  this.timeout(30_000);

  it("is limited for each transfer by itself", async () => {
    const clock = new HastyClock();
    // A chunk of 4 KiB in 41 s: the first of a transfer waits for nothing but its own bytes.
    const cluster = await TestCluster.start(TRIMMED, { clock, snapshotBytesPerSecond: 100 });
    const coordinator = new HandCoordinator(cluster);
    await coordinator.bootstrap("a");
    await cluster.writeToCheckpoint("a", "key");
    const wiped = ["b", "c"] as const;
    for (const name of wiped) {
      await cluster.stop(name);
      await cluster.wipe(name, ["wal", "state"]);
      await cluster.open(name);
      await coordinator.openShard(name);
    }
    await Promise.all(wiped.map((name) => coordinator.enrol(name)));
    for (const name of wiped) await coordinator.promote(name);
    await cluster.assertEqualStates("a");
    assert.equal(clock.longMs.filter((ms) => ms < 41_000).length, wiped.length);
    await cluster.close();
  });
});
