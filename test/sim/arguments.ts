import { availableParallelism } from "node:os";
import { ALL_FAULTS, type Fault, KUBE_FAULTS, type SimOptions } from "./options.ts";

/** What `npm run sim -- --help` prints. */
export const USAGE = `npm run sim -- [options]
  --seed N          first seed (default: from the time of day)
  --seeds K         how many seeds, from the first one on (default 100)
  --minutes M       go on for so long instead
  --until-failure   end with the first seed that fails; alone: go on until one does
  --jobs J          processes to run them in (default: one a core)
  --faults A,B      only these kinds of faults: ${ALL_FAULTS.join(", ")};
                    and in runs whose options have a kube: ${KUBE_FAULTS.join(", ")}
  --options JSON    replaces some of what a seed draws; see --print-options
  --print-options   print what each seed draws, and do not run it
  --trace FILE      write every event of the first seed there
Every failure prints the newest events, the options, a smaller run that fails alike if there is one,
and the command that repeats it. The exit status is 0 when all seeds passed, 1 when one failed, 2 for
a wrong option.
`;

/** What a run of the simulator was asked for. */
export interface SimArguments {
  readonly seed: number;
  /** Infinity: until something else ends it. */
  readonly seeds: number;
  readonly minutes: number;
  readonly untilFailure: boolean;
  readonly jobs: number;
  readonly force: Partial<SimOptions>;
  readonly printOptions: boolean;
  readonly trace: string | null;
  readonly help: boolean;
}

/** An option that is not known, or a value that is not allowed. The message names both. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** Parses the command line. Throws {@link UsageError}. */
export function parseArguments(argv: readonly string[], nowMs: number): SimArguments {
  const rest = [...argv];
  const given = new Map<string, string>();
  const flags = new Set<string>();
  const valued = ["--seed", "--seeds", "--minutes", "--jobs", "--faults", "--options", "--trace"];
  for (let name = rest.shift(); name !== undefined; name = rest.shift()) {
    if (["--until-failure", "--print-options", "--help"].includes(name)) flags.add(name);
    else if (!valued.includes(name)) throw new UsageError(`${name}: unknown option`);
    else {
      const value = rest.shift();
      if (value === undefined) throw new UsageError(`${name}: a value is missing`);
      given.set(name, value);
    }
  }
  const untilFailure = flags.has("--until-failure");
  const minutes = positive(given, "--minutes") ?? Number.POSITIVE_INFINITY;
  const endless = untilFailure || given.has("--minutes");
  return {
    seed: whole(given, "--seed", 0) ?? nowMs % 2 ** 31,
    seeds: whole(given, "--seeds", 1) ?? (endless ? Number.POSITIVE_INFINITY : 100),
    minutes,
    untilFailure,
    jobs: whole(given, "--jobs", 1) ?? availableParallelism(),
    force: { ...options(given.get("--options")), ...faults(given.get("--faults")) },
    printOptions: flags.has("--print-options"),
    trace: given.get("--trace") ?? null,
    help: flags.has("--help"),
  };
}

function whole(given: ReadonlyMap<string, string>, name: string, min: number): number | null {
  const text = given.get(name);
  if (text === undefined) return null;
  const value = Number(text);
  if (/^\d+$/u.test(text) && Number.isSafeInteger(value) && value >= min) return value;
  throw new UsageError(`${name}: ${text}: allowed: a whole number from ${min}`);
}

function positive(given: ReadonlyMap<string, string>, name: string): number | null {
  const text = given.get(name);
  if (text === undefined) return null;
  const value = Number(text);
  if (value > 0 && Number.isFinite(value)) return value;
  throw new UsageError(`${name}: ${text}: allowed: a number above 0`);
}

function faults(text: string | undefined): Partial<SimOptions> {
  if (text === undefined) return {};
  const known: readonly string[] = [...ALL_FAULTS, ...KUBE_FAULTS];
  const names = text.split(",");
  const unknown = names.find((name) => !known.includes(name));
  if (unknown === undefined) return { faults: names as Fault[] };
  throw new UsageError(`--faults: ${unknown}: allowed: ${known.join(", ")}`);
}

function options(text: string | undefined): Partial<SimOptions> {
  if (text === undefined) return {};
  try {
    return JSON.parse(text) as Partial<SimOptions>;
  } catch (error) {
    throw new UsageError(`--options: ${text}: not JSON: ${(error as Error).message}`);
  }
}
