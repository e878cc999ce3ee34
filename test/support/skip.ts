import { type Context, Test } from "mocha";

/**
 * Skips the running test, or from a hook all tests of its suite, and notes why: the reason is
 * printed with the result. For what the machine lacks, never for what the product lacks.
 */
export function skip(context: Context, reason: string): never {
  const runnable = context.runnable();
  // In a hook the skipped tests are those of its suite; the reporter looks there too.
  const isTest = runnable === context.test && runnable instanceof Test;
  Object.assign(isTest ? runnable : (runnable.parent ?? runnable), { skipReason: reason });
  return context.skip();
}
