import assert from "node:assert/strict";
import type { Input } from "../../../sidecar/core/input.ts";
import type { Leader } from "../../../sidecar/core/leader.ts";
import { Ticker } from "../../../sidecar/runtime/ticker.ts";
import { Chance } from "../../sim/chance.ts";
import { SimProcess, SimTime } from "../../sim/sim-clock.ts";

const never = (): boolean => false;

/** A ticker in virtual time, of a replica that leads when it is told to. */
function ticking(heartbeatMs: number) {
  const time = new SimTime();
  const { clock } = new SimProcess("a", time, new Chance(1));
  const core: { leader: Leader | null } = { leader: null };
  const stop = new AbortController();
  const fed: Input[] = [];
  const feed = (input: Input): unknown => fed.push(input);
  const ticker = new Ticker({ core, clock, heartbeatMs, signal: stop.signal, feed });
  const leads = (is: boolean): void => {
    time.after(0, null, "leads", () => {
      core.leader = is ? ({} as Leader) : null;
      ticker.notice();
    });
  };
  return { time, stop, fed, leads, ended: ticker.run() };
}

describe("ticker", () => {
  it("wakes nobody up while the replica does not lead", async () => {
    const { time, fed, leads } = ticking(100);
    await time.run(10_000, never);
    assert.equal(time.events, 0);
    leads(true);
    await time.run(1_000, never);
    assert.ok(fed.length >= 45 && fed.length <= 50, `${fed.length} ticks`);
    leads(false);
    const before = fed.length;
    await time.run(10_000, never);
    assert.equal(fed.length, before);
  });

  it("ticks as finely as heartbeats call for", async () => {
    const { time, fed, leads } = ticking(1_000);
    leads(true);
    await time.run(10_100, never);
    assert.ok(fed.length >= 48 && fed.length <= 50, `${fed.length} ticks`);
  });

  it("ends with its signal, leading or not", async () => {
    for (const is of [true, false]) {
      const { time, stop, leads, ended } = ticking(100);
      leads(is);
      await time.run(50, never);
      stop.abort(new Error("over"));
      await ended;
    }
  });
});
