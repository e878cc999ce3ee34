import type { Input } from "../core/input.ts";
import type { Replica } from "../core/replica.ts";
import type { Clock } from "../lib/ports/clock.ts";

/** Ticks in the time between two heartbeats, and the shortest time between two of them. */
const TICKS_PER_HEARTBEAT = 5;
const TICK_MS_MIN = 20;

/** What a ticker needs. */
export interface TickerOptions {
  readonly core: Pick<Replica, "leader">;
  readonly clock: Clock;
  readonly heartbeatMs: number;
  readonly signal: AbortSignal;
  readonly feed: (input: Input) => void;
}

/**
 * The core's sense of time: ticks while its replica leads. A pod holds thousands of replicas; those
 * that follow have no use for ticks, and wake nobody up.
 */
export class Ticker {
  readonly #o: TickerOptions;
  readonly #tickMs: number;
  #resume: (() => void) | null = null;

  constructor(options: TickerOptions) {
    this.#o = options;
    this.#tickMs = Math.max(TICK_MS_MIN, options.heartbeatMs / TICKS_PER_HEARTBEAT);
  }

  /** To be called after anything that may have made a leader of the replica. */
  notice(): void {
    if (this.#resume !== null && this.needed) this.#resume();
  }

  /** Ticks until the signal aborts; never rejects. */
  async run(): Promise<void> {
    const { clock, signal, feed } = this.#o;
    signal.addEventListener("abort", () => this.#resume?.(), { once: true });
    while (!signal.aborted) {
      if (!this.needed) {
        await this.#untilNoticed();
        continue;
      }
      try {
        await clock.sleep(this.#tickMs, signal);
      } catch {
        return;
      }
      if (this.needed) feed({ kind: "tick", nowMs: clock.monotonicMs() });
    }
  }

  /** True while the core has anything to do at a tick. */
  get needed(): boolean {
    return this.#o.core.leader !== null;
  }

  async #untilNoticed(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#resume = resolve;
    });
    this.#resume = null;
  }
}
