import assert from "node:assert/strict";
import { runPoint } from "./crash-points/run-point.ts";
import { MUTANTS } from "./mutants/catalogue.ts";
import { SCENARIOS } from "./crash-points/scenario.ts";
import { subsetsOf } from "./crash-points/subset.ts";

/** `npm run sim:crash-points` crashes before every change, and tries many subsets at each. */
const EVERY = 9;

describe("simulator: crash points", function () {
  this.timeout(120_000);

  for (const [scenario, make] of SCENARIOS.entries()) {
    it(`${make().name}: old-complete or new-complete, whatever is kept`, async () => {
      const whole = await runPoint({ scenario, change: 0, kept: () => true });
      assert.equal(whole.violation, null, JSON.stringify(whole.violation));
      assert.ok(whole.changes > 0, "it changes its replica's disk");
      for (let change = 1; change <= whole.changes; change += EVERY) {
        for (const [which, kept] of [() => false, () => true, odd].entries()) {
          const { violation } = await runPoint({ scenario, change, kept });
          const where = `before change ${change}, subset ${which}`;
          assert.equal(violation, null, `${where}: ${violation?.invariant}: ${violation?.message}`);
        }
      }
    });
  }

  it("a disk that only says that it has synced is caught", async () => {
    const mutant = MUTANTS.find(({ name }) => name === "lying-disk");
    const { alterNode } = mutant ?? {};
    assert.ok(alterNode !== undefined);
    const found: string[] = [];
    for (let change = 1; change <= 18; change += 1) {
      const point = { scenario: 0, change, kept: () => false };
      const { violation } = await runPoint(point, null, { alterNode });
      if (violation !== null) found.push(violation.invariant);
    }
    assert.ok(found.length > 0, "no crash was noticed");
  });

  it("subsets are all there are, or the telling ones", () => {
    const kept = subsetsOf(3, 64).map((subset) => [0, 1, 2].map((index) => subset(index)).join());
    assert.equal(new Set(kept).size, 8);
    assert.equal(subsetsOf(20, 64).length, 64);
  });
});

const odd = (index: number): boolean => index % 2 === 1;
