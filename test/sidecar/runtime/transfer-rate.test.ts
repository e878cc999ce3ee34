import assert from "node:assert/strict";
import type { Clock } from "../../../sidecar/lib/ports/clock.ts";
import { NodeClock } from "../../../sidecar/os/node-clock.ts";
import { TestCluster, TRIMMED } from "./cluster-fixture.ts";
import { HandCoordinator } from "./hand-coordinator.ts";

/** A clock that notes long sleeps, and does not make anybody wait for them. */
function hastyClock(longMs: number[]): Clock {
  const real = new NodeClock();
  return {
    nowMs: () => real.nowMs(),
    monotonicMs: () => real.monotonicMs(),
    timer: (delayMs, fire) => real.timer(delayMs, fire),
    yield: () => real.yield(),
    sleep: async (delayMs, signal) => {
      if (delayMs < 30_000) return await real.sleep(delayMs, signal);
      longMs.push(delayMs);
      return await real.yield();
    },
  };
}

describe("the rate of snapshot transfers", function () {
  this.timeout(30_000);

  it("is limited for each transfer by itself", async () => {
    const longMs: number[] = [];
    const clock = hastyClock(longMs);
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
    assert.equal(longMs.filter((ms) => ms < 41_000).length, wiped.length);
    await cluster.close();
  });
});
