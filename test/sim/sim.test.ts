import assert from "node:assert/strict";
import { Chance } from "./chance.ts";
import { FAULTS, type Fault, KUBE_FAULTS, LASTING_KINDS, optionsOf } from "./options.ts";
import { trapRealWorld } from "./real-world-trap.ts";
import { type SimResult, simulate } from "./simulation.ts";

/** Fixed seeds, so that a failure here is a change's doing; `npm run sim` draws others. */
const FIRST_SEED = 1;
const SEEDS = 200;
const QUIET_SEEDS = 30;
const QUIET_MS = 120_000;

/**
 * Seeds that once failed, and what was wrong then. They say so only while options are drawn alike.
 */
const REGRESSIONS: readonly (readonly [seed: number, found: string])[] = [
  [20_061, "a coordinator judged a new leader by the reports of the process before it"],
  [20_694, "a snapshot kept from an earlier leadership was offered for ever"],
  [30_724, "a coordinator never read what another one had saved"],
];

function assertHolds({ seed, violation, newestLines, options }: SimResult): void {
  if (violation === null) return;
  const lines = [
    ...newestLines.slice(-40),
    `options ${JSON.stringify(options)}`,
    `seed ${seed}: ${violation.invariant}: ${violation.message}`,
    `repeat with: npm run sim -- --seed ${seed} --seeds 1 --trace trace.txt`,
  ];
  assert.fail(lines.join("\n"));
}

describe("simulator", function () {
  this.timeout(300_000);

  it(`${SEEDS} seeds from ${FIRST_SEED}: every invariant holds, every wiped replica votes again`, async () => {
    const faults = new Map<Fault, number>();
    let wipes = 0;
    let acknowledged = 0;
    let stops = 0;
    const leftDead = new Set<string>();
    for (let seed = FIRST_SEED; seed < FIRST_SEED + SEEDS; seed += 1) {
      const result = await simulate({ seed, force: { quiet: null } });
      assertHolds(result);
      wipes += result.wipes;
      acknowledged += result.counts.acknowledged;
      stops += result.stops;
      if (result.leftDead > 0) leftDead.add(result.options.lasting?.kind ?? "");
      for (const [fault, count] of result.faults)
        faults.set(fault, (faults.get(fault) ?? 0) + count);
    }
    // Or the seeds prove nothing: everything they are to survive must have happened.
    for (const fault of [...FAULTS, ...KUBE_FAULTS])
      assert.ok((faults.get(fault) ?? 0) > 0, `no ${fault} in any seed`);
    assert.deepEqual([...leftDead].sort(), [...LASTING_KINDS].sort());
    assert.ok(stops >= 10, `${stops} stops`);
    assert.ok(wipes >= 50, `${wipes} wipes`);
    assert.ok(acknowledged >= 5_000, `${acknowledged} writes`);
  });

  for (const [seed, found] of REGRESSIONS) {
    it(`seed ${seed}: ${found}`, async () => {
      assertHolds(await simulate({ seed, force: { quiet: null, lasting: null, kube: null } }));
    });
  }

  it(`${QUIET_SEEDS} seeds with a quiet time from ${FIRST_SEED}: every invariant holds`, async () => {
    let quietMs = 0;
    for (let seed = FIRST_SEED; quietMs < QUIET_SEEDS * QUIET_MS; seed += 1) {
      const { quiet } = optionsOf(seed, new Chance(seed));
      if (quiet === null) continue;
      const result = await simulate({ seed, force: { quiet: { ...quiet, ms: QUIET_MS } } });
      assertHolds(result);
      assert.ok(result.simulatedMs > QUIET_MS, `seed ${seed} ended too early`);
      quietMs += QUIET_MS;
    }
  });

  it("the same seed gives the same trace, another seed another one", async () => {
    const first = await simulate({ seed: 7 });
    const second = await simulate({ seed: 7 });
    const other = await simulate({ seed: 8 });
    assert.equal(second.traceHash, first.traceHash);
    assert.equal(second.events, first.events);
    assert.notEqual(other.traceHash, first.traceHash);
  });

  it("traps real clocks and randomness, and gives them back", () => {
    const touched: string[] = [];
    const untrap = trapRealWorld(touched);
    try {
      assert.throws(() => Date.now(), { name: "RealWorldTouched" });
      assert.throws(() => new Date(), { name: "RealWorldTouched" });
      assert.throws(() => Math.random(), { name: "RealWorldTouched" });
      assert.throws(() => performance.now(), { name: "RealWorldTouched" });
      assert.throws(() => setTimeout(() => undefined, 0), { name: "RealWorldTouched" });
    } finally {
      untrap();
    }
    assert.ok(touched.includes("Date"));
    assert.ok(Date.now() > 0 && Math.random() < 1);
  });
});
