import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { Fault, SimOptions } from "./options.ts";
import { type SimResult, simulate } from "./simulation.ts";

/** Newest lines of each process that are shown. */
const NEWEST_LINES = 25;
/** Tries of a shrinker; each is a run. */
const TRIES_MAX = 60;

/** The commit whose sources these are, with a mark when they were changed since. */
function presentCommit(): string {
  const cwd = fileURLToPath(new URL(".", import.meta.url));
  try {
    const asked = ["describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=, and changes"];
    const stdio = ["ignore", "pipe", "ignore"] as const;
    return execFileSync("git", asked, { cwd, encoding: "utf8", stdio: [...stdio] }).trim();
  } catch {
    return "unknown: no repository";
  }
}

/** What a person needs to see and repeat a failure; empty when there is none. */
export function describeFailure(result: SimResult, force: Partial<SimOptions> = {}): string {
  const { violations, seed, options, newestLines } = result;
  if (violations.length === 0) return "";
  return [
    ...byProcess(newestLines),
    `options ${JSON.stringify(options)}`,
    `commit ${presentCommit()}`,
    ...violations.map(({ invariant, message }) => `seed ${seed}: ${invariant}: ${message}`),
    `repeat with: ${command(seed, force)} --trace trace.txt`,
  ].join("\n");
}

/**
 * The newest lines of each process together, whichever was heard of last at the end. Each line is
 * "time who what".
 */
export function byProcess(lines: readonly string[], linesMax = NEWEST_LINES): readonly string[] {
  const own = new Map<string, string[]>();
  for (const line of lines) {
    const who = line.split(" ", 2)[1] ?? "";
    const before = own.get(who) ?? [];
    own.delete(who);
    own.set(who, [...before, line]);
  }
  return [...own].flatMap(([who, said]) => [`newest of ${who}:`, ...said.slice(-linesMax)]);
}

function command(seed: number, force: Partial<SimOptions>): string {
  const options = Object.keys(force).length === 0 ? "" : ` --options '${JSON.stringify(force)}'`;
  return `npm run sim -- --seed ${seed} --seeds 1${options}`;
}

/** Runs the seed of a failure again, with some of its options replaced. */
export type Rerun = (seed: number, force: Partial<SimOptions>) => Promise<SimResult>;

/**
 * A smaller run that breaks the same invariant: fewer kinds of faults, for a shorter time, with
 * less around them, beyond what `force` replaced already. Null when none was found.
 */
export async function shrink(
  result: SimResult,
  force: Partial<SimOptions> = {},
  rerun: Rerun = (seed, changed) => simulate({ seed, force: changed }),
): Promise<string | null> {
  const kept = await smallerOptions(result, force, rerun);
  return kept === null ? null : `smaller: ${command(result.seed, kept)}`;
}

async function smallerOptions(
  { violation, seed, options }: SimResult,
  force: Partial<SimOptions>,
  rerun: Rerun,
): Promise<Partial<SimOptions> | null> {
  if (violation === null) return null;
  let kept = force;
  let tries = 0;
  const fails = async (changed: Partial<SimOptions>): Promise<boolean> => {
    tries += 1;
    const again = await rerun(seed, changed);
    return again.violation?.invariant === violation.invariant;
  };
  for (let shrunk = true; shrunk && tries < TRIES_MAX; ) {
    shrunk = false;
    for (const smaller of candidates({ ...options, ...kept })) {
      if (tries >= TRIES_MAX || !(await fails({ ...kept, ...smaller }))) continue;
      kept = { ...kept, ...smaller };
      shrunk = true;
      break;
    }
  }
  return kept === force ? null : kept;
}

function* candidates(options: SimOptions): Generator<Partial<SimOptions>> {
  const { faults, safetyMs, clients, spares, warmupWrites, quiet, lasting, kube } = options;
  if (kube !== null) yield { kube: null };
  if (lasting !== null) yield { lasting: null };
  if (quiet !== null) {
    yield { quiet: null };
    if (quiet.ms > 2_000) yield { quiet: { ...quiet, ms: Math.floor(quiet.ms / 2) } };
  }
  if (options.finalWipe) yield { finalWipe: false };
  if (options.finalRollback) yield { finalRollback: false };
  if (options.finalPowerLoss) yield { finalPowerLoss: false };
  for (const fault of faults) {
    const fewer = faults.filter((other: Fault) => other !== fault);
    if (fewer.length > 0) yield { faults: fewer };
  }
  if (safetyMs > 500) yield { safetyMs: Math.floor(safetyMs / 2) };
  const shards = options.namespaces.reduce((sum, count) => sum + count, 0);
  if (shards > 1) yield { namespaces: [1] };
  if (shards > 2) yield { namespaces: [2] };
  if (options.sliceKeys > 0) yield { sliceKeys: 0 };
  if (warmupWrites > 0) yield { warmupWrites: 0 };
  if (spares > 0) yield { spares: 0 };
  if (clients > 1) yield { clients: 1 };
  if (options.nodes > 3) yield { nodes: 3 };
}
