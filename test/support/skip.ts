import type { Context } from "mocha";

/**
 * Skips the running test, or from a hook all tests of its suite, and notes why: the reason is printed
 * with the result. For what the machine lacks, never for what the product lacks.
 */
export function skip(context: Context, reason: string): never {
  const runnable = context.runnable();
  const noted = runnable.type === "hook" ? runnable.parent : context.test;
  Object.assign(noted ?? runnable, { skipReason: reason });
  return context.skip();
}
