import { assert } from "../lib/assert.ts";
import { LOG_START } from "../protocol/entry.ts";
import type { LogPosition, Offset, Term } from "../protocol/entry.ts";

/** Entries there is room for at least: no room at all would stay none however often doubled. */
const ROOM_MIN = 1024;

/** First entry of a run of entries of one term. */
export interface TermStart {
  readonly term: Term;
  readonly offset: Offset;
}

/**
 * What the core knows of the log without its bytes: the chained CRC of every entry and where each
 * term starts. Four bytes an entry.
 *
 * Invariants: entries are contiguous from `base.offset + 1` to `last.offset`; terms never regress;
 * the term runs begin after `base`.
 */
export class LogIndex {
  /**
   * The position before the first entry: the log's start, a snapshot's base (R5), or where it was
   * trimmed.
   */
  #base: LogPosition;
  #last: LogPosition;
  #crcs: Uint32Array;
  #count = 0;
  #runs: TermStart[];

  constructor(
    base: LogPosition = LOG_START,
    crcs: Uint32Array = new Uint32Array(0),
    runs: readonly TermStart[] = [],
  ) {
    this.#base = base;
    this.#count = crcs.length;
    this.#crcs = new Uint32Array(Math.max(ROOM_MIN, crcs.length * 2));
    this.#crcs.set(crcs);
    this.#runs = [...runs];
    this.#last = base;
    if (this.#count > 0) this.#last = this.#at(base.offset + this.#count);
  }

  get base(): LogPosition {
    return this.#base;
  }

  /** Head of the log: the last entry, or the base when there is none (R5). */
  get last(): LogPosition {
    return this.#last;
  }

  append(position: LogPosition): void {
    assert(position.offset === this.#last.offset + 1, "log index: entries must be contiguous");
    assert(position.term >= this.#last.term, "log index: terms must not regress");
    if (this.#count === this.#crcs.length) {
      const grown = new Uint32Array(this.#crcs.length * 2);
      grown.set(this.#crcs);
      this.#crcs = grown;
    }
    this.#crcs[this.#count++] = position.crc;
    if (position.term !== this.#last.term || this.#runs.length === 0) {
      this.#runs.push({ term: position.term, offset: position.offset });
    }
    this.#last = position;
  }

  /** Drops everything after `lastOffset`. */
  truncate(lastOffset: Offset): void {
    assert(lastOffset >= this.#base.offset, "log index: cannot cut below the base");
    if (lastOffset >= this.#last.offset) return;
    this.#count = lastOffset - this.#base.offset;
    while ((this.#runs.at(-1)?.offset ?? -1) > lastOffset) this.#runs.pop();
    this.#last = this.#count === 0 ? this.#base : this.#at(lastOffset);
  }

  /** Forgets entries up to and including `offset`, which were trimmed from the log. */
  trim(offset: Offset): void {
    if (offset <= this.#base.offset) return;
    const base = this.positionAt(offset);
    assert(base !== null, "log index: trim within the log only");
    const dropped = offset - this.#base.offset;
    const kept = this.#crcs.subarray(dropped, this.#count);
    this.#crcs = new Uint32Array(Math.max(ROOM_MIN, kept.length));
    this.#crcs.set(kept);
    this.#count = kept.length;
    this.#base = base;
    const runs = this.#runs.filter((run) => run.offset > offset);
    if (this.#count > 0 && runs[0]?.offset !== offset + 1) {
      runs.unshift({ term: this.#runTerm(offset + 1), offset: offset + 1 });
    }
    this.#runs = runs;
  }

  /** Empties the log: it starts after `base` from now on (a snapshot was installed, R5). */
  reset(base: LogPosition): void {
    this.#base = base;
    this.#last = base;
    this.#count = 0;
    this.#runs = [];
  }

  /** The position of an entry or of the base; null when the log does not know it. */
  positionAt(offset: Offset): LogPosition | null {
    if (offset === this.#base.offset) return this.#base;
    if (offset < this.#base.offset || offset > this.#last.offset) return null;
    return this.#at(offset);
  }

  /** True when the log holds exactly this position, hence the same history up to it (I3). */
  contains(position: LogPosition): boolean {
    const own = this.positionAt(position.offset);
    return own !== null && own.term === position.term && own.crc === position.crc;
  }

  /**
   * The highest position with a term of at most `term` and an offset of at most `offset`, not below
   * the base (R9).
   */
  highestAtMost(term: Term, offset: Offset): LogPosition {
    let upper = Math.min(offset, this.#last.offset);
    for (let i = this.#runs.length - 1; i >= 0 && upper > this.#base.offset; i--) {
      const run = this.#runs[i];
      if (run === undefined || run.offset > upper) continue;
      if (run.term <= term) return this.#at(upper);
      upper = run.offset - 1;
    }
    return this.#base;
  }

  #at(offset: Offset): LogPosition {
    const crc = this.#crcs[offset - this.#base.offset - 1];
    assert(crc !== undefined, "log index: offset out of range");
    return { term: this.#runTerm(offset), offset, crc };
  }

  #runTerm(offset: Offset): Term {
    let low = 0;
    let high = this.#runs.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if ((this.#runs[middle]?.offset ?? 0) <= offset) low = middle;
      else high = middle - 1;
    }
    const run = this.#runs[low];
    assert(run !== undefined && run.offset <= offset, "log index: no term run for the offset");
    return run.term;
  }
}
