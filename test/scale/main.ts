/** `npm run test:scale`: the operator with very many stores; see {@link HELP}. */
import { printReport, type Report, type Row, writeReport } from "../bench/report.ts";
import { HELP, parseOptions, type ScaleOptions, UsageError } from "./options.ts";
import { REPLICAS, ScaleCluster } from "./scale-cluster.ts";
import { type Bundles, ScaleRun } from "./scale-run.ts";

async function measure(options: ScaleOptions, bundles: Bundles): Promise<Report> {
  const cluster = new ScaleCluster();
  try {
    cluster.prepare((options.stores.at(-1) ?? 0) * REPLICAS);
    const run = new ScaleRun(cluster, options, bundles);
    const rows: Row[] = [];
    try {
      for (const [at, stores] of options.stores.entries()) {
        rows.push(await run.step(options.stores[at - 1] ?? 0, stores));
        printReport(reportOf(rows, options));
      }
    } finally {
      await run.close();
    }
    return reportOf(rows, options);
  } finally {
    await cluster.close();
  }
}

function reportOf(rows: readonly Row[], options: ScaleOptions): Report {
  const notes = [
    "made s: from the first of the stores to all available; the API server, its controllers, kwok",
    "and the fake sidecars share the machine. requests: of the operator to the API server.",
    "cold start s: process start to all stores reconciled and all replicas followed.",
    `recovery object: from the new claim, ${options.replacements} claims replaced one by one.`,
  ];
  return { bench: "scale", runs: 1, rows, raw: rows, notes };
}

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.once(signal, () => process.exit(1));
}
try {
  const [operator = "", sidecars = "", ...args] = process.argv.slice(2);
  const options = parseOptions(args);
  if (options === null) console.log(HELP);
  else {
    const report = await measure(options, { operator, sidecars });
    if (options.json !== null) writeReport(options.json, report);
  }
} catch (error) {
  console.error(error instanceof UsageError ? error.message : error);
  process.exitCode = error instanceof UsageError ? 2 : 1;
}
