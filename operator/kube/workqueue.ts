/**
 * Keys of objects to look at, each at most once however often it is added, and never by two workers
 * at the same time: a key that is added while it is worked on comes back afterwards. Its bound is
 * the number of objects. What is looked at anew by routine waits behind what is news: of a thousand
 * stores twenty a second are looked at without anything having happened.
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

/** Why a key is looked at: something happened, or its time has come. */
export type Urgency = "news" | "routine";

/** One key of so many is a routine one, when there are such: news must not keep them for ever. */
const ROUTINE_EVERY = 8;

/** See the file's header. */
export class Workqueue {
  readonly #clock: Clock;
  readonly #observer: QueueObserver | null;
  /** In the order they were added -> when. */
  readonly #ready: Readonly<Record<Urgency, Map<string, number>>> = {
    news: new Map(),
    routine: new Map(),
  };
  /** News that were taken since a routine key was. */
  #newsTaken = 0;
  readonly #working = new Map<string, number>();
  /** Added while being worked on. */
  readonly #again = new Set<string>();
  readonly #delayed = new Map<
    string,
    { readonly atMs: number; readonly timer: Timer; urgency: Urgency }
  >();
  readonly #failures = new Map<string, number>();
  readonly #takers = new Set<() => void>();
  #closed = false;

  constructor(clock: Clock, observer: QueueObserver | null = null) {
    this.#clock = clock;
    this.#observer = observer;
  }

  /** Keys that wait for a worker. */
  get depth(): number {
    return this.#ready.news.size + this.#ready.routine.size;
  }

  /** True when there is news of a key that is being worked on. */
  hasNews(key: string): boolean {
    return this.#again.has(key);
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

  /** A key that waits for routine moves up when there is news of it. */
  add(key: string, urgency: Urgency = "news"): void {
    if (this.#closed) return;
    this.#undelay(key);
    if (this.#working.has(key)) {
      this.#again.add(key);
      return;
    }
    const { news, routine } = this.#ready;
    const sinceMs = news.get(key) ?? routine.get(key);
    if (urgency === "news") routine.delete(key);
    else if (sinceMs !== undefined) return;
    if (news.has(key)) return;
    this.#ready[urgency].set(key, sinceMs ?? this.#clock.monotonicMs());
    if (sinceMs !== undefined) return;
    this.#observer?.added(this.depth);
    for (const wake of [...this.#takers]) wake();
  }

  /**
   * Adds the key after `delayMs`, or when it was to be added anyway, whichever is first; as news,
   * if either was to be.
   */
  addAfter(key: string, delayMs: number, urgency: Urgency = "news"): void {
    if (this.#closed || this.#ready.news.has(key)) return;
    const atMs = this.#clock.monotonicMs() + delayMs;
    const known = this.#delayed.get(key);
    const isNews = urgency === "news" || known?.urgency === "news";
    const wish = { atMs, urgency: isNews ? "news" : "routine" } as const;
    if (known !== undefined && known.atMs <= atMs) {
      known.urgency = wish.urgency;
      return;
    }
    known?.timer.cancel();
    const timer = this.#clock.timer(delayMs, () => {
      const due = this.#delayed.get(key);
      this.#delayed.delete(key);
      this.add(key, due?.urgency);
    });
    this.#delayed.set(key, { ...wish, timer });
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
      const next = this.#next();
      if (next !== null) {
        const { key, sinceMs } = next;
        const now = this.#clock.monotonicMs();
        // What it was to be looked at for, this look sees.
        this.#undelay(key);
        this.#working.set(key, now);
        this.#observer?.taken(this.depth, now - sinceMs);
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
    this.#ready.news.clear();
    this.#ready.routine.clear();
    this.#again.clear();
  }

  /** Takes the key whose turn it is; null: none waits. */
  #next(): { readonly key: string; readonly sinceMs: number } | null {
    const { news, routine } = this.#ready;
    const isRoutine = news.size === 0 || (routine.size > 0 && this.#newsTaken >= ROUTINE_EVERY - 1);
    const from = isRoutine ? routine : news;
    const [first] = from;
    if (first === undefined) return null;
    const [key, sinceMs] = first;
    from.delete(key);
    this.#newsTaken = isRoutine ? 0 : this.#newsTaken + 1;
    return { key, sinceMs };
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
