/** `npm run sim:crash-points`: see USAGE. */
import { createWriteStream } from "node:fs";
import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import { inWorkers, serveOrders } from "../jobs.ts";
import { type PointResult, runPoint } from "./run-point.ts";
import { SCENARIOS } from "./scenario.ts";
import { subsetsOf } from "./subset.ts";

const SUBSETS = 64;
const USAGE = `npm run sim:crash-points -- [options]
  --scenario N   only this one: ${SCENARIOS.map((make, index) => `${index} ${make().name}`).join("; ")}
  --change N     only the crash before this change of the disk
  --subsets K    at most so many subsets of what was not synced at each crash, all of them up to
                 that number (default ${SUBSETS}, up to 1024)
  --jobs J       processes (default: one a core)
  --trace FILE   write every event of the first crash there, run here
Each operation is run once for each change that it makes to its replica's disk, with the power lost
before it, and that once for each subset of the unsynced changes that may be kept. Afterwards
everything has to be there and to vote. The exit status is 1 when something is not.
`;

interface Order {
  readonly scenario: number;
  readonly change: number;
  readonly subsets: number;
}

interface Answer {
  readonly scenario: number;
  readonly change: number;
  readonly states: number;
  readonly mostUnsynced: number;
  readonly failures: readonly string[];
}

/** All subsets of one crash. */
async function tryPoint({ scenario, change, subsets }: Order): Promise<Answer> {
  const nothing = await runPoint({ scenario, change, kept: () => false });
  const all = subsetsOf(nothing.unsynced, subsets);
  const failures: string[] = [];
  const judge = ({ violation, newestLines }: PointResult, which: number): void => {
    if (violation === null) return;
    const name = `scenario ${scenario}, before change ${change}, subset ${which} of ${all.length}`;
    const lines = newestLines.slice(-20);
    failures.push([...lines, `${name}: ${violation.invariant}: ${violation.message}`].join("\n"));
  };
  judge(nothing, 0);
  for (const [which, kept] of all.entries()) {
    // The first one keeps nothing, as the run before.
    if (which > 0) judge(await runPoint({ scenario, change, kept }), which);
  }
  return { scenario, change, states: all.length, mostUnsynced: nothing.unsynced, failures };
}

/** Crash points of a scenario: one before each change that it makes. */
export async function pointsOf(scenario: number): Promise<number> {
  const { changes, violation } = await runPoint({ scenario, change: 0, kept: () => true });
  if (violation === null) return changes;
  throw new Error(
    `scenario ${scenario} without a crash: ${violation.invariant}: ${violation.message}`,
  );
}

function whole(text: string | undefined, name: string, otherwise: number, max: number): number {
  if (text === undefined) return otherwise;
  const value = Number(text);
  if (Number.isSafeInteger(value) && value >= 0 && value <= max) return value;
  throw new TypeError(`${name}: ${text}: allowed: 0 to ${max}`);
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      scenario: { type: "string" },
      change: { type: "string" },
      subsets: { type: "string" },
      jobs: { type: "string" },
      trace: { type: "string" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    process.stdout.write(USAGE);
    return 0;
  }
  const only = whole(values.scenario, "--scenario", -1, SCENARIOS.length - 1);
  const change = whole(values.change, "--change", -1, 100_000);
  const subsets = whole(values.subsets, "--subsets", SUBSETS, 1024);
  const jobs = Math.max(1, whole(values.jobs, "--jobs", availableParallelism(), 1024));
  const orders: Order[] = [];
  for (const [scenario] of SCENARIOS.entries()) {
    if (only !== -1 && scenario !== only) continue;
    const points = await pointsOf(scenario);
    for (let at = 1; at <= points; at += 1) {
      if (change === -1 || change === at) orders.push({ scenario, change: at, subsets });
    }
  }
  if (values.trace !== undefined && orders[0] !== undefined) {
    const file = createWriteStream(values.trace);
    await runPoint({ ...orders[0], kept: () => false }, (line) => file.write(`${line}\n`));
    await new Promise((resolve) => file.end(resolve));
  }
  const total = orders.length;
  const answers: Answer[] = [];
  await inWorkers<Order, Answer>({
    module: import.meta.url,
    jobs,
    next: () => orders.shift() ?? null,
    answered: (answer) => {
      answers.push(answer);
      for (const failure of answer.failures) process.stdout.write(`${failure}\n`);
      if (answers.length % 50 === 0) process.stderr.write(`${answers.length} of ${total} points\n`);
    },
  });
  for (const [scenario, make] of SCENARIOS.entries()) {
    const own = answers.filter((answer) => answer.scenario === scenario);
    if (own.length === 0) continue;
    const most = Math.max(...own.map(({ mostUnsynced }) => mostUnsynced));
    process.stdout.write(
      `${scenario} ${make().name}: ${own.length} points, ${sum(own)} states, at most ${most} unsynced\n`,
    );
  }
  const violations = answers.reduce((count, { failures }) => count + failures.length, 0);
  process.stdout.write(
    `crash points: ${new Set(answers.map(({ scenario }) => scenario)).size} operations, ` +
      `${answers.length} points, ${sum(answers)} states, ${violations} violations\n`,
  );
  return violations === 0 ? 0 : 1;
}

function sum(answers: readonly Answer[]): number {
  return answers.reduce((total, { states }) => total + states, 0);
}

if (process.argv.includes("--worker")) serveOrders(tryPoint);
else {
  try {
    process.exitCode = await main();
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    process.stderr.write(`${error.message}\n${USAGE}`);
    process.exitCode = 2;
  }
}
