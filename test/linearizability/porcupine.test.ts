/** Against another checker, which searches in another way and was written by others: porcupine. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { text } from "node:stream/consumers";
import { Chance } from "../sim/chance.ts";
import { outsideTool } from "../support/outside-tool.ts";
import { checkLinearizable } from "./check.ts";
import type { Operation } from "./history.ts";
import { PLANTS } from "./planted-violation.ts";
import { generateHistory, type HistoryOptions } from "./random-history.ts";

/** A history to be judged twice, with what tells people how it came about. */
interface Case {
  readonly name: string;
  readonly history: readonly Operation[];
  /** What both have to say; null where they need only agree. */
  readonly verdict: "linearizable" | "violation" | null;
}

type Shape = Omit<HistoryOptions, "seed" | "spoil">;

const SMALL_SEEDS = 400;
const LARGE_SEEDS = 3;

const SMALL: readonly Shape[] = [
  { operations: 12, clients: 4, keys: 2, lost: 0.3 },
  { operations: 60, clients: 6, keys: 2, lost: 0.1 },
  { operations: 200, clients: 5, keys: 3, lost: 0.03 },
];

/** One key for all, many keys, many clients; in most of them something is lost again and again. */
const LARGE: readonly Shape[] = [
  { operations: 3_000, clients: 3, keys: 1, lost: 0.001 },
  { operations: 5_000, clients: 8, keys: 16, lost: 0.01 },
  { operations: 8_000, clients: 12, keys: 64, lost: 0.03 },
];

describe("linearizability: the same verdicts as porcupine", function () {
  this.timeout(180_000);
  let program: string;

  before(function () {
    program = outsideTool(this, "porcupine");
  });

  it(`on ${SMALL.length * SMALL_SEEDS} small histories, good and spoilt`, async () => {
    const cases = SMALL.flatMap((shape) =>
      Array.from({ length: SMALL_SEEDS }, (_, index) => smallCase(shape, index + 1)),
    );
    const { good, bad } = await compare(program, cases);
    assert.ok(Math.min(good, bad) > cases.length / 10, `${good} linearizable, ${bad} not`);
  });

  it("on histories of thousands of operations, with and without a planted violation", async () => {
    const cases = LARGE.flatMap((shape) =>
      Array.from({ length: LARGE_SEEDS }, (_, index) => largeCases(shape, index + 1)).flat(),
    );
    const { good, bad } = await compare(program, cases);
    assert.ok(Math.min(good, bad) > cases.length / 10, `${good} linearizable, ${bad} not`);
  });
});

function smallCase(shape: Shape, seed: number): Case {
  const history = generateHistory({ ...shape, seed, spoil: seed % 3 === 1 });
  const plant = seed % 3 === 2 ? PLANTS[Math.floor(seed / 3) % PLANTS.length] : undefined;
  const spoilt = plant?.into(history, new Chance(seed)) ?? history;
  const name = `seed ${seed} of ${JSON.stringify(shape)}, ${plant?.name ?? "no plant"}`;
  return { name, history: spoilt, verdict: seed % 3 === 0 ? "linearizable" : null };
}

/** A legal history, and one more for each way to spoil it. */
function largeCases(shape: Shape, seed: number): readonly Case[] {
  const history = generateHistory({ ...shape, seed, spoil: false });
  const name = `seed ${seed} of ${JSON.stringify(shape)}`;
  const spoilt = PLANTS.map((plant): Case => {
    const planted = plant.into(history, new Chance(seed));
    if (planted === null) throw new Error(`${name} has no room for ${plant.name}`);
    return {
      name: `${name}, ${plant.name}`,
      history: planted,
      verdict: plant.certain ? "violation" : null,
    };
  });
  return [{ name, history, verdict: "linearizable" }, ...spoilt];
}

/** Fails with every case whose verdicts differ; counts how often each was given. */
async function compare(
  program: string,
  cases: readonly Case[],
): Promise<{ readonly good: number; readonly bad: number }> {
  const theirs = await porcupine(program, cases);
  const ours = cases.map(({ history }) => checkLinearizable(history).kind);
  const differing = cases.flatMap(({ name, verdict }, index) => {
    const [own, other] = [ours[index], theirs[index]];
    const agreed = own === other && own !== "undecided" && own === (verdict ?? own);
    return agreed ? [] : [`${name}: ours ${own}, porcupine ${other}, owed ${verdict ?? "either"}`];
  });
  if (differing.length > 0) assert.fail(differing.join("\n"));
  const good = ours.filter((kind) => kind === "linearizable").length;
  return { good, bad: ours.length - good };
}

/** Porcupine's verdicts, one for each history. */
async function porcupine(program: string, cases: readonly Case[]): Promise<readonly string[]> {
  const child = spawn(program, { stdio: ["pipe", "pipe", "inherit"] });
  // A program that ended early says why itself; its status is judged below.
  child.stdin.on("error", () => {});
  // Infinity, of what never returned, becomes null.
  child.stdin.end(cases.map(({ history }) => `${JSON.stringify(history)}\n`).join(""));
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", resolve);
  });
  const [output, status] = await Promise.all([text(child.stdout), ended]);
  assert.equal(status, 0);
  const verdicts = output.trimEnd().split("\n");
  assert.equal(verdicts.length, cases.length);
  return verdicts;
}
