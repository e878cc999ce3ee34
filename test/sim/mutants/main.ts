/** `npm run sim:mutants`: see USAGE. */
import { writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { inWorkers, serveOrders } from "../jobs.ts";
import { Referee } from "../referee.ts";
import { MUTANTS, REDUNDANT } from "./catalogue.ts";
import { table, type Series } from "./table.ts";
import { tryMutant } from "./trial.ts";

const USAGE = `npm run sim:mutants -- [options]
  --series N    times that each mutant is hunted, from other seeds (default 10)
  --only NAME   only this mutant: ${MUTANTS.map(({ name }) => name).join(", ")}
  --jobs J      processes (default: one a core)
  --write       write the table to test/sim/MUTANTS.md
Each mutant breaks one rule; the simulator has to notice. The exit status is 1 when one survives, or
is caught by a checker of something else only, or when a checker never fired on any of all mutants.
`;

const INVARIANTS = new Referee([{ namespace: "default", shard: 0 }]).invariants;
/** Seeds of one series; the next begins so much later. */
const SEEDS_MAX = 400;

interface Order {
  readonly name: string;
  readonly first: number;
}

async function work(order: Order): Promise<Series> {
  const mutant = MUTANTS.find(({ name }) => name === order.name);
  if (mutant === undefined) throw new Error(`no mutant ${order.name}`);
  const trial = await tryMutant(mutant, order.first, SEEDS_MAX);
  return {
    name: order.name,
    seeds: trial.seeds,
    checkers: trial.violations.map(({ invariant }) => invariant),
  };
}

async function hunt(orders: Order[], jobs: number): Promise<readonly Series[]> {
  const done: Series[] = [];
  await inWorkers<Order, Series>({
    module: import.meta.url,
    jobs,
    next: () => orders.shift() ?? null,
    answered: (series) => {
      done.push(series);
      const caught =
        series.seeds === null ? "NOT CAUGHT" : `${series.seeds} by ${series.checkers.join(", ")}`;
      process.stderr.write(`${series.name}: ${caught}\n`);
    },
  });
  return done;
}

async function main(argv: readonly string[]): Promise<number> {
  const value = (name: string): string | undefined => {
    const at = argv.indexOf(name);
    return at === -1 ? undefined : (argv[at + 1] ?? "");
  };
  const known = ["--series", "--only", "--jobs", "--write", "--help"];
  const wrong = argv.find((word) => word.startsWith("--") && !known.includes(word));
  const only = value("--only");
  const series = Number(value("--series") ?? 10);
  const jobs = Number(value("--jobs") ?? availableParallelism());
  const chosen = MUTANTS.filter(({ name }) => only === undefined || name === only);
  const whole =
    Number.isSafeInteger(series) && series > 0 && Number.isSafeInteger(jobs) && jobs > 0;
  if (argv.includes("--help") || wrong !== undefined || !whole || chosen.length === 0) {
    const bad = wrong ?? (whole ? `--only: ${only}: no such mutant` : "--series, --jobs: from 1");
    process.stderr.write(argv.includes("--help") ? USAGE : `${bad}\n${USAGE}`);
    return argv.includes("--help") ? 0 : 2;
  }
  const orders = chosen.flatMap(({ name }) =>
    Array.from({ length: series }, (_, index) => ({ name, first: 1 + index * 1_000 })),
  );
  const found = await hunt(orders, jobs);
  const { text, survived, wrongly, silent } = table(chosen, REDUNDANT, found, INVARIANTS);
  // Of some mutants nobody can ask that every checker fires.
  const mute = only === undefined ? silent : [];
  process.stdout.write(text);
  if (argv.includes("--write")) {
    writeFileSync(new URL("../MUTANTS.md", import.meta.url), text);
  }
  const caught = chosen.length - survived.length;
  process.stdout.write(
    `${chosen.length} mutants, ${caught} caught, ${survived.length} survived${listed(survived)}, ` +
      `${wrongly.length} caught by an unexpected checker${listed(wrongly)}, ` +
      `${mute.length} checkers that never fired${listed(mute)}, ${REDUNDANT.length} rules argued\n`,
  );
  return survived.length === 0 && wrongly.length === 0 && mute.length === 0 ? 0 : 1;
}

function listed(names: readonly string[]): string {
  return names.length === 0 ? "" : ` (${names.join(", ")})`;
}

if (process.argv.includes("--worker")) serveOrders(work);
else process.exitCode = await main(process.argv.slice(2));
