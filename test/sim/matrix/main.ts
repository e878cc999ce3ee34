/** `npm run sim:matrix`: see USAGE. */
import { writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import { inWorkers, serveOrders } from "../jobs.ts";
import { allCells, type Cell, cellText } from "./cell.ts";
import { PHASES } from "./phase.ts";
import { traceFile } from "../trace-file.ts";
import { type CellResult, runCell } from "./run-cell.ts";

const USAGE = `npm run sim:matrix -- [options]
  --only TEXT   only cells whose name contains TEXT; a name is
                phase/victim/loss/log/load/times, for instance "mid transfer/leader/wal"
  --every N     only each N-th cell
  --jobs J      processes (default: one a core)
  --trace FILE  write every event of the first cell there, run here
  --write       write the table to test/sim/MATRIX.md
Every combination is run once; each has to stay safe and to recover. The exit status is 1 when one
does not.
`;
const NEWEST_LINES = 30;

interface Row {
  cells: number;
  failed: number;
  readonly recoveries: number[];
}

function quantile(values: readonly number[], share: number): string {
  const sorted = values.toSorted((a, b) => a - b);
  const value = sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)];
  return value === undefined ? "-" : (value / 1000).toFixed(2);
}

function tableOf(cells: readonly Cell[], results: ReadonlyMap<number, CellResult>): string {
  const groups = (cell: Cell): readonly string[] => [
    `phase: ${cell.phase.name}`,
    `victim: ${cell.victim}`,
    `loss: ${cell.loss}`,
    `log: ${cell.log}`,
    `load: ${cell.load}`,
    `times: ${cell.times}`,
  ];
  const names = groups(cells[0] as Cell).flatMap((_, side) => [
    ...new Set(cells.map((cell) => groups(cell)[side] ?? "")),
  ]);
  const rows = new Map<string, Row>(
    names.map((name) => [name, { cells: 0, failed: 0, recoveries: [] }]),
  );
  for (const cell of cells) {
    const result = results.get(cell.index);
    for (const group of groups(cell)) {
      const row = rows.get(group) as Row;
      row.cells += 1;
      if (result === undefined || result.violation !== null) row.failed += 1;
      else row.recoveries.push(result.recoveryMs);
    }
  }
  const lines = [...rows].map(([name, { cells: count, failed, recoveries }]) =>
    ["", name, count, failed, quantile(recoveries, 0.5), quantile(recoveries, 0.99), ""]
      .join(" | ")
      .trim(),
  );
  return [
    "# The wipe matrix",
    "",
    "Whose disk is lost, what of it, in which phase of which protocol, over which kind of log, under which",
    "load, and what happens besides: all combinations, each run once. Written by",
    "`npm run sim:matrix -- --write`. Recovery: virtual seconds from the loss until all vote;",
    "the process is away for the first 0.1 s of them.",
    "",
    "| of | cells | failed | recovery, median | recovery, p99 |",
    "| --- | --- | --- | --- | --- |",
    ...lines,
    "",
  ].join("\n");
}

function tell(cell: Cell, { violation, newestLines }: CellResult): void {
  if (violation === null) return;
  const lines = [
    ...newestLines.slice(-NEWEST_LINES),
    `${cellText(cell)}: ${violation.invariant}: ${violation.message}`,
    `repeat with: npm run sim:matrix -- --only "${cellText(cell)}" --trace trace.txt`,
  ];
  process.stdout.write(`${lines.join("\n")}\n`);
}

function positive(text: string | undefined, name: string, otherwise: number): number {
  if (text === undefined) return otherwise;
  const value = Number(text);
  if (Number.isSafeInteger(value) && value > 0) return value;
  throw new TypeError(`${name}: ${text}: allowed: a whole number from 1`);
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      only: { type: "string", default: "" },
      every: { type: "string" },
      jobs: { type: "string" },
      trace: { type: "string" },
      write: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    process.stdout.write(USAGE);
    return 0;
  }
  const every = positive(values.every, "--every", 1);
  const jobs = positive(values.jobs, "--jobs", availableParallelism());
  const chosen = allCells().filter(
    (cell) => cell.index % every === 0 && cellText(cell).includes(values.only),
  );
  if (chosen.length === 0) throw new TypeError(`--only: ${values.only}: no cell has such a name`);
  const results = new Map<number, CellResult>();
  const done = (result: CellResult): void => {
    results.set(result.index, result);
    tell(allCells()[result.index] as Cell, result);
    if (results.size % 250 === 0) process.stderr.write(`${results.size} of ${chosen.length}\n`);
  };
  if (values.trace === undefined) {
    const left = chosen.map(({ index }) => ({ index }));
    const next = (): { readonly index: number } | null => left.shift() ?? null;
    await inWorkers<{ readonly index: number }, CellResult>({
      module: import.meta.url,
      jobs: Math.min(jobs, chosen.length),
      next,
      answered: done,
    });
  } else {
    const file = traceFile(values.trace);
    done(await runCell(chosen[0] as Cell, file.write));
    await file.end();
    chosen.length = 1;
  }
  const table = tableOf(chosen, results);
  process.stdout.write(table);
  if (values.write) writeFileSync(new URL("../MATRIX.md", import.meta.url), table);
  const failed = [...results.values()].filter(({ violation }) => violation !== null).length;
  const spared = [...results.values()].filter(({ secondSpared }) => secondSpared).length;
  process.stdout.write(
    `${chosen.length} cells, ${failed} failed, ${spared} without their second loss, ` +
      `${PHASES.length} phases, ` +
      `slowest recovery ${quantile(
        [...results.values()].map((one) => one.recoveryMs),
        1,
      )} s\n`,
  );
  return failed === 0 ? 0 : 1;
}

if (process.argv.includes("--worker")) {
  serveOrders(({ index }: { readonly index: number }) => runCell(allCells()[index] as Cell));
} else {
  try {
    process.exitCode = await main();
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    process.stderr.write(`${error.message}\n${USAGE}`);
    process.exitCode = 2;
  }
}
