import type { Clock, Timer } from "../lib/ports/clock.ts";
import type { ReplicaStatus } from "../protocol/gen/resilver.ts";

/** Shortest time between two calls about the same replica, in milliseconds. */
const PERIOD_MS = 50;

/**
 * Tells watchers of changed statuses: at once when it was quiet, else at most every 50 ms a
 * replica, the newest status last.
 */
export class StatusWatchers {
  readonly #clock: Clock;
  readonly #watchers = new Set<(statuses: readonly ReplicaStatus[]) => void>();
  readonly #waiting = new Map<string, ReplicaStatus>();
  #timer: Timer | null = null;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Returns the unsubscriber. */
  add(changed: (statuses: readonly ReplicaStatus[]) => void): () => void {
    this.#watchers.add(changed);
    return () => this.#watchers.delete(changed);
  }

  changed(statuses: readonly ReplicaStatus[]): void {
    for (const status of statuses) {
      this.#waiting.set(`${status.namespace}/${status.shard}`, status);
    }
    if (this.#timer === null) this.#send();
  }

  close(): void {
    this.#timer?.cancel();
    this.#watchers.clear();
  }

  #send(): void {
    this.#timer = null;
    if (this.#waiting.size === 0) return;
    const statuses = [...this.#waiting.values()];
    this.#waiting.clear();
    this.#timer = this.#clock.timer(PERIOD_MS, () => this.#send());
    for (const watcher of this.#watchers) watcher(statuses);
  }
}
