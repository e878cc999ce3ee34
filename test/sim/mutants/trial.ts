import type { Violation } from "../referee.ts";
import { simulate } from "../simulation.ts";
import type { Mutant } from "./mutant.ts";

/** How one series of seeds against a mutant ended. */
export interface Trial {
  /** Seeds until it was caught, that one included; null: it was not. */
  readonly seeds: number | null;
  /** What did not hold; the first one ended the run. */
  readonly violations: readonly Violation[];
  readonly seed: number;
}

/** Runs seeds from `first` on against a mutant until a checker notices, at most `max`. */
export async function tryMutant(mutant: Mutant, first: number, max: number): Promise<Trial> {
  const { alterNode, alterCoordinator, faults, force } = mutant;
  for (let count = 1; count <= max; count += 1) {
    const seed = first + count - 1;
    const undo = mutant.patch?.() ?? ((): void => undefined);
    try {
      const { violations } = await simulate({
        seed,
        // Most rules break in a hurry; hours in which nothing happens only cost time here.
        force: { faults, quiet: null, lasting: null, kube: null, namespaces: [1], ...force },
        ...(alterNode === undefined ? {} : { alterNode }),
        ...(alterCoordinator === undefined ? {} : { alterCoordinator }),
      });
      if (violations.length > 0) return { seeds: count, violations, seed };
    } finally {
      undo();
    }
  }
  return { seeds: null, violations: [], seed: first + max - 1 };
}
