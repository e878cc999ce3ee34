import type { StoreClient } from "../../sidecar-client/store-client.ts";
import type { Ledger } from "./ledger.ts";

/** What a read-back found. */
export interface ReadBack {
  readonly read: number;
  readonly lost: number;
  /** Some of the lost keys, for people. */
  readonly examples: readonly string[];
}

const CONCURRENCY = 64;
const EXAMPLES_MAX = 10;

/**
 * Reads every record that the ledger knows and compares it. Throws when the store cannot be read.
 */
export async function readBack(
  client: StoreClient,
  ledger: Ledger,
  progress: (read: number) => void,
): Promise<ReadBack> {
  const keys = ledger.keys();
  const examples: string[] = [];
  let read = 0;
  let lost = 0;
  const work = async () => {
    for (const key of keys) {
      const record = await client.get(key);
      read += 1;
      if (ledger.check(key, record?.value ?? null) === "lost") {
        lost += 1;
        if (examples.length < EXAMPLES_MAX) examples.push(key);
      }
      if (read % 100 === 0) progress(read);
    }
  };
  // All workers draw from one iterator, so each key is read once.
  await Promise.all(Array.from({ length: CONCURRENCY }, work));
  return { read, lost, examples };
}
