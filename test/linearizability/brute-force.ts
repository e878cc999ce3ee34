import type { Operation } from "./history.ts";
import { Contradiction, EMPTY, KeyValueModel, type State } from "./key-value-model.ts";

/**
 * The definition itself: tries every order of the operations that respects their times, with every
 * subset of those whose outcome is unknown. For histories of a few operations.
 */
export function isLinearizableByForce(history: readonly Operation[]): boolean {
  try {
    const model = new KeyValueModel(history);
    return anyOrder(model, EMPTY, history);
  } catch (error) {
    if (error instanceof Contradiction) return false;
    throw error;
  }
}

function anyOrder(model: KeyValueModel, state: State, left: readonly Operation[]): boolean {
  if (left.every(({ outcome }) => outcome.kind === "unknown")) return true;
  const firstReturn = Math.min(...left.map(({ returnedAt }) => returnedAt));
  return left.some((operation) => {
    if (operation.calledAt > firstReturn) return false;
    const next = model.apply(state, operation);
    const rest = left.filter((other) => other !== operation);
    return next !== null && anyOrder(model, next, rest);
  });
}
