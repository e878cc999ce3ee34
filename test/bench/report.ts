import { writeFileSync } from "node:fs";
import { cpus, release, totalmem } from "node:os";
import Table from "cli-table3";

/** One line of a result: what was measured, and figures by column name. */
export interface Row {
  readonly what: string;
  readonly figures: Readonly<Record<string, number | null>>;
}

/** One benchmark's outcome. `rows` are medians over `runs`; `raw` has every run, in order. */
export interface Report {
  readonly bench: string;
  readonly runs: number;
  readonly rows: readonly Row[];
  readonly raw: unknown;
  readonly notes: readonly string[];
}

/** Prints a report as a table. Columns are those of all rows, in order of first appearance. */
export function printReport(report: Report): void {
  const columns = [...new Set(report.rows.flatMap(({ figures }) => Object.keys(figures)))];
  const table = new Table({
    head: [report.bench, ...columns],
    colAligns: ["left", ...columns.map(() => "right" as const)],
    style: { head: [], border: [] },
  });
  for (const { what, figures } of report.rows) {
    table.push([what, ...columns.map((column) => shown(figures[column]))]);
  }
  console.log(table.toString());
  console.log(`median of ${report.runs} ${report.runs === 1 ? "run" : "runs"}`);
  for (const note of report.notes) console.log(note);
}

/** Writes a report with what it ran on, for machines. */
export function writeReport(path: string, report: Report): void {
  const machine = {
    node: process.version,
    kernel: release(),
    cpus: cpus().length,
    cpu: cpus()[0]?.model ?? "unknown",
    memoryBytes: totalmem(),
  };
  writeFileSync(path, `${JSON.stringify({ ...report, machine }, null, 2)}\n`);
}

/** The middle value; the mean of the two middle ones for an even count. Null for none. */
function median(values: readonly number[]): number | null {
  const sorted = [...values].sort((a, b) => a - b);
  const high = sorted[Math.floor(sorted.length / 2)];
  const low = sorted[Math.ceil(sorted.length / 2) - 1];
  return high === undefined || low === undefined ? null : (high + low) / 2;
}

/** The same rows measured several times -> one set of rows with the median of each figure. */
export function medianRows(runs: readonly (readonly Row[])[]): readonly Row[] {
  const all = runs.flat();
  return [...new Set(all.map(({ what }) => what))].map((what) => {
    const same = all.filter((row) => row.what === what);
    const columns = [...new Set(same.flatMap(({ figures }) => Object.keys(figures)))];
    const figures = columns.map((column) => {
      const values = same.flatMap((row) => row.figures[column] ?? []);
      return [column, median(values)] as const;
    });
    return { what, figures: Object.fromEntries(figures) };
  });
}

function shown(figure: number | null | undefined): string {
  if (figure === null || figure === undefined) return "-";
  if (Math.abs(figure) >= 1000) return Math.round(figure).toLocaleString("en-US");
  return figure.toFixed(figure >= 100 ? 0 : figure >= 10 ? 1 : 2);
}
