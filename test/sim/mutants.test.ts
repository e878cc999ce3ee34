/**
 * Proof that the checkers fire: each mutant breaks one rule in one part, from outside, and the
 * simulator has to notice within a few seeds. `npm run sim:mutants` measures how many.
 */
import assert from "node:assert/strict";
import { MUTANTS } from "./mutants/catalogue.ts";
import { tryMutant } from "./mutants/trial.ts";

const SEEDS_MAX = 150;

describe("simulator: every mutant is caught", function () {
  this.timeout(120_000);

  it("has names of their own", () => {
    assert.equal(new Set(MUTANTS.map(({ name }) => name)).size, MUTANTS.length);
  });

  for (const mutant of MUTANTS) {
    it(`${mutant.name}: ${mutant.does} (${mutant.breaks.join(", ")})`, async () => {
      const { violation, seed } = await tryMutant(mutant, mutant.first ?? 1, SEEDS_MAX);
      assert.ok(violation !== null, `not caught in ${SEEDS_MAX} seeds`);
      const { invariant, message } = violation;
      assert.ok(mutant.caughtBy.includes(invariant), `seed ${seed}: ${invariant}: ${message}`);
    });
  }
});
