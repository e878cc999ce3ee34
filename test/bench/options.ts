import { parseArgs } from "node:util";

/** What every benchmark can be told. */
export interface BenchOptions {
  readonly runs: number;
  /** Measured seconds of each load. */
  readonly seconds: number;
  /** Keys in the store before anything is measured. */
  readonly keys: number;
  /** Data of the recovery, as the demonstration takes it: 128MiB, 1GiB. */
  readonly size: string;
  /** Where CPU profiles of the leader go; null: none are taken. */
  readonly profile: string | null;
  readonly json: string | null;
  /** Measure the other stores too, where they are installed. */
  readonly peers: boolean;
}

/** The arguments made no sense; the message says which. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** Reads the command line. Throws UsageError. */
export function parseOptions(args: readonly string[]): {
  readonly bench: string | undefined;
  readonly help: boolean;
  readonly options: BenchOptions;
} {
  const { values, positionals } = parse(args);
  if (positionals.length > 1)
    throw new UsageError(`one benchmark at a time: ${positionals.join(" ")}`);
  return {
    bench: positionals[0],
    help: values.help,
    options: {
      runs: count("--runs", values.runs, 1, 100),
      seconds: count("--seconds", values.seconds, 1, 600),
      keys: count("--keys", values.keys, 1, 10_000_000),
      size: values.size,
      profile: values.profile ?? null,
      json: values.json ?? null,
      peers: !values["no-peers"],
    },
  };
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        runs: { type: "string", default: "3" },
        seconds: { type: "string", default: "5" },
        keys: { type: "string", default: "100000" },
        size: { type: "string", default: "128MiB" },
        profile: { type: "string" },
        json: { type: "string" },
        "no-peers": { type: "boolean", default: false },
        help: { type: "boolean", short: "h", default: false },
      },
    });
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error), { cause: error });
  }
}

function count(name: string, text: string, min: number, max: number): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= min && value <= max) return value;
  throw new UsageError(`${name}: ${text}; allowed: whole numbers from ${min} to ${max}`);
}
