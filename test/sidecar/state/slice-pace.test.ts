import assert from "node:assert/strict";
import type { Clock } from "../../../sidecar/lib/ports/clock.ts";
import { LIMITS } from "../../../sidecar/limits.ts";
import { MemoryBudget } from "../../../sidecar/state/memory-budget.ts";
import { SlicePace } from "../../../sidecar/state/slice-pace.ts";

const TABLE_BYTES_MAX = 1_000;

/** A clock that only sleeping and `pass` move; rests are recorded. */
class HandClock implements Clock {
  #now = 0;
  readonly rests: number[] = [];
  readonly signals = new Set<AbortSignal>();

  pass(ms: number): void {
    this.#now += ms;
  }

  nowMs(): number {
    return this.#now;
  }

  monotonicMs(): number {
    return this.#now;
  }

  readonly sleep = async (delayMs: number, signal: AbortSignal): Promise<void> => {
    signal.throwIfAborted();
    this.rests.push(delayMs);
    this.signals.add(signal);
    this.#now += delayMs;
  };

  timer(): never {
    throw new Error("no timer is expected");
  }

  async yield(): Promise<void> {}
}

function paced() {
  const clock = new HandClock();
  const budget = new MemoryBudget(TABLE_BYTES_MAX);
  const pace = new SlicePace(clock, budget);
  const slices = async (count: number, ms: number): Promise<void> => {
    for (let done = 0; done < count; done += 1) await pace.run(async () => clock.pass(ms));
  };
  return { clock, budget, pace, slices };
}

describe("the pace of a checkpoint", () => {
  it("takes larger slices while they are quick, up to the bound", async () => {
    const { pace, slices, clock } = paced();
    await slices(30, 0.5);
    assert.equal(pace.keys, LIMITS.checkpointSliceKeys);
    assert.equal(pace.bytes, LIMITS.checkpointSliceBytes);
    assert.deepEqual(clock.rests, []);
  });

  it("takes smaller slices when they are slow, and rests no longer than a slice should take", async () => {
    const { pace, slices, clock } = paced();
    await slices(20, 100);
    assert.equal(pace.keys, LIMITS.checkpointSliceKeysMin);
    assert.ok(pace.bytes < LIMITS.checkpointSliceBytes / 2);
    assert.deepEqual([...new Set(clock.rests)], [LIMITS.checkpointSliceMs]);
  });

  it("rests less as memory fills, and takes no regard from a quarter of its bound on", async () => {
    const { pace, slices, clock, budget } = paced();
    await slices(20, 100);
    budget.add(TABLE_BYTES_MAX / 8);
    await slices(1, 10);
    assert.equal(clock.rests.at(-1), 5);
    const before = clock.rests.length;
    budget.add(TABLE_BYTES_MAX / 8);
    assert.equal(pace.keys, LIMITS.checkpointSliceKeys);
    await slices(1, 10);
    assert.equal(clock.rests.length, before);
    budget.add(-TABLE_BYTES_MAX / 4);
    assert.ok(pace.keys < LIMITS.checkpointSliceKeys / 2);
  });

  it("takes no regard while somebody waits, and does again afterwards", async () => {
    const { pace, slices, clock } = paced();
    await slices(20, 100);
    const before = clock.rests.length;
    const release = pace.hurry();
    assert.equal(pace.keys, LIMITS.checkpointSliceKeys);
    await slices(3, 5);
    assert.equal(clock.rests.length, before);
    release();
    assert.equal(pace.keys, LIMITS.checkpointSliceKeysMin);
    await slices(1, 5);
    assert.equal(clock.rests.at(-1), 5);
  });

  it("takes no regard once the signal of calm work aborts", async () => {
    const { pace, slices, clock } = paced();
    const stop = new AbortController();
    const release = pace.hurry(stop.signal);
    await slices(1, 5);
    assert.deepEqual(clock.rests, [5]);
    stop.abort(new Error("the storage pauses"));
    await slices(1, 5);
    assert.deepEqual(clock.rests, [5]);
    release();
    await slices(1, 5);
    assert.deepEqual(clock.rests, [5, 5]);
    const late = pace.hurry(stop.signal);
    await slices(1, 5);
    assert.deepEqual(clock.rests, [5, 5]);
    late();
  });

  it("rests on a signal of its own, which ends with it", async () => {
    const [one, other] = [paced(), paced()];
    await one.slices(20, 100);
    await other.slices(20, 100);
    assert.equal(one.clock.signals.size, 1);
    for (const signal of one.clock.signals) assert.equal(other.clock.signals.has(signal), false);
  });
});
