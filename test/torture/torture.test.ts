import assert from "node:assert/strict";
import { Torture } from "./torture.ts";

/** Always the same, so that a failure here is a change's doing; `npm run torture` draws others. */
const SEED = 7;
const SECONDS = 20;

describe("torture of real processes", function () {
  this.timeout(240_000);

  it(`${SECONDS} s of kills, wipes, cuts and pauses: nothing lost, no stale read, all vote`, async () => {
    const told: string[] = [];
    const options = { seed: SEED, seconds: SECONDS, replicas: 3, clients: 4 };
    const result = await Torture.run(
      { ...options, told: (what) => told.push(what) },
      new AbortController().signal,
    );
    const { kind, witness } = result.verdict;
    assert.equal(kind, "linearizable", `${witness}\n${told.join("\n")}`);
    assert.ok(result.acknowledged > 100, `${result.acknowledged} writes`);
    assert.ok(result.wipes > 0 && result.recoveries > 0, told.join("\n"));
  });
});
