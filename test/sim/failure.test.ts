import assert from "node:assert/strict";
import { byProcess, describeFailure, shrink } from "./failure.ts";
import { MUTANTS } from "./mutants/catalogue.ts";
import type { SimOptions } from "./options.ts";
import { type SimResult, simulate } from "./simulation.ts";

/** Small, and broken soon: what fails here fails in the first seconds of a run. */
const FORCE: Partial<SimOptions> = {
  quiet: null,
  faults: ["moveLeader", "coordinatorCrash"],
  safetyMs: 2_000,
};

async function broken(force: Partial<SimOptions>): Promise<SimResult> {
  const mutant = MUTANTS.find(({ name }) => name === "cut-the-committed");
  const undo = mutant?.patch?.();
  try {
    return await simulate({ seed: 1, force });
  } finally {
    undo?.();
  }
}

describe("a failure of the simulator", function () {
  this.timeout(60_000);
  let result: SimResult;

  before(async () => {
    result = await broken(FORCE);
  });

  it("names commit, options, everything that does not hold, and the command that repeats it", () => {
    const text = describeFailure(result, FORCE);
    assert.match(text, /^commit ([0-9a-f]{40}(, and changes)?|unknown: .+)$/mu);
    assert.match(text, /^seed 1: I8: /mu);
    assert.match(text, /^seed 1: I9: /mu);
    assert.match(text, /^options \{.*"safetyMs":2000/mu);
    const command = /^repeat with: npm run sim -- --seed 1 --seeds 1 --options '(.+)' --trace/mu;
    assert.deepEqual(JSON.parse(command.exec(text)?.[1] ?? "null"), FORCE);
  });

  it("shows the newest events by process, and says nothing of a run that held", async () => {
    const text = describeFailure(result, FORCE);
    for (const { name } of [{ name: "a" }, { name: "b" }, { name: "c" }]) {
      const own = new RegExp(`^newest of ${name}:\\n(\\d+\\.\\d{3} ${name} .+\\n)+`, "mu");
      assert.match(text, own);
    }
    const whole = await simulate({ seed: 1, force: { ...FORCE, faults: ["moveLeader"] } });
    assert.equal(describeFailure(whole), "");
  });

  it("keeps the newest lines of each process, whoever spoke last at the end", () => {
    const lines = ["1.000 a x", "2.000 b y", "3.000 a z", "4.000 a w", "5.000 b v"];
    assert.deepEqual(byProcess(lines, 2), [
      "newest of a:",
      "3.000 a z",
      "4.000 a w",
      "newest of b:",
      "2.000 b y",
      "5.000 b v",
    ]);
  });

  it("shrinks to what it needs, with what was asked for kept", async () => {
    const force = { ...FORCE, nodes: 5 };
    const needs = async (_seed: number, changed: Partial<SimOptions>): Promise<SimResult> => {
      const { faults, nodes } = { ...result.options, ...changed };
      const fails = faults.includes("moveLeader") && nodes === 5;
      return { ...result, violation: fails ? result.violation : null };
    };
    const found = await shrink(
      { ...result, options: { ...result.options, nodes: 5 } },
      force,
      needs,
    );
    const options: unknown = JSON.parse(/--options '(.+)'/u.exec(found ?? "")?.[1] ?? "null");
    const { faults, nodes, safetyMs, clients } = options as SimOptions;
    assert.deepEqual({ faults, nodes, clients }, { faults: ["moveLeader"], nodes: 5, clients: 1 });
    assert.ok(safetyMs <= 500, `it lasts ${safetyMs} ms`);
  });

  it("finds a smaller run that really fails", async () => {
    const found = await shrink(result, FORCE, (_seed, changed) => broken(changed));
    const options = JSON.parse(/--options '(.+)'/u.exec(found ?? "")?.[1] ?? "null");
    const again = await broken(options as Partial<SimOptions>);
    assert.equal(again.violation?.invariant, result.violation?.invariant);
  });

  it("has no smaller run when nothing failed", async () => {
    const whole = { ...result, violation: null, violations: [] };
    assert.equal(await shrink(whole, FORCE), null);
  });
});
