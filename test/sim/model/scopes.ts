/** How much may happen in the searches in which every rule holds. */
import type { Budget } from "./world.ts";

/** One search. */
export interface Scope {
  readonly budget: Budget;
  /** All of it fits into some minutes; otherwise it is searched as far as the bound. */
  readonly whole: boolean;
}

/** Nothing happens. */
export const NOTHING_HAPPENS: Budget = Object.freeze({
  terms: 0,
  writes: 0,
  wipes: 0,
  crashes: 0,
  rollbacks: 0,
  changes: 0,
});

const scope = (budget: Partial<Budget>, whole = true): Scope => {
  return { budget: { ...NOTHING_HAPPENS, ...budget }, whole };
};

/** Terms are those raised after the first leader serves. */
export const SCOPES: readonly Scope[] = [
  scope({ terms: 3, writes: 1 }),
  scope({ terms: 2, writes: 2 }),
  scope({ terms: 2, writes: 1, wipes: 1 }),
  scope({ terms: 1, writes: 1, wipes: 2 }),
  scope({ terms: 1, writes: 2, wipes: 1 }),
  scope({ terms: 1, writes: 1, crashes: 1 }),
  scope({ terms: 2, writes: 1, rollbacks: 1 }),
  scope({ writes: 1, changes: 1 }),
  scope({ wipes: 1, changes: 1 }),
  scope({ crashes: 1, changes: 1 }),
  scope({ terms: 1, changes: 1 }),
  scope({ terms: 1, writes: 1, changes: 1 }, false),
  scope({ terms: 3, writes: 2, wipes: 2, crashes: 1, changes: 1 }, false),
];

/** For people: `2 terms, 1 write`. */
export function budgetText(budget: Budget): string {
  return Object.entries(budget)
    .filter(([, count]) => count > 0)
    .map(([what, count]: [string, number]) => `${count} ${count === 1 ? oneOf(what) : what}`)
    .join(", ");
}

function oneOf(what: string): string {
  return what === "crashes" ? "crash" : what.slice(0, -1);
}
