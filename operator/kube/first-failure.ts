/**
 * Takes all steps, one after the other, whatever becomes of each; what the first that failed has
 * thrown, or null. Rejects with the signal's reason at its end.
 */
export async function firstFailure(
  signal: AbortSignal,
  steps: readonly (() => Promise<void>)[],
): Promise<Error | null> {
  let first: Error | null = null;
  for (const step of steps) {
    try {
      await step();
    } catch (error) {
      signal.throwIfAborted();
      first ??= error instanceof Error ? error : new Error(String(error));
    }
  }
  return first;
}
