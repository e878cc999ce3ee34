/** `npm run torture`: see USAGE. */
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { isSound, Torture, type TortureResult } from "./torture.ts";

const USAGE = `npm run torture -- [options]
  --minutes M    how long (default 5)
  --seed N       which faults, and when (default: from the time of day)
  --replicas N   3 (default) or 5
  --clients N    clients that read and write meanwhile (default 6)
  --json FILE    write the result there
A real store on this machine: sidecars and the coordinator's process are killed (SIGKILL), sidecars
ended in order and stopped, disks emptied and damaged, connections cut, frozen and slowed. Every
request is kept; in the end their history has to be linearizable. The exit status is 0 when it is,
nothing is lost or stale, and everything votes again; 2 for a wrong option.
`;

function whole(text: string | undefined, name: string, otherwise: number): number {
  const value = text === undefined ? otherwise : Number(text);
  if (Number.isSafeInteger(value) && value > 0) return value;
  throw new TypeError(`${name}: ${text}: allowed: a whole number from 1`);
}

function closingLine(result: TortureResult, seed: number): string {
  const { verdict, anomalies, operations, acknowledged, faults } = result;
  const counts = [
    `${operations} operations`,
    `${acknowledged} writes acknowledged`,
    `lost ${anomalies.lost}`,
    `stale reads ${anomalies.staleReads}`,
    `history: ${verdict.kind}`,
    `wipes ${faults.wipe}`,
    `corruptions ${faults.corrupt}`,
    `kills ${faults.kill}`,
    `restarts ${faults.restart}`,
    `pauses ${faults.pause}`,
    `cuts ${faults.cut}`,
    `freezes ${faults.freeze}`,
    `slow links ${faults.slow}`,
    `coordinator kills ${faults.coordinatorKill}`,
    `recoveries ${result.recoveries}`,
    `seed ${seed}`,
  ];
  return `torture: ${counts.join(", ")}\n`;
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      minutes: { type: "string", default: "5" },
      seed: { type: "string" },
      replicas: { type: "string" },
      clients: { type: "string" },
      json: { type: "string" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    process.stdout.write(USAGE);
    return 0;
  }
  const minutes = Number(values.minutes);
  if (!(minutes > 0))
    throw new TypeError(`--minutes: ${values.minutes}: allowed: a number above 0`);
  const seed = whole(values.seed, "--seed", (Date.now() % 2 ** 31) + 1);
  const abort = new AbortController();
  process.once("SIGINT", () => abort.abort());
  const beganMs = performance.now();
  process.stdout.write(`seed ${seed}\n`);
  const result = await Torture.run(
    {
      seed,
      seconds: minutes * 60,
      replicas: whole(values.replicas, "--replicas", 3),
      clients: whole(values.clients, "--clients", 6),
      told: (what) => {
        process.stdout.write(`${((performance.now() - beganMs) / 1_000).toFixed(1)} s: ${what}\n`);
      },
    },
    abort.signal,
  );
  if (values.json !== undefined) {
    writeFileSync(values.json, `${JSON.stringify({ seed, ...result }, null, 2)}\n`);
  }
  for (const example of result.anomalies.examples) process.stdout.write(`${example}\n`);
  if (result.verdict.witness !== "") process.stdout.write(`${result.verdict.witness}\n`);
  process.stdout.write(closingLine(result, seed));
  return isSound(result) ? 0 : 1;
}

try {
  process.exitCode = await main();
} catch (error) {
  if (!(error instanceof TypeError)) throw error;
  process.stderr.write(`${error.message}\n${USAGE}`);
  process.exitCode = 2;
}
