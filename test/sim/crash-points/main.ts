/** `npm run sim:crash-points`: see USAGE. */
import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import { inWorkers, serveOrders } from "../jobs.ts";
import { traceFile } from "../trace-file.ts";
import type { Coverage } from "./outcomes.ts";
import { type RecordSaves, saveRecords } from "./record-save.ts";
import { type CrashPoint, runPoint } from "./run-point.ts";
import { SCENARIOS } from "./scenario.ts";
import { type Answer, NOTHING_KEPT, type Order, parseOutcome, tryPoint } from "./try-point.ts";

const OUTCOMES = 64;
/** Outcomes of each crash with what came before the operation unsynced, too. */
const UNSETTLED_OUTCOMES = 8;
const USAGE = `npm run sim:crash-points -- [options]
  --scenario N   only this one: ${SCENARIOS.map((make, index) => `${index} ${make().name}`).join("; ")}
  --change N     only the crash before this change of the disk
  --outcome O    only this outcome of it, as a failure names it
  --unsettled    with --outcome: what came before the operation is not durable when it begins
  --subsets K    at most so many outcomes of each crash, all of them up to that number (default
                 ${OUTCOMES}, up to 1024)
  --jobs J       processes (default: one a core)
  --trace FILE   write every event of the first crash there, run here
Each operation is run once for each change that it makes to its replica's disk, with the power lost
before it, and that once for each outcome: what is left of its changes that were not synced, of a
write any number of its first sectors (of more than 8 sectors, some numbers). Where there are more
outcomes than K, they are a sample: all subsets of the changes with torn writes in a sample, or else
both in a sample. What came before the operation is durable when it begins, but for ${UNSETTLED_OUTCOMES} outcomes more
of each crash. Afterwards everything has to be there and to vote. The exit status is 1 when
something is not.
`;

/** Crash points of a scenario: one before each change that it makes. */
async function pointsOf(scenario: number): Promise<number> {
  const point = { scenario, change: 0, outcome: NOTHING_KEPT, settled: true, outcomesMax: 0 };
  const { changes, violation } = await runPoint(point);
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
      outcome: { type: "string" },
      unsettled: { type: "boolean", default: false },
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
  const outcomesMax = whole(values.subsets, "--subsets", OUTCOMES, 1024);
  const jobs = Math.max(1, whole(values.jobs, "--jobs", availableParallelism(), 1024));
  if (values.outcome !== undefined) {
    const outcome = parseOutcome(values.outcome);
    if (only < 0 || change < 1) throw new TypeError("--outcome: needs --scenario and --change");
    return await replay(
      { scenario: only, change, outcome, settled: !values.unsettled },
      values.trace,
    );
  }
  const orders: Order[] = [];
  for (const [scenario] of SCENARIOS.entries()) {
    if (only !== -1 && scenario !== only) continue;
    const points = await pointsOf(scenario);
    for (let at = 1; at <= points; at += 1) {
      if (change !== -1 && change !== at) continue;
      orders.push({ scenario, change: at, outcomesMax, settled: true });
      orders.push({ scenario, change: at, outcomesMax: UNSETTLED_OUTCOMES, settled: false });
    }
  }
  if (values.trace !== undefined && orders[0] !== undefined) {
    await replay({ ...orders[0], outcome: NOTHING_KEPT }, values.trace);
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
      if (answers.length % 50 === 0) process.stderr.write(`${answers.length} of ${total} orders\n`);
    },
  });
  return conclude(answers, only === -1 ? await saveRecords() : null);
}

/** Prints what was tried and what came of it; the exit status. */
function conclude(answers: readonly Answer[], saves: RecordSaves | null): number {
  let operations = 0;
  for (const [scenario, make] of SCENARIOS.entries()) {
    const own = answers.filter((answer) => answer.scenario === scenario);
    if (own.length === 0) continue;
    operations += 1;
    process.stdout.write(`${scenario} ${make().name}: ${countsText(own)}\n`);
  }
  let violations = answers.reduce((count, { failures }) => count + failures.length, 0);
  if (saves !== null) {
    for (const failure of saves.failures) process.stdout.write(`${failure}\n`);
    const { points, outcomes, sampled } = saves;
    const counts = `${points} points, ${outcomes} outcomes (of ${sampled} points a sample)`;
    process.stdout.write(`save the record: ${counts}\n`);
    operations += 1;
    violations += saves.failures.length;
  }
  const counts = `${operations} operations, ${countsText(answers)}, ${violations} violations`;
  process.stdout.write(`crash points: ${counts}\n`);
  return violations === 0 ? 0 : 1;
}

/** One crash, run here. */
async function replay(
  point: Omit<CrashPoint, "outcomesMax">,
  trace: string | undefined,
): Promise<number> {
  const file = trace === undefined ? null : traceFile(trace);
  const { violation } = await runPoint({ ...point, outcomesMax: 0 }, file?.write);
  await file?.end();
  if (violation === null) return 0;
  process.stdout.write(`${violation.invariant}: ${violation.message}\n`);
  return 1;
}

function countsText(answers: readonly Answer[]): string {
  const settled = answers.filter((answer) => answer.settled);
  const count = (wanted: Coverage): number =>
    settled.filter(({ coverage }) => coverage === wanted).length;
  const outcomes = (of: readonly Answer[]): number =>
    of.reduce((total, answer) => total + answer.outcomes, 0);
  const most = Math.max(0, ...settled.map(({ questions }) => questions));
  return (
    `${settled.length} points, ${outcomes(settled)} outcomes (of ${count("torn")} points all, of ` +
    `${count("whole")} all but torn writes, of ${count("sample")} a sample), at most ${most} ` +
    `unsynced changes; ${outcomes(answers) - outcomes(settled)} outcomes with older ones, too`
  );
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
