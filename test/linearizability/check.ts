/**
 * Is there an order of all operations, each at some moment between its call and its return, that
 * one copy of the store could have gone through? The search of Wing and Gong (1993) with Lowe's
 * memory of what was tried ("Testing for linearizability", 2017).
 */
import { type Operation, operationText } from "./history.ts";
import { Contradiction, EMPTY, KeyValueModel, type State, stateText } from "./key-value-model.ts";
import { partition } from "./partition.ts";

/** What came of a check. `undecided` is never a yes: the search was given up. */
export interface Verdict {
  readonly kind: "linearizable" | "violation" | "undecided";
  /** Why not, for people; empty when linearizable. */
  readonly witness: string;
  /** States tried. */
  readonly steps: number;
}

const STEPS_MAX = 2_000_000;
const WITNESS_LINES = 12;

/** Checks a history. `stepsMax` bounds each part's search. */
export function checkLinearizable(history: readonly Operation[], stepsMax = STEPS_MAX): Verdict {
  let steps = 0;
  let undecided = "";
  for (const part of partition(history)) {
    const verdict = new Search(part, stepsMax).run();
    steps += verdict.steps;
    if (verdict.kind === "violation") return { ...verdict, steps };
    if (verdict.kind === "undecided") undecided = verdict.witness;
  }
  return { kind: undecided === "" ? "linearizable" : "undecided", witness: undecided, steps };
}

/** A call or a return in the list of what is still to be ordered. */
interface Entry {
  readonly at: number;
  readonly operation: number;
  readonly isCall: boolean;
  /** The other one of the pair; null for a call that never returned. */
  match: Entry | null;
  before: Entry | null;
  after: Entry | null;
}

class Search {
  readonly #operations: readonly Operation[];
  readonly #stepsMax: number;
  readonly #head: Entry = entry(Number.NEGATIVE_INFINITY, -1, false);
  /** Returns that are still in the list: the search ends when there are none. */
  #returns = 0;
  readonly #numbers: readonly (readonly [number, number])[];
  /**
   * By operation: the kind of those that it cannot be told apart from; null: it is like no other.
   */
  #kinds: readonly (number | null)[] = [];
  /** By kind: how many took effect so far. */
  readonly #used: number[] = [];
  /** What was tried: by set and state, the smallest counts of kinds that were used up to there. */
  readonly #tried = new Map<string, (readonly number[])[]>();
  #steps = 0;
  #best: readonly number[] = [];
  #bestPending: readonly number[] = [];

  constructor(operations: readonly Operation[], stepsMax: number) {
    this.#operations = operations;
    this.#stepsMax = stepsMax;
    this.#numbers = operations.map((_, index) => [mixed(2 * index + 1), mixed(2 * index + 2)]);
    this.#link();
  }

  run(): Verdict {
    try {
      const model = new KeyValueModel(this.#operations);
      const names = this.#operations.map((operation) => kindOf(model, operation));
      const kinds = [...new Set(names)].filter((name) => name !== null);
      this.#kinds = names.map((name) => (name === null ? null : kinds.indexOf(name)));
      this.#used.push(...kinds.map(() => 0));
      return this.#search(model);
    } catch (error) {
      if (!(error instanceof Contradiction)) throw error;
      return { kind: "violation", witness: error.message, steps: this.#steps };
    }
  }

  #search(model: KeyValueModel): Verdict {
    const stack: { readonly call: Entry; readonly state: State; readonly lost: boolean }[] = [];
    let state: State = EMPTY;
    let [low, high] = [0, 0];
    let at = this.#head.after;
    // Calls that never returned are tried last: few of them are needed to explain anything.
    let lost = false;
    while (this.#returns > 0) {
      if (at?.isCall === true && (at.match === null) !== lost) at = at.after;
      else if (at?.isCall === true) {
        this.#steps += 1;
        if (this.#steps > this.#stepsMax) return this.#verdict("undecided");
        const next = model.apply(state, this.#operations[at.operation] as Operation);
        const [a, b] = this.#number(at.operation);
        const name = `${low ^ a} ${high ^ b} ${next === null ? "" : stateText(next)}`;
        this.#use(at.operation, 1);
        if (next === null || !this.#isNew(name)) {
          this.#use(at.operation, -1);
          at = at.after;
          continue;
        }
        stack.push({ call: at, state, lost });
        state = next;
        [low, high] = [low ^ a, high ^ b];
        this.#lift(at);
        at = this.#head.after;
        lost = false;
        if (stack.length > this.#best.length) this.#note(stack.map(({ call }) => call.operation));
      } else if (lost) {
        // Something returned here, and none of the calls before it can come next.
        const last = stack.pop();
        if (last === undefined) return this.#verdict("violation");
        const [a, b] = this.#number(last.call.operation);
        this.#use(last.call.operation, -1);
        [low, high] = [low ^ a, high ^ b];
        ({ state, lost } = last);
        this.#unlift(last.call);
        at = last.call.after;
      } else {
        lost = true;
        at = this.#head.after;
      }
    }
    return { kind: "linearizable", witness: "", steps: this.#steps };
  }

  #number(operation: number): readonly [number, number] {
    const own = this.#numbers[operation];
    return own === undefined || this.#kinds[operation] !== null ? [0, 0] : own;
  }

  /** Of operations that are all alike only how many took effect matters, not which. */
  #use(operation: number, by: number): void {
    const kind = this.#kinds[operation] ?? null;
    if (kind !== null) this.#used[kind] = (this.#used[kind] ?? 0) + by;
  }

  /** False when the same was tried with as many lost operations still to use, or more. */
  #isNew(name: string): boolean {
    const known = this.#tried.get(name) ?? [];
    if (known.some((counts) => counts.every((count, kind) => count <= (this.#used[kind] ?? 0)))) {
      return false;
    }
    known.push([...this.#used]);
    this.#tried.set(name, known);
    return true;
  }

  #verdict(kind: "violation" | "undecided"): Verdict {
    const lines = (which: readonly number[]): string[] =>
      which.map((index) => operationText(this.#operations[index] as Operation));
    const witness = [
      kind === "undecided" ? `given up after ${this.#steps} steps` : "no order is possible",
      `the longest order that is: ${this.#best.length} operations, the last of them`,
      ...lines(this.#best.slice(-WITNESS_LINES)),
      "after which none of these can come next",
      ...lines(this.#bestPending.slice(0, WITNESS_LINES)),
    ];
    return { kind, witness: witness.join("\n"), steps: this.#steps };
  }

  #note(order: readonly number[]): void {
    this.#best = order;
    const pending: number[] = [];
    for (let at = this.#head.after; at?.isCall === true; at = at.after) pending.push(at.operation);
    this.#bestPending = pending;
  }

  #link(): void {
    const entries: Entry[] = [];
    for (const [index, { calledAt, returnedAt }] of this.#operations.entries()) {
      const call = entry(calledAt, index, true);
      entries.push(call);
      if (!Number.isFinite(returnedAt)) continue;
      const back = entry(returnedAt, index, false);
      back.match = call;
      call.match = back;
      entries.push(back);
      this.#returns += 1;
    }
    // At the same moment calls come first: what touches is concurrent.
    entries.sort((a, b) => a.at - b.at || Number(b.isCall) - Number(a.isCall));
    let last = this.#head;
    for (const one of entries) {
      last.after = one;
      one.before = last;
      last = one;
    }
  }

  #lift(call: Entry): void {
    unlink(call);
    if (call.match === null) return;
    unlink(call.match);
    this.#returns -= 1;
  }

  #unlift(call: Entry): void {
    if (call.match !== null) {
      relink(call.match);
      this.#returns += 1;
    }
    relink(call);
  }
}

/** Unknown writes without a condition that leave a key alike: gone, or with a value nobody saw. */
function kindOf(model: KeyValueModel, { call, outcome }: Operation): string | null {
  if (outcome.kind !== "unknown" || !("expected" in call) || call.expected !== undefined)
    return null;
  if (call.kind === "put" && !model.isUnseen(call.value)) return null;
  return `${call.kind} ${call.key}`;
}

function entry(at: number, operation: number, isCall: boolean): Entry {
  return { at, operation, isCall, match: null, before: null, after: null };
}

function unlink(one: Entry): void {
  if (one.before !== null) one.before.after = one.after;
  if (one.after !== null) one.after.before = one.before;
}

/** Undoes {@link unlink}, in the reverse order of unlinking. */
function relink(one: Entry): void {
  if (one.before !== null) one.before.after = one;
  if (one.after !== null) one.after.before = one;
}

/** A fixed number for an index, so that sets of operations have hashes that hardly ever meet. */
function mixed(index: number): number {
  let x = Math.imul(index, 0x9e37_79b1) ^ 0x85eb_ca6b;
  x = Math.imul(x ^ (x >>> 16), 0x7feb_352d);
  x = Math.imul(x ^ (x >>> 15), 0x846c_a68b);
  return x ^ (x >>> 16);
}
