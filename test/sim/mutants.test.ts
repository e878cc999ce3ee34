/**
 * Proof that the checkers fire: each mutant breaks one rule in one part, from outside, and the
 * simulator has to notice within a few seeds. `npm run sim:mutants` measures how many.
 */
import assert from "node:assert/strict";
import { MUTANTS } from "./mutants/catalogue.ts";
import { isMeant, table } from "./mutants/table.ts";
import { tryMutant } from "./mutants/trial.ts";

const SEEDS_MAX = 150;

describe("simulator: every mutant is caught", function () {
  this.timeout(120_000);

  it("has names of their own", () => {
    assert.equal(new Set(MUTANTS.map(({ name }) => name)).size, MUTANTS.length);
  });

  for (const mutant of MUTANTS) {
    it(`${mutant.name}: ${mutant.does} (${mutant.breaks.join(", ")})`, async () => {
      const { violations, seed } = await tryMutant(mutant, mutant.first ?? 1, SEEDS_MAX);
      assert.ok(violations.length > 0, `not caught in ${SEEDS_MAX} seeds`);
      const found = violations.map(({ invariant, message }) => `${invariant}: ${message}`);
      const meant = violations.some(({ invariant }) => isMeant(mutant, invariant));
      assert.ok(meant, `seed ${seed}: ${found.join("; ")}`);
    });
  }
});

describe("simulator: what the table of mutants says", () => {
  const [first, second] = MUTANTS.slice(0, 2);
  assert.ok(first !== undefined && second !== undefined);
  const caught = (name: string, seeds: number | null, ...checkers: readonly string[]) => ({
    name,
    seeds,
    checkers,
  });
  const [meant = ""] = first.caughtBy;

  it("names a checker that no mutant made fire", () => {
    const series = [caught(first.name, 3, meant, "X1")];
    const { silent, wrongly } = table([first], [], series, [meant, "X1", "X2"]);
    assert.deepEqual(silent, ["X2"]);
    assert.deepEqual(wrongly, []);
  });

  it("names a mutant that survived once, and one that others noticed", () => {
    const series = [
      caught(first.name, 3, meant),
      caught(first.name, null),
      caught(second.name, 1, "X1"),
    ];
    const { survived, wrongly, text } = table([first, second], [], series, []);
    assert.deepEqual(survived, [first.name]);
    assert.deepEqual(wrongly, [second.name]);
    assert.match(text, /not caught/);
  });
});
