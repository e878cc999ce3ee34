import { isFatal } from "./ports/disk.ts";

/**
 * Takes all steps in order, each whatever became of those before it: for closing, where what stays
 * open is worse than what failed. Rejects with the first error, or the first fatal one.
 */
export async function everyStep(
  steps: readonly (() => Promise<unknown> | undefined)[],
): Promise<void> {
  const errors: unknown[] = [];
  for (const step of steps) {
    try {
      await step();
    } catch (error) {
      errors.push(error);
    }
  }
  if (errors.length > 0) throw errors.find(isFatal) ?? errors[0];
}
