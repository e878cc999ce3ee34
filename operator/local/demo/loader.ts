import type { StoreClient } from "../../sidecar-client/store-client.ts";
import type { InputRecord } from "./input.ts";
import type { Ledger } from "./ledger.ts";

/** Bytes sent and not acknowledged. */
const IN_FLIGHT_BYTES_MAX = 4 * 1024 * 1024;

/**
 * Writes all records and notes each acknowledgement. Throws the first failure, after the rest has
 * ended.
 */
export async function loadRecords(
  records: AsyncIterable<InputRecord>,
  client: StoreClient,
  ledger: Ledger,
  progress: (bytes: number) => void,
  signal: AbortSignal,
): Promise<void> {
  const outstanding = new Set<Promise<void>>();
  let inFlightBytes = 0;
  let failure: unknown = null;
  for await (const { key, value } of records) {
    signal.throwIfAborted();
    inFlightBytes += value.length;
    const task: Promise<void> = client
      .put(key, value)
      .then(() => {
        ledger.acknowledge(key, value);
        progress(ledger.bytes);
      })
      .catch((error: unknown) => {
        failure ??= error;
      })
      .finally(() => {
        inFlightBytes -= value.length;
        outstanding.delete(task);
      });
    outstanding.add(task);
    while (inFlightBytes >= IN_FLIGHT_BYTES_MAX || outstanding.size >= 10_000) {
      await Promise.race(outstanding);
    }
    if (failure !== null) break;
  }
  await Promise.all(outstanding);
  if (failure !== null) throw failure;
}
