import { LIMITS } from "../limits.ts";
import type { Engine, SnapshotWriter } from "./engine.ts";
import { keyBytes, RECORDS_FROM } from "./key-order.ts";
import { verifyRecord } from "./record.ts";
import { PairFramer, PairParser } from "./record-stream.ts";

const firstRecord = keyBytes(RECORDS_FROM);

/**
 * Sorted pairs as chunks of exactly `chunkBytes` but the last. Leaving early releases the view
 * behind `pairs`.
 */
export async function* frameRecords(
  pairs: IterableIterator<[Uint8Array, Uint8Array]>,
  chunkBytes: number,
): AsyncGenerator<Uint8Array> {
  const framer = new PairFramer(chunkBytes);
  try {
    for (const [key, value] of pairs) yield* framer.add(key, value);
    yield* framer.end();
  } finally {
    pairs.return?.();
  }
}

/** Loads a RECORDS stream into a new engine, in slices, checking every record on the way. */
export class RecordWriter implements SnapshotWriter {
  readonly #engine: Engine;
  readonly #parser = new PairParser();
  #puts: [Uint8Array, Uint8Array][] = [];
  #bytes = 0;

  constructor(engine: Engine) {
    this.#engine = engine;
  }

  async append(bytes: Uint8Array): Promise<void> {
    for (const [key, value] of this.#parser.push(bytes)) {
      if (value === null) continue;
      if (firstRecord.compare(key) <= 0) verifyRecord(key, value);
      this.#puts.push([key, value]);
      this.#bytes += value.byteLength;
      const full = this.#bytes >= LIMITS.checkpointSliceBytes;
      if (full || this.#puts.length >= LIMITS.checkpointSliceKeys) await this.#write();
    }
    // The views in a slice end with the call: the caller's buffer is its own again.
    if (this.#puts.length > 0) await this.#write();
  }

  async #write(): Promise<void> {
    const puts = this.#puts;
    this.#puts = [];
    this.#bytes = 0;
    await this.#engine.write({ puts, deletes: [] });
  }

  sync(): Promise<void> {
    return this.#engine.flushed();
  }

  async finish(): Promise<void> {
    this.#parser.end();
    await this.#engine.flushed();
    await this.#engine.close();
  }

  async abort(): Promise<void> {
    await this.#engine.close();
  }
}
