import type { Clock } from "../lib/ports/clock.ts";
import { LIMITS } from "../limits.ts";
import type { MemoryBudget } from "./memory-budget.ts";

/** Growth and shrinking per slice: slow enough not to swing, fast enough to settle in ten. */
const GROWTH = 1.3;
const SHRINKING = 0.6;

/**
 * How much one engine transaction of a checkpoint takes, and how long the checkpoint rests after
 * it. The engine's syncs and the log's share a device: while the one writes, the other waits. So a
 * slice is measured by time and not by count: keys that lie close together share pages and are
 * cheap, scattered ones cost a page each. Each slice has the price of two syncs of its own, so
 * there is a size below which smaller ones only make more work. What is rested for is idle time of
 * the device, and there is none to give away once memory fills: from a quarter of its bound on, and
 * when somebody waits for the checkpoint, slices are as large as they may be and nothing rests.
 */
export class SlicePace {
  readonly #clock: Clock;
  readonly #budget: MemoryBudget;
  /** Rests are short: nobody needs to be woken from one. Its own, or it would gather listeners. */
  readonly #never: AbortSignal = new AbortController().signal;
  /** Those who wait for the checkpoint under way. */
  #waiting = 0;
  #keys: number = LIMITS.checkpointSliceKeys / 2;

  constructor(clock: Clock, budget: MemoryBudget) {
    this.#clock = clock;
    this.#budget = budget;
  }

  /** Keys the next slice may hold. */
  get keys(): number {
    return this.#hurried ? LIMITS.checkpointSliceKeys : Math.floor(this.#keys);
  }

  /** Bytes of records the next slice may hold; one record may be larger. */
  get bytes(): number {
    return (LIMITS.checkpointSliceBytes * this.keys) / LIMITS.checkpointSliceKeys;
  }

  /**
   * Makes checkpoints hurry, at once or when `calm` aborts, until the function that is returned is
   * called.
   */
  hurry(calm?: AbortSignal): () => void {
    let counted = 0;
    const begin = (): void => {
      counted = 1;
      this.#waiting += 1;
    };
    if (calm === undefined || calm.aborted) begin();
    else calm.addEventListener("abort", begin, { once: true });
    return () => {
      calm?.removeEventListener("abort", begin);
      this.#waiting -= counted;
    };
  }

  /** Runs one slice's write, learns from how long it took, and gives way to other work. */
  async run(write: () => Promise<void>): Promise<void> {
    const hurried = this.#hurried;
    const tookMs = await this.yieldAfter(write);
    // A hurried slice is larger than asked for: its time says nothing.
    if (hurried) return;
    const keys = this.#keys * (tookMs > LIMITS.checkpointSliceMs ? SHRINKING : GROWTH);
    const { checkpointSliceKeysMin, checkpointSliceKeys } = LIMITS;
    this.#keys = Math.min(checkpointSliceKeys, Math.max(checkpointSliceKeysMin, keys));
  }

  /** Runs `write` and then gives way to other work; returns how long `write` took. */
  async yieldAfter(write: () => Promise<void>): Promise<number> {
    const startMs = this.#clock.monotonicMs();
    await write();
    const tookMs = this.#clock.monotonicMs() - startMs;
    const restMs = Math.min(tookMs, LIMITS.checkpointSliceMs) * this.#room;
    if (this.#hurried || restMs < 1) await this.#clock.yield();
    else await this.#clock.sleep(restMs, this.#never);
    return tookMs;
  }

  /** What is left of the first quarter of memory: from 1 when it is empty to 0. */
  get #room(): number {
    return Math.max(0, 1 - 4 * this.#budget.pressure);
  }

  get #hurried(): boolean {
    return this.#waiting > 0 || this.#room === 0;
  }
}
