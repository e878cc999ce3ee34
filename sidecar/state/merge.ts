import type { EncodedKey } from "./key-order.ts";

/** A sorted stream of keys with a current one; undefined at the end. */
export interface KeyCursor {
  current(): EncodedKey | undefined;
  advance(): void;
}

/** A cursor over one sorted run, limited to `from <= key < to`, in either direction. */
export class RunCursor implements KeyCursor {
  readonly #run: readonly EncodedKey[];
  readonly #step: 1 | -1;
  readonly #stop: number;
  #at: number;

  constructor(run: readonly EncodedKey[], from: EncodedKey, to: EncodedKey, reverse: boolean) {
    this.#run = run;
    const low = firstAtOrAfter(run, from);
    const high = Math.max(low, firstAtOrAfter(run, to));
    this.#step = reverse ? -1 : 1;
    this.#at = reverse ? high - 1 : low;
    this.#stop = reverse ? low - 1 : high;
  }

  current(): EncodedKey | undefined {
    return this.#at === this.#stop ? undefined : this.#run[this.#at];
  }

  advance(): void {
    if (this.#at !== this.#stop) this.#at += this.#step;
  }
}

function firstAtOrAfter(run: readonly EncodedKey[], key: EncodedKey): number {
  let low = 0;
  let high = run.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((run[middle] as EncodedKey) < key) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Merges cursors into distinct keys, in order: a binary heap of the cursors that have a key. */
export class MergeCursor implements KeyCursor {
  readonly #heap: KeyCursor[] = [];
  readonly #reverse: boolean;

  constructor(cursors: readonly KeyCursor[], reverse: boolean) {
    this.#reverse = reverse;
    for (const cursor of cursors) if (cursor.current() !== undefined) this.#heap.push(cursor);
    for (let at = (this.#heap.length >> 1) - 1; at >= 0; at--) this.#sink(at);
  }

  current(): EncodedKey | undefined {
    return this.#heap[0]?.current();
  }

  advance(): void {
    const key = this.current();
    // Several cursors may stand on the same key.
    while (key !== undefined && this.current() === key) this.#advanceTop();
  }

  #advanceTop(): void {
    const top = this.#heap[0] as KeyCursor;
    top.advance();
    if (top.current() === undefined) {
      const last = this.#heap.pop() as KeyCursor;
      if (last !== top) this.#heap[0] = last;
    }
    this.#sink(0);
  }

  #before(left: KeyCursor, right: KeyCursor): boolean {
    const a = left.current() as EncodedKey;
    const b = right.current() as EncodedKey;
    return this.#reverse ? a > b : a < b;
  }

  #sink(start: number): void {
    const heap = this.#heap;
    let at = start;
    for (;;) {
      let first = at;
      for (let child = 2 * at + 1; child <= 2 * at + 2 && child < heap.length; child++) {
        if (this.#before(heap[child] as KeyCursor, heap[first] as KeyCursor)) first = child;
      }
      if (first === at) return;
      const moved = heap[at] as KeyCursor;
      heap[at] = heap[first] as KeyCursor;
      heap[first] = moved;
      at = first;
    }
  }
}
