/**
 * Keys of objects to look at, each at most once however often it is added, and never by two workers
 * at the same time: a key that is added while it is worked on comes back afterwards. Its bound is
 * the number of objects.
 */
import type { Clock, Timer } from "../../sidecar/lib/ports/clock.ts";
import { KUBE_LIMITS } from "./limits.ts";

/** What a queue counts; names are those that stock dashboards know. */
export interface QueueObserver {
  added(depth: number): void;
  /** A worker took a key that had waited this long. */
  taken(depth: number, waitedMs: number): void;
  done(workedMs: number): void;
  retried(): void;
}

/** See the file's header. */
export class Workqueue {
  readonly #clock: Clock;
  readonly #observer: QueueObserver | null;
  /** In the order they were added -> when. */
  readonly #ready = new Map<string, number>();
  readonly #working = new Map<string, number>();
  /** Added while being worked on. */
  readonly #again = new Set<string>();
  readonly #delayed = new Map<string, { readonly atMs: number; readonly timer: Timer }>();
  readonly #failures = new Map<string, number>();
  readonly #takers = new Set<() => void>();
  #closed = false;

  constructor(clock: Clock, observer: QueueObserver | null = null) {
    this.#clock = clock;
    this.#observer = observer;
  }

  /** Keys that wait for a worker. */
  get depth(): number {
    return this.#ready.size;
  }

  /** Keys that are being worked on. */
  get active(): number {
    return this.#working.size;
  }

  /** Time that the present works have taken so far, all together. */
  get unfinishedWorkMs(): number {
    const now = this.#clock.monotonicMs();
    return [...this.#working.values()].reduce((total, since) => total + now - since, 0);
  }

  /** How long the longest of the present works has taken so far. */
  get longestWorkMs(): number {
    const now = this.#clock.monotonicMs();
    return Math.max(0, ...[...this.#working.values()].map((since) => now - since));
  }

  add(key: string): void {
    if (this.#closed) return;
    this.#undelay(key);
    if (this.#working.has(key)) {
      this.#again.add(key);
      return;
    }
    if (this.#ready.has(key)) return;
    this.#ready.set(key, this.#clock.monotonicMs());
    this.#observer?.added(this.#ready.size);
    for (const wake of [...this.#takers]) wake();
  }

  /** Adds the key after `delayMs`, or when it was to be added anyway, whichever is first. */
  addAfter(key: string, delayMs: number): void {
    if (this.#closed || this.#ready.has(key)) return;
    const atMs = this.#clock.monotonicMs() + delayMs;
    const known = this.#delayed.get(key);
    if (known !== undefined && known.atMs <= atMs) return;
    known?.timer.cancel();
    const timer = this.#clock.timer(delayMs, () => {
      this.#delayed.delete(key);
      this.add(key);
    });
    this.#delayed.set(key, { atMs, timer });
  }

  /** Adds the key after a wait that doubles with each call until {@link forget}. */
  addFailed(key: string): void {
    const failures = this.#failures.get(key) ?? 0;
    this.#failures.set(key, failures + 1);
    this.#observer?.retried();
    const { queueRetryMinMs, queueRetryMaxMs } = KUBE_LIMITS;
    this.addAfter(key, Math.min(queueRetryMinMs * 2 ** failures, queueRetryMaxMs));
  }

  /** The key succeeded, or is gone: its next failure is a first one. */
  forget(key: string): void {
    this.#failures.delete(key);
  }

  /** Waits for a key to work on; {@link done} must follow. Rejects with the signal's reason. */
  async take(signal: AbortSignal): Promise<string> {
    for (;;) {
      signal.throwIfAborted();
      const [next] = this.#ready;
      if (next !== undefined) {
        const [key, sinceMs] = next;
        const now = this.#clock.monotonicMs();
        this.#ready.delete(key);
        this.#working.set(key, now);
        this.#observer?.taken(this.#ready.size, now - sinceMs);
        return key;
      }
      await this.#wait(signal);
    }
  }

  /** The key is no longer being worked on. */
  done(key: string): void {
    const since = this.#working.get(key);
    if (since === undefined) throw new Error(`${key} was not being worked on`);
    this.#working.delete(key);
    this.#observer?.done(this.#clock.monotonicMs() - since);
    if (this.#again.delete(key)) this.add(key);
  }

  /** Drops everything that waits; nothing is added any more. */
  close(): void {
    this.#closed = true;
    for (const { timer } of this.#delayed.values()) timer.cancel();
    this.#delayed.clear();
    this.#ready.clear();
    this.#again.clear();
  }

  #undelay(key: string): void {
    this.#delayed.get(key)?.timer.cancel();
    this.#delayed.delete(key);
  }

  /** Until a key is added or the signal aborts; several takers may wake for one key. */
  async #wait(signal: AbortSignal): Promise<void> {
    await new Promise<void>((resolve) => {
      const done = (): void => {
        this.#takers.delete(done);
        signal.removeEventListener("abort", done);
        resolve();
      };
      this.#takers.add(done);
      signal.addEventListener("abort", done, { once: true });
    });
  }
}
