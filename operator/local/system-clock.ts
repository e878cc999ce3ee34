import { setTimeout as sleep } from "node:timers/promises";
import type { Clock } from "../../sidecar/lib/ports/clock.ts";

/** The real clock of this process. */
export const systemClock: Clock = {
  nowMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  sleep: async (delayMs, signal) => {
    await sleep(delayMs, undefined, { signal });
  },
  timer: (delayMs, fire) => {
    const timer = setTimeout(fire, delayMs);
    return { cancel: () => clearTimeout(timer) };
  },
  yield: () => new Promise((resolve) => setImmediate(resolve)),
};
