import { LOG_START, type LogPosition, samePosition } from "../../sidecar/protocol/entry.ts";
import { LogEntryValue, type Append } from "../../sidecar/protocol/gen/resilver.ts";
import { contentOf } from "../../sidecar/protocol/log-entry-value.ts";

/** What opens a term (R7). */
const BARRIER = LogEntryValue.encode({
  value: {
    $case: "controlRequest",
    value: { request: { $case: "barrier", value: { lossEpoch: 0 } } },
  },
}).finish();

const NONE: readonly BookEntry[] = [];

/** One entry some leader sent: where it stands, what is before it, what it says. */
export interface BookEntry {
  readonly position: LogPosition;
  readonly previous: LogPosition;
  readonly value: Uint8Array;
}

/**
 * Every entry that was ever sent from one replica to another, and every barrier, by position.
 * Positions chain to the entries before them, so the book knows which log is a beginning of which.
 */
export class LogBook {
  readonly #byOffset = new Map<number, BookEntry[]>();

  /** Notes an entry on its way. */
  add(append: Append): void {
    const { entry, entryCrc } = append;
    if (entry === undefined) return;
    const position = { term: entry.term, offset: entry.offset, crc: entryCrc };
    this.#note(position, append.previous ?? LOG_START, entry.value);
  }

  /**
   * Notes what a leader opens its term with, by its head before and after: after a forced quorum it
   * is alone, and sends it to nobody.
   */
  addBarrier(head: LogPosition, before: LogPosition): void {
    if (head.term > before.term && head.offset === before.offset + 1) {
      this.#note(head, before, BARRIER);
    }
  }

  #note(position: LogPosition, previous: LogPosition, value: Uint8Array): void {
    if (this.find(position) !== null) return;
    const there = this.#byOffset.get(position.offset) ?? [];
    there.push({ position, previous, value });
    this.#byOffset.set(position.offset, there);
  }

  /** Entries known at an offset: one for each history that had one there. */
  at(offset: number): readonly BookEntry[] {
    return this.#byOffset.get(offset) ?? NONE;
  }

  find(position: LogPosition): BookEntry | null {
    for (const one of this.at(position.offset)) {
      if (samePosition(one.position, position)) return one;
    }
    return null;
  }

  /**
   * The position at `offset` in the log that ends with `head`; null when the book does not know.
   */
  ancestor(head: LogPosition, offset: number): LogPosition | null {
    let at = head;
    while (at.offset > offset) {
      const entry = this.find(at);
      if (entry === null) return null;
      at = entry.previous;
    }
    return at.offset === offset ? at : null;
  }
}

/** A replaced or unknown entry where a committed one should be. */
export interface CommitConflict {
  readonly offset: number;
  readonly message: string;
}

/** The one log of committed entries, put together from what replicas say is committed. */
export class CommittedLog {
  readonly #book: LogBook;
  readonly #positions: LogPosition[] = [];
  /** Called for each entry, in order, when it is first seen committed. */
  onEntry: (entry: BookEntry) => void = () => undefined;

  constructor(book: LogBook) {
    this.#book = book;
  }

  /** The newest committed position seen. */
  get tip(): LogPosition {
    return this.#positions.at(-1) ?? LOG_START;
  }

  at(offset: number): LogPosition | null {
    return offset === LOG_START.offset ? LOG_START : (this.#positions[offset] ?? null);
  }

  has(position: LogPosition): boolean {
    const own = this.at(position.offset);
    return own !== null && samePosition(own, position);
  }

  /**
   * The position at `offset` in the log that ends with `head`, as far as book and committed log
   * know.
   */
  ancestor(head: LogPosition, offset: number): LogPosition | null {
    if (this.has(head)) return this.at(offset);
    return this.#book.ancestor(head, offset);
  }

  /**
   * Some replica knows `position` to be committed. Returns what is wrong with that, if anything.
   */
  advance(position: LogPosition): CommitConflict | null {
    const known = this.at(position.offset);
    if (known !== null) {
      return samePosition(known, position)
        ? null
        : {
            offset: position.offset,
            message: `${text(known)} was committed, now ${text(position)} is`,
          };
    }
    const fresh: BookEntry[] = [];
    let at = position;
    while (at.offset > this.tip.offset) {
      const entry = this.#book.find(at);
      if (entry === null) {
        return {
          offset: at.offset,
          message: `${text(at)} is committed and was never sent to anybody`,
        };
      }
      fresh.push(entry);
      at = entry.previous;
    }
    if (!samePosition(at, this.tip)) {
      const message = `${text(this.tip)} was committed; ${text(position)} comes after ${text(at)} instead`;
      return { offset: at.offset, message };
    }
    for (const entry of fresh.reverse()) {
      this.#positions.push(entry.position);
      this.onEntry(entry);
    }
    return null;
  }
}

/** `(term, offset, crc)` for people. */
export function text({ term, offset, crc }: LogPosition): string {
  return `(${term}, ${offset}, ${crc.toString(16)})`;
}

/** What a key holds after some entry. */
interface Revision {
  readonly offset: number;
  readonly value: string | null;
  readonly versionId: number;
}

/** A put that a committed entry made. */
export interface CommittedPut {
  readonly offset: number;
  readonly versionId: number;
}

const NO_RECORD = -1;

/** What the committed log makes of the store's keys, independently of the code under test. */
export class ModelState {
  readonly #keys = new Map<string, Revision[]>();
  /** All keys ever written, sorted; null: one was added since. */
  #sorted: readonly string[] | null = null;
  /** By value: the put that made it. A conditional put that failed made none. */
  readonly #puts = new Map<string, CommittedPut>();
  #nextVersion = 0;

  apply({ position, value }: BookEntry): void {
    const { offset } = position;
    const holds = (key: string, expected: number | undefined): boolean =>
      expected === undefined || expected === (this.#at(key, offset)?.versionId ?? NO_RECORD);
    const content = contentOf({ value, offset });
    if (content.kind === "barrier") return;
    const { puts, deletes } = content.request;
    for (const put of puts) {
      if (!holds(put.key, put.expectedVersionId)) continue;
      const versionId = this.#nextVersion++;
      const wanted = Buffer.from(put.value).toString();
      this.#puts.set(wanted, { offset, versionId });
      this.#set(put.key, { offset, value: wanted, versionId });
    }
    for (const { key, expectedVersionId } of deletes) {
      if (!holds(key, expectedVersionId)) continue;
      this.#set(key, { offset, value: null, versionId: NO_RECORD });
    }
  }

  /** The committed put of this value; null when there is none. */
  putOf(value: string): CommittedPut | null {
    return this.#puts.get(value) ?? null;
  }

  /** All pairs as of `offset`, sorted by key. */
  pairs(offset: number): readonly (readonly [string, string])[] {
    const pairs: [string, string][] = [];
    this.#sorted ??= [...this.#keys.keys()].sort();
    for (const key of this.#sorted) {
      const value = this.#at(key, offset)?.value ?? null;
      if (value !== null) pairs.push([key, value]);
    }
    return pairs;
  }

  #at(key: string, offset: number): Revision | undefined {
    return this.#keys.get(key)?.findLast((revision) => revision.offset <= offset);
  }

  #set(key: string, revision: Revision): void {
    const revisions = this.#keys.get(key);
    if (revisions !== undefined) revisions.push(revision);
    else {
      this.#keys.set(key, [revision]);
      this.#sorted = null;
    }
  }
}
