import { crcOf } from "../lib/crc.ts";
import type { Clock } from "../lib/ports/clock.ts";
import { keyBytes } from "./key-order.ts";
import type { ReadView } from "./read-view.ts";

/** Records between two turns of the event loop. */
const RECORDS_PER_TURN = 1_000;

/**
 * The checksum, as eight hexadecimal digits, and the number of all records of `view`, which it
 * closes. `counters` count too. Rejects with the signal's reason when it aborts.
 */
export async function checksumOf(
  view: ReadView,
  counters: readonly number[],
  clock: Clock,
  signal: AbortSignal,
): Promise<{ readonly checksum: string; readonly records: number }> {
  const head = Buffer.alloc(counters.length * 8);
  for (const [index, counter] of counters.entries()) head.writeDoubleBE(counter, index * 8);
  let crc = crcOf(head);
  let records = 0;
  try {
    for (let item = view.next(); item !== undefined; item = view.next()) {
      // Without the record's own checksum: it is filled in on the way to the disk.
      crc = crcOf(item.record().subarray(4), crcOf(keyBytes(item.key), crc));
      records += 1;
      if (records % RECORDS_PER_TURN === 0) {
        await clock.yield();
        signal.throwIfAborted();
      }
    }
  } finally {
    view.close();
  }
  return { checksum: crc.toString(16).padStart(8, "0"), records };
}
