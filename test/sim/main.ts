/** `npm run sim -- --seed N --seeds K --until-failure --trace FILE`: see USAGE. */
import { createWriteStream } from "node:fs";
import type { Fault } from "./options.ts";
import { type SimResult, simulate } from "./simulation.ts";

const USAGE = `npm run sim -- [options]
  --seed N          first seed (default: from the time of day)
  --seeds K         how many seeds, one after the other (default 100)
  --until-failure   go on until a seed fails
  --trace FILE      write every event of the (first) seed there
Every failure prints the newest events and the command that repeats it.
`;

interface Arguments {
  readonly seed: number;
  readonly seeds: number;
  readonly untilFailure: boolean;
  readonly trace: string | null;
}

function usage(message: string): never {
  process.stderr.write(`${message}\n${USAGE}`);
  process.exit(2);
}

function parseArguments(argv: readonly string[]): Arguments {
  const number = (name: string, text: string | undefined): number => {
    const value = Number(text);
    if (text !== undefined && Number.isSafeInteger(value) && value >= 0) return value;
    return usage(`${name}: ${text ?? "missing"}: allowed: a whole number from 0`);
  };
  let parsed: Arguments = {
    seed: Date.now() % 2 ** 31,
    seeds: 100,
    untilFailure: false,
    trace: null,
  };
  for (let at = 0; at < argv.length; at += 1) {
    const name = argv[at];
    if (name === "--help") usage("");
    else if (name === "--until-failure") parsed = { ...parsed, untilFailure: true };
    else if (name === "--seed") parsed = { ...parsed, seed: number(name, argv[++at]) };
    else if (name === "--seeds") parsed = { ...parsed, seeds: number(name, argv[++at]) };
    else if (name === "--trace")
      parsed = { ...parsed, trace: argv[++at] ?? usage("--trace: missing") };
    else usage(`${name}: unknown option`);
  }
  return parsed;
}

function tell(result: SimResult): void {
  const { violation, seed, options } = result;
  if (violation === null) return;
  const lines = [
    ...result.newestLines,
    `options ${JSON.stringify(options)}`,
    `seed ${seed}: ${violation.invariant}: ${violation.message}`,
    `repeat with: npm run sim -- --seed ${seed} --seeds 1 --trace trace.txt`,
  ];
  process.stdout.write(`${lines.join("\n")}\n`);
}

const arguments_ = parseArguments(process.argv.slice(2));
const clockMs = (): number => performance.now();
const beganMs = clockMs();
const faults = new Map<Fault, number>();
const failed: number[] = [];
let ran = 0;
let simulatedMs = 0;
let wipes = 0;
let acknowledged = 0;
let slowestMs = 0;
let slowestSeed = 0;

const file = arguments_.trace === null ? null : createWriteStream(arguments_.trace);
process.stdout.write(`first seed ${arguments_.seed}\n`);
for (let i = 0; arguments_.untilFailure || i < arguments_.seeds; i += 1) {
  const seed = arguments_.seed + i;
  const tracing =
    file !== null && i === 0 ? { sink: (line: string) => file.write(`${line}\n`) } : {};
  const result = await simulate({ seed, ...tracing });
  ran += 1;
  simulatedMs += result.simulatedMs;
  acknowledged += result.counts.acknowledged;
  if (result.recoveryMs > slowestMs) {
    slowestMs = result.recoveryMs;
    slowestSeed = seed;
  }
  for (const [fault, count] of result.faults) faults.set(fault, (faults.get(fault) ?? 0) + count);
  tell(result);
  if (arguments_.seeds === 1) process.stdout.write(`trace hash ${result.traceHash}\n`);
  if (result.violation === null) wipes += result.wipes;
  else failed.push(seed);
  if (result.violation !== null && arguments_.untilFailure) break;
}
file?.end();
const realMs = clockMs() - beganMs;
const kinds = [...faults]
  .map(([fault, count]) => `${fault} ${count}`)
  .toSorted((a, b) => {
    return a < b ? -1 : 1;
  });
process.stdout.write(
  `${ran} seeds, ${failed.length} failed${failed.length === 0 ? "" : ` (${failed.join(", ")})`}, ` +
    `${(simulatedMs / 1000).toFixed(0)} s simulated, ${(simulatedMs / realMs).toFixed(0)} times real ` +
    `time, ${acknowledged} writes acknowledged, ${wipes} wipes survived, slowest recovery ` +
    `${slowestMs.toFixed(0)} ms (seed ${slowestSeed}), faults: ${kinds.join(", ")}\n`,
);
process.exitCode = failed.length === 0 ? 0 : 1;
