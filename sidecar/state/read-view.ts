import { assert } from "../lib/assert.ts";
import { LIMITS } from "../limits.ts";
import { ProtocolError } from "../protocol/errors.ts";
import type { Engine } from "./engine.ts";
import { type EncodedKey, keyBytes, keyOfBytes, type KeyRange } from "./key-order.ts";
import type { MemoryTable } from "./memory-table.ts";
import { type KeyCursor, MergeCursor, RunCursor } from "./merge.ts";
import { verifyRecord } from "./record.ts";

/** The refusal of a read that was not over in time. */
export function tooLongRead(): ProtocolError {
  const allowed = `at most ${LIMITS.readViewMsMax} ms`;
  const message = `this read took too long; allowed: ${allowed}; start it again`;
  return new ProtocolError("RESOURCE_UNAVAILABLE", message, { field: "read time", allowed });
}

/** What a view is taken of. */
export interface ViewSource {
  /** Writes after this offset are not seen. */
  readonly offset: number;
  /** Newest first. */
  readonly tables: readonly MemoryTable[];
  readonly engine: Engine;
}

/** The engine's keys in a range. */
class EngineCursor implements KeyCursor {
  readonly #pairs: IterableIterator<[Uint8Array, Uint8Array]>;
  #key: EncodedKey | undefined;
  #pair: [Uint8Array, Uint8Array] | undefined;

  constructor(pairs: IterableIterator<[Uint8Array, Uint8Array]>) {
    this.#pairs = pairs;
    this.advance();
  }

  current(): EncodedKey | undefined {
    return this.#key;
  }

  /** The pair of the current key. */
  get pair(): [Uint8Array, Uint8Array] | undefined {
    return this.#pair;
  }

  advance(): void {
    const next = this.#pairs.next();
    this.#pair = next.done === true ? undefined : next.value;
    this.#key = this.#pair === undefined ? undefined : keyOfBytes(this.#pair[0]);
  }

  close(): void {
    this.#pairs.return?.();
  }
}

/** One record of a view. `record` checks the checksum of what comes from the engine. */
export interface ViewItem {
  readonly key: EncodedKey;
  record(): Uint8Array;
}

/**
 * The records of a range as of one applied offset, whatever is applied or checkpointed afterwards:
 * table entries keep what they replace while a view is open, and the engine's part is one read
 * view. A view holds old engine pages and replaced entries, so it must be closed.
 */
export class ReadView {
  readonly #source: ViewSource;
  readonly #engine: EngineCursor;
  readonly #merged: MergeCursor;
  readonly #closed: (view: ReadView) => void;
  #open = true;
  /** What whoever reads on is told after it was closed. */
  #why: ProtocolError | null = null;

  constructor(
    source: ViewSource,
    range: KeyRange,
    reverse: boolean,
    closed: (view: ReadView) => void,
  ) {
    this.#source = source;
    this.#closed = closed;
    const { from, to } = range;
    this.#engine = new EngineCursor(source.engine.range(keyBytes(from), keyBytes(to), reverse));
    const cursors: KeyCursor[] = [this.#engine];
    for (const table of source.tables) {
      for (const run of table.runs()) cursors.push(new RunCursor(run, from, to, reverse));
    }
    this.#merged = new MergeCursor(cursors, reverse);
  }

  /**
   * The next record, undefined at the end. Throws RESOURCE_UNAVAILABLE when the view was closed
   * under its reader.
   */
  next(): ViewItem | undefined {
    if (this.#why !== null) throw this.#why;
    assert(this.#open, "read of a view after its end");
    for (let key = this.#merged.current(); key !== undefined; key = this.#merged.current()) {
      const item = this.#itemOf(key);
      this.#merged.advance();
      if (item !== undefined) return item;
    }
    return undefined;
  }

  #itemOf(key: EncodedKey): ViewItem | undefined {
    for (const table of this.#source.tables) {
      const entry = table.getAt(key, this.#source.offset);
      if (entry === undefined) continue;
      const found = entry.record;
      return found === null ? undefined : { key, record: () => found };
    }
    const pair = this.#engine.current() === key ? this.#engine.pair : undefined;
    if (pair === undefined) return undefined;
    return {
      key,
      record: () => {
        verifyRecord(pair[0], pair[1]);
        return pair[1];
      },
    };
  }

  /** Releases the view, with `why` under its reader; may be called twice. */
  close(why: ProtocolError | null = null): void {
    if (!this.#open) return;
    this.#open = false;
    this.#why = why;
    this.#engine.close();
    this.#closed(this);
  }
}
