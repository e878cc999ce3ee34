/** `npm run sim`: see USAGE in `arguments.ts`. */
import { parseArguments, type SimArguments, USAGE, UsageError } from "./arguments.ts";
import { Chance } from "./chance.ts";
import { describeFailure, shrink } from "./failure.ts";
import { inWorkers, serveOrders } from "./jobs.ts";
import { optionsOf, type SimOptions } from "./options.ts";
import { simulate } from "./simulation.ts";
import { type SeedSummary, summarize, Tally } from "./tally.ts";
import { traceFile } from "./trace-file.ts";

const PROGRESS_MS = 10_000;

/** Runs the seeds in this process: one, or to write a trace. */
async function runHere(asked: SimArguments, tally: Tally): Promise<void> {
  const { seed: first, force } = asked;
  const file = asked.trace === null ? null : traceFile(asked.trace);
  for (let seed = first; seed < first + asked.seeds; seed += 1) {
    const sink = file !== null && seed === first ? file.write : null;
    const summary = await runSeed({ seed, force }, sink);
    tell(summary, tally);
    if (asked.seeds === 1) process.stdout.write(`trace hash ${summary.traceHash}\n`);
  }
  await file?.end();
}

/** Runs the seeds in processes of their own; resolves when all have answered. */
async function runInWorkers(asked: SimArguments, tally: Tally): Promise<void> {
  const endMs = performance.now() + asked.minutes * 60_000;
  let next = asked.seed;
  const more = (): boolean => {
    if (asked.untilFailure && tally.failed.length > 0) return false;
    return next < asked.seed + asked.seeds && performance.now() < endMs;
  };
  const progress = setInterval(() => {
    process.stderr.write(`${tally.seeds} seeds, ${tally.failed.length} failed\n`);
  }, PROGRESS_MS);
  try {
    await inWorkers<WorkerOrder, SeedSummary>({
      module: import.meta.url,
      jobs: Math.min(asked.jobs, asked.seeds),
      next: () => (more() ? { seed: next++, force: asked.force } : null),
      answered: (summary) => tell(summary, tally),
    });
  } finally {
    clearInterval(progress);
  }
}

function tell(summary: SeedSummary, tally: Tally): void {
  tally.add(summary);
  if (summary.failure !== "") process.stdout.write(`${summary.failure}\n`);
}

async function main(asked: SimArguments): Promise<number> {
  if (asked.help) {
    process.stdout.write(USAGE);
    return 0;
  }
  const { seed: first } = asked;
  process.stdout.write(`first seed ${first}\n`);
  if (asked.printOptions) {
    for (let seed = first; seed < first + Math.min(asked.seeds, 100_000); seed += 1) {
      const options = { ...optionsOf(seed, new Chance(seed)), ...asked.force };
      process.stdout.write(`seed ${seed}: ${JSON.stringify(options)}\n`);
    }
    return 0;
  }
  const tally = new Tally();
  const here = asked.seeds === 1 || asked.trace !== null;
  await (here ? runHere(asked, tally) : runInWorkers(asked, tally));
  process.stdout.write(`${tally.text()}\n`);
  return tally.failed.length === 0 ? 0 : 1;
}

/** What a worker is asked for: run this seed. */
interface WorkerOrder {
  readonly seed: number;
  readonly force: Partial<SimOptions>;
}

/** Runs one seed; of one that fails a smaller run is looked for. */
async function runSeed(
  { seed, force }: WorkerOrder,
  sink: ((line: string) => void) | null = null,
): Promise<SeedSummary> {
  const beganMs = performance.now();
  const result = await simulate({ seed, force, ...(sink === null ? {} : { sink }) });
  const realMs = performance.now() - beganMs;
  const smaller = await shrink(result, force);
  const lines = [describeFailure(result, force), smaller ?? ""].filter((text) => text !== "");
  return summarize(result, realMs, lines.join("\n"));
}

if (process.argv.includes("--worker")) serveOrders((order: WorkerOrder) => runSeed(order));
else {
  try {
    process.exitCode = await main(parseArguments(process.argv.slice(2), Date.now()));
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    process.stderr.write(`${error.message}\n${USAGE}`);
    process.exitCode = 2;
  }
}
