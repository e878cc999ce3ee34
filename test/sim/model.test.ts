/**
 * The model (`npm run sim:model`) in small: nothing breaks with all rules, and each schedule that
 * was found without a rule still breaks what it broke, and breaks nothing with the rule.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { violation } from "./model/invariants.ts";
import { type Conduct, RULES, SOUND, type RemovedRule } from "./model/rules.ts";
import { NOTHING_HAPPENS } from "./model/scopes.ts";
import { Model, search } from "./model/search.ts";

/** How a schedule ended. */
interface Replay {
  /** The first move that was not possible; null: all were. */
  readonly stoppedAt: string | null;
  readonly violation: string | null;
}

function schedule({ name }: RemovedRule): { readonly breaks: string; readonly moves: string[] } {
  const url = new URL(`./model/schedules/${name}.txt`, import.meta.url);
  const lines = readFileSync(url, "utf8").trim().split("\n");
  const [, breaks = ""] = lines.filter((line) => line.startsWith("# "));
  return { breaks: breaks.slice(2), moves: lines.filter((line) => !line.startsWith("# ")) };
}

function replay(rule: RemovedRule, conduct: Conduct): Replay {
  const undo = conduct.patch();
  try {
    const model = new Model({ ...NOTHING_HAPPENS, ...rule.needs }, conduct);
    let world = model.start;
    for (const name of schedule(rule).moves) {
      const move = model.moves(world).find((one) => one.name === name);
      if (move === undefined) return { stoppedAt: name, violation: violation(world) };
      world = model.take(world, move);
    }
    return { stoppedAt: null, violation: violation(world) };
  } finally {
    undo();
  }
}

describe("model", function () {
  this.timeout(60_000);

  for (const budget of [
    { terms: 2, writes: 1 },
    { terms: 1, writes: 1, wipes: 1 },
    { terms: 1, writes: 1, rollbacks: 1 },
  ]) {
    it(`nothing breaks within ${JSON.stringify(budget)}`, () => {
      const all = { ...NOTHING_HAPPENS, ...budget };
      const found = search({ budget: all, conduct: SOUND, statesMax: 1_000_000 });
      assert.equal(found.violation, null, found.schedule.join("\n"));
      assert.ok(found.complete);
      assert.ok(found.states > 1_000, String(found.states));
    });
  }

  for (const rule of RULES) {
    it(`${rule.name} (${rule.breaks.join(", ")}): its schedule loses nothing with the rule`, () => {
      assert.equal(replay(rule, rule.conduct).violation, schedule(rule).breaks);
      const kept = replay(rule, SOUND);
      assert.equal(kept.violation, null, `stopped at: ${kept.stoppedAt}`);
    });
  }
});
