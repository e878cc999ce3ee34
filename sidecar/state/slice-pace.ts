import type { Clock } from "../lib/ports/clock.ts";
import { LIMITS } from "../limits.ts";
import type { MemoryBudget } from "./memory-budget.ts";

/** Growth and shrinking per slice: slow enough not to swing, fast enough to settle in ten. */
const GROWTH = 1.3;
const SHRINKING = 0.6;

/**
 * How much one engine transaction of a checkpoint takes, and how long the checkpoint rests after
 * it. The engine's sync and the log's share a device: while the one writes, the other waits. So a
 * slice is measured by time and not by count: keys that lie close together share pages and are
 * cheap, scattered ones cost a page each. In a hurry (memory is short, or the state is about to
 * close) slices are as large as is bearable and nothing rests.
 */
export class SlicePace {
  readonly #clock: Clock;
  readonly #budget: MemoryBudget;
  #hurry = new AbortController();
  #keys: number = LIMITS.checkpointSliceKeysMin;

  constructor(clock: Clock, budget: MemoryBudget) {
    this.#clock = clock;
    this.#budget = budget;
  }

  /** Keys the next slice may hold. */
  get keys(): number {
    return Math.floor(this.#keys);
  }

  /** Bytes of records the next slice may hold; one record may be larger. */
  get bytes(): number {
    const share = this.keys / LIMITS.checkpointSliceKeys;
    return Math.max(LIMITS.checkpointSliceBytesMin, LIMITS.checkpointSliceBytes * share);
  }

  /** While set nothing rests: somebody waits for the checkpoint under way. */
  set hurried(hurried: boolean) {
    if (hurried) this.#hurry.abort(new Error("the checkpoint is wanted now"));
    else if (this.#hurry.signal.aborted) this.#hurry = new AbortController();
  }

  /** Runs one slice's write, learns from how long it took, and gives way to other work. */
  async run(write: () => Promise<void>): Promise<void> {
    const tookMs = await this.yieldAfter(write);
    const keys = this.#keys * (tookMs > this.#wantedMs ? SHRINKING : GROWTH);
    const { checkpointSliceKeysMin, checkpointSliceKeys } = LIMITS;
    this.#keys = Math.min(checkpointSliceKeys, Math.max(checkpointSliceKeysMin, keys));
  }

  /** Runs `write` and then gives way to other work for about as long; returns how long it took. */
  async yieldAfter(write: () => Promise<void>): Promise<number> {
    const startMs = this.#clock.monotonicMs();
    await write();
    const tookMs = this.#clock.monotonicMs() - startMs;
    const wantedMs = this.#wantedMs;
    if (wantedMs > LIMITS.checkpointSliceMs || tookMs < 1) await this.#clock.yield();
    else await this.#rest(Math.min(tookMs, wantedMs));
    return tookMs;
  }

  /** Longer the less room is left in memory, from half of the bound on. */
  get #wantedMs(): number {
    const { checkpointSliceMs, checkpointSliceHurriedMs } = LIMITS;
    if (this.#hurry.signal.aborted) return checkpointSliceHurriedMs;
    const share = Math.min(1, Math.max(0, 2 * this.#budget.pressure - 1));
    return checkpointSliceMs + share * (checkpointSliceHurriedMs - checkpointSliceMs);
  }

  async #rest(restMs: number): Promise<void> {
    try {
      await this.#clock.sleep(restMs, this.#hurry.signal);
    } catch {
      // Hurried: go on at once.
    }
  }
}
