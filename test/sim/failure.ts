import type { Fault, SimOptions } from "./options.ts";
import { type SimResult, simulate } from "./simulation.ts";

const NEWEST_LINES = 60;
/** Tries of a shrinker; each is a run. */
const TRIES_MAX = 60;

/** What a person needs to see and repeat a failure; empty when there is none. */
export function describeFailure(result: SimResult, force: Partial<SimOptions> = {}): string {
  const { violation, seed, options, newestLines } = result;
  if (violation === null) return "";
  return [
    ...newestLines.slice(-NEWEST_LINES),
    `options ${JSON.stringify(options)}`,
    `seed ${seed}: ${violation.invariant}: ${violation.message}`,
    `repeat with: ${command(seed, force)} --trace trace.txt`,
  ].join("\n");
}

function command(seed: number, force: Partial<SimOptions>): string {
  const options = Object.keys(force).length === 0 ? "" : ` --options '${JSON.stringify(force)}'`;
  return `npm run sim -- --seed ${seed} --seeds 1${options}`;
}

/**
 * A smaller run that breaks the same invariant: fewer kinds of faults, for a shorter time, with
 * less around them. Null when none was found.
 */
export async function shrink(result: SimResult): Promise<string | null> {
  const { violation, seed, options } = result;
  if (violation === null) return null;
  let kept: Partial<SimOptions> = {};
  let tries = 0;
  const fails = async (force: Partial<SimOptions>): Promise<boolean> => {
    tries += 1;
    const again = await simulate({ seed, force });
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
  return Object.keys(kept).length === 0 ? null : `smaller: ${command(seed, kept)}`;
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
  if (options.finalPowerLoss) yield { finalPowerLoss: false };
  for (const fault of faults) {
    const fewer = faults.filter((other: Fault) => other !== fault);
    if (fewer.length > 0) yield { faults: fewer };
  }
  if (safetyMs > 500) yield { safetyMs: Math.floor(safetyMs / 2) };
  if (warmupWrites > 0) yield { warmupWrites: 0 };
  if (spares > 0) yield { spares: 0 };
  if (clients > 1) yield { clients: 1 };
  if (options.nodes > 3) yield { nodes: 3 };
}
