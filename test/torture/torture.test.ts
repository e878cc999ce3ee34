import assert from "node:assert/strict";
import { Torture } from "./torture.ts";

/** Always the same, so that a failure here is a change's doing; `npm run torture` draws others. */
const SEED = 7;
const SECONDS = 20;

describe("torture of real processes", function () {
  this.timeout(240_000);

  it(`${SECONDS} s of kills, wipes, cuts, pauses and slow links: nothing lost, no stale read, all vote`, async () => {
    const told: string[] = [];
    const options = { seed: SEED, seconds: SECONDS, replicas: 3, clients: 4 };
    const result = await Torture.run(
      { ...options, told: (what) => told.push(what) },
      new AbortController().signal,
    );
    const { verdict, anomalies, faults } = result;
    const found = [...anomalies.examples, verdict.witness, ...told].join("\n");
    assert.equal(verdict.kind, "linearizable", found);
    assert.deepEqual([anomalies.lost, anomalies.staleReads], [0, 0], found);
    assert.ok(result.acknowledged > 100, `${result.acknowledged} writes`);
    assert.ok(result.recoveries > 0, found);
    for (const [fault, times] of Object.entries(faults)) assert.ok(times > 0, `${fault}: ${found}`);
  });
});
