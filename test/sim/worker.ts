/**
 * One of the processes that run seeds: is sent seeds, answers each with its summary, ends when its
 * parent hangs up.
 */
import { describeFailure, shrink } from "./failure.ts";
import type { SimOptions } from "./options.ts";
import { simulate } from "./simulation.ts";
import { summarize } from "./tally.ts";

/** What a parent sends: run this seed. */
export interface WorkerOrder {
  readonly seed: number;
  readonly force: Partial<SimOptions>;
}

async function run({ seed, force }: WorkerOrder): Promise<void> {
  const beganMs = performance.now();
  const result = await simulate({ seed, force });
  const realMs = performance.now() - beganMs;
  const described = describeFailure(result, force);
  const smaller = result.violation === null ? null : await shrink(result);
  const failure = [described, smaller].filter((text) => text !== null && text !== "").join("\n");
  process.send?.(summarize(result, realMs, failure));
}

process.on("message", (order: WorkerOrder) => {
  run(order).catch((error: Error) => {
    process.stderr.write(`seed ${order.seed}: ${error.stack ?? error.message}\n`);
    process.exit(1);
  });
});
process.on("disconnect", () => process.exit(0));
