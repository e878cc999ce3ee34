import type { Call, Expected, Operation } from "./history.ts";

/** What is at each key that is there, and the newest version that was given. */
export interface State {
  readonly values: ReadonlyMap<string, string>;
  readonly version: number;
}

/** Before anything was put. */
export const EMPTY: State = { values: new Map(), version: Number.NEGATIVE_INFINITY };

/** Two operations that cannot both be right, whatever the order: no search is needed. */
export class Contradiction extends Error {
  override readonly name = "Contradiction";
}

/**
 * The store as clients may think of it: one copy, one request at a time, versions given in that
 * order (I16). `apply` gives the state after an operation, null when its outcome cannot come from
 * the state before.
 */
export class KeyValueModel {
  /** By value: the version that clients were told. A value nobody saw has none. */
  readonly #versions = new Map<string, number>();

  /** Throws {@link Contradiction} when one value was shown with two versions. */
  constructor(history: readonly Operation[]) {
    const values = new Map<number, string>();
    const bind = (value: string, versionId: number): void => {
      const known = this.#versions.get(value) ?? versionId;
      const other = values.get(versionId) ?? value;
      if (known !== versionId) {
        throw new Contradiction(`${value} has versions ${known} and ${versionId}`);
      }
      if (other !== value) throw new Contradiction(`version ${versionId} is ${other} and ${value}`);
      this.#versions.set(value, versionId);
      values.set(versionId, value);
    };
    for (const { call, outcome } of history) {
      if (outcome.kind === "found") bind(outcome.value, outcome.versionId);
      if (outcome.kind === "written" && call.kind === "put") bind(call.value, outcome.versionId);
      if (outcome.kind === "pairs") for (const one of outcome.pairs) bind(one.value, one.versionId);
    }
  }

  /** True for a value that no client was ever shown. */
  isUnseen(value: string): boolean {
    return !this.#versions.has(value);
  }

  apply(state: State, { call, outcome }: Operation): State | null {
    switch (call.kind) {
      case "put": {
        const holds = this.#holds(state, call.key, call.expected);
        if (outcome.kind === "written" && !holds) return null;
        if (outcome.kind === "refused") return holds ? null : state;
        return holds ? this.#put(state, call) : state;
      }
      case "delete":
        return this.#delete(state, call, outcome.kind);
      case "get": {
        const value = state.values.get(call.key);
        if (outcome.kind === "absent") return value === undefined ? state : null;
        return outcome.kind !== "found" || outcome.value === value ? state : null;
      }
      case "scan": {
        if (outcome.kind !== "pairs") return state;
        const within = [...state.values.keys()].filter(
          (key) => key >= call.start && key < call.end,
        );
        const same =
          within.length === outcome.pairs.length &&
          outcome.pairs.every(({ key, value }) => state.values.get(key) === value);
        return same ? state : null;
      }
    }
  }

  #delete(state: State, call: Call & { kind: "delete" }, outcome: string): State | null {
    const holds = this.#holds(state, call.key, call.expected);
    const there = state.values.has(call.key);
    if (outcome === "refused") return holds ? null : state;
    if (outcome === "absent") return holds && !there ? state : null;
    if (outcome === "deleted" && !(holds && there)) return null;
    if (!holds || !there) return state;
    const values = new Map(state.values);
    values.delete(call.key);
    return { ...state, values };
  }

  #put(state: State, call: Call & { kind: "put" }): State | null {
    const version = this.#versions.get(call.value);
    // Nobody can tell values apart that nobody saw.
    if (version === undefined) {
      return { ...state, values: new Map(state.values).set(call.key, UNSEEN) };
    }
    if (version <= state.version) return null;
    return { values: new Map(state.values).set(call.key, call.value), version };
  }

  #holds(state: State, key: string, expected: Expected): boolean {
    if (expected === undefined) return true;
    const value = state.values.get(key);
    if (value === undefined) return expected === null;
    return expected !== null && this.#versions.get(value) === expected;
  }
}

const UNSEEN = "(unseen)";

/** Equal for equal states. */
export function stateText({ values }: State): string {
  return [...values]
    .map(([key, value]) => `${key}=${value}`)
    .sort()
    .join(";");
}
