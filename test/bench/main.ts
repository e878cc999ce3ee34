/**
 * `npm run bench -- WHAT`: measures one thing against something real in the same run, since a
 * figure alone says as much about the machine and the minute as about the program.
 */
import { failover } from "./failover.ts";
import { footprint } from "./footprint.ts";
import { type BenchOptions, parseOptions, UsageError } from "./options.ts";
import { read } from "./read.ts";
import { recovery } from "./recovery.ts";
import { printReport, type Report, writeReport } from "./report.ts";
import { write } from "./write.ts";

const BENCHES: Readonly<Record<string, (options: BenchOptions) => Promise<Report>>> = {
  recovery,
  write,
  read,
  failover,
  footprint,
};

const HELP = `npm run bench -- ${Object.keys(BENCHES).join("|")} [options]

  recovery   a wiped replica, from its start to voting, against a copy of the same bytes
  write      replicated writes, against etcd and the disk's own sync rate
  read       linearizable reads, against etcd
  failover   longest time without a successful write, against etcd
  footprint  memory of the processes: idle, loaded, during a snapshot; against etcd

  --runs N        repeat and take the median (3)
  --seconds N     measured seconds of each load (5)
  --keys N        keys in the store beforehand (100000)
  --size SIZE     data of the recovery (128MiB)
  --profile DIR   write: CPU profile of the leader, and its three biggest costs
  --json FILE     the report for machines
  --no-peers      measure only this store
`;

async function main(): Promise<number> {
  const { bench, help, options } = parseOptions(process.argv.slice(2));
  const run = bench === undefined ? undefined : BENCHES[bench];
  if (help || run === undefined) {
    console.log(HELP);
    if (help) return 0;
    throw new UsageError(
      `WHAT: ${bench ?? "missing"}; allowed: ${Object.keys(BENCHES).join(", ")}`,
    );
  }
  const report = await run(options);
  printReport(report);
  if (options.json !== null) writeReport(options.json, report);
  return 0;
}

try {
  process.exitCode = await main();
} catch (error) {
  if (error instanceof UsageError) console.error(error.message);
  else console.error(error);
  process.exitCode = error instanceof UsageError ? 2 : 1;
}
