import { parseArgs } from "node:util";

/** What a scale run can be told. */
export interface ScaleOptions {
  /** Numbers of stores, growing: each run goes on where the last one ended. */
  readonly stores: readonly number[];
  /** Pods whose claims are replaced, at each number of stores. */
  readonly replacements: number;
  /** Seconds for which nothing happens, at each number of stores. */
  readonly idleSeconds: number;
  readonly json: string | null;
}

/** The arguments made no sense; the message says which. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** Fake nodes take 110 pods each; more stores than this were never tried. */
const STORES_MAX = 2_000;

export const HELP = `npm run test:scale -- [options]

  The operator with very many stores: the real API server and its controllers, fake nodes and pods
  (kwok), fake sidecars. KUBECONFIG names the cluster; without it one is brought up for the run.

  --stores N,N,N        numbers of stores, growing (100,300,1000)
  --replacements N      claims replaced at each number of stores (50)
  --idle-seconds N      time without any change at each number of stores (30)
  --json FILE           the report for machines
`;

/** Reads the command line; null: it asks for help. Throws UsageError. */
export function parseOptions(args: readonly string[]): ScaleOptions | null {
  const { values } = parse(args);
  if (values.help) return null;
  const stores = values.stores.split(",").map((part) => count("--stores", part, STORES_MAX));
  if (stores.some((number, at) => number <= (stores[at - 1] ?? 0))) {
    throw new UsageError(`--stores: ${values.stores}; allowed: numbers that grow, like 100,300`);
  }
  return {
    stores,
    replacements: count("--replacements", values.replacements, 1_000),
    idleSeconds: count("--idle-seconds", values["idle-seconds"], 3_600),
    json: values.json ?? null,
  };
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        stores: { type: "string", default: "100,300,1000" },
        replacements: { type: "string", default: "50" },
        "idle-seconds": { type: "string", default: "30" },
        json: { type: "string" },
        help: { type: "boolean", default: false },
      },
    });
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

function count(option: string, text: string, max: number): number {
  const value = Number(text);
  if (/^[1-9]\d*$/u.test(text) && value <= max) return value;
  throw new UsageError(`${option}: ${text}; allowed: 1 to ${max}`);
}
