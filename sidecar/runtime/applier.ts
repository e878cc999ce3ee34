import type { Clock } from "../lib/ports/clock.ts";
import type { LogEntry, Offset } from "../protocol/entry.ts";
import type { WriteResponse } from "../protocol/gen/oxia-client.ts";
import type { MemoryBudget } from "../state/memory-budget.ts";
import type { ShardState } from "../state/shard-state.ts";
import type { LogReader } from "./log-reader.ts";

/** Work between two yields, so that applying a backlog does not hold up heartbeats. */
const SLICE_MS = 8;

/** What the applier needs; `applied` and `outcome` are called synchronously. */
export interface ApplierOptions {
  readonly state: ShardState;
  readonly reader: LogReader;
  readonly budget: MemoryBudget;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  /** Each entry's result, in offset order. */
  outcome(offset: Offset, response: WriteResponse | null): void;
  /** The state holds everything up to here. */
  applied(offset: Offset): void;
}

interface Waiter {
  readonly offset: Offset;
  readonly wake: () => void;
}

/**
 * Applies committed entries in offset order: at once when they are cached and memory allows, else
 * in the background, waiting for the memory budget. One loop at a time.
 */
export class Applier {
  readonly #options: ApplierOptions;
  #target: Offset;
  #running: Promise<void> | null = null;
  /** An entry that takes more than one turn; `#run` waits for it. */
  #unfinished: Promise<void> | null = null;
  #waiters: Waiter[] = [];

  /** `before` was the applier of the state that this one replaces: who waited there waits here. */
  constructor(options: ApplierOptions, before: Applier | null) {
    this.#options = options;
    this.#target = options.state.applied.offset;
    const waiting = before === null ? [] : before.#waiters;
    for (const { offset, wake } of waiting) this.whenApplied(offset, wake);
  }

  get appliedOffset(): Offset {
    return this.#options.state.applied.offset;
  }

  /**
   * Entries up to `offset` are committed and durable. Errors of the loop go to `failed`, unless it
   * was stopped.
   */
  advance(offset: Offset, failed: (error: unknown) => void): void {
    if (offset <= this.#target) return;
    this.#target = offset;
    if (this.#running !== null) return;
    this.#applyCached();
    if (this.appliedOffset >= this.#target) return;
    this.#running = this.#run()
      .catch((error: unknown) => {
        if (!this.#options.signal.aborted) failed(error);
      })
      .finally(() => {
        this.#running = null;
      });
  }

  /** Calls `wake` once `offset` is applied. */
  whenApplied(offset: Offset, wake: () => void): void {
    if (this.appliedOffset >= offset) wake();
    else this.#waiters.push({ offset, wake });
  }

  /** `wake` is not called any more. */
  forget(wake: () => void): void {
    this.#waiters = this.#waiters.filter((waiter) => waiter.wake !== wake);
  }

  /** How many wait for an entry to be applied. */
  get waiting(): number {
    return this.#waiters.length;
  }

  /** Resolves when nothing is being applied; nothing more is, unless `advance` is called. */
  async idle(): Promise<void> {
    this.#target = this.appliedOffset;
    await this.#running;
  }

  #applyCached(): void {
    const { reader, budget, clock } = this.#options;
    const until = clock.monotonicMs() + SLICE_MS;
    const before = this.appliedOffset;
    while (this.appliedOffset < this.#target && !budget.full) {
      const entry = reader.cached(this.appliedOffset + 1);
      if (entry === undefined || clock.monotonicMs() > until) break;
      this.#unfinished = this.#apply(entry) ?? null;
      if (this.#unfinished !== null) break;
    }
    this.#report(before);
  }

  async #run(): Promise<void> {
    const { reader, budget, clock, signal } = this.#options;
    for (;;) {
      await this.#finishEntry();
      if (this.appliedOffset >= this.#target) return;
      await budget.admit(signal);
      const entries = await reader.read(this.appliedOffset + 1);
      const before = this.appliedOffset;
      for (const entry of entries) {
        if (entry.offset > this.#target || budget.full) break;
        await this.#apply(entry);
      }
      this.#report(before);
      this.#applyCached();
      await clock.yield();
      signal.throwIfAborted();
    }
  }

  /** A promise while it takes further turns; nothing is applied before that is done. */
  #apply(entry: LogEntry): Promise<void> | undefined {
    const response = this.#options.state.applyInTurns(entry);
    if (!(response instanceof Promise)) {
      this.#options.outcome(entry.offset, response);
      return undefined;
    }
    return response.then((late) => this.#options.outcome(entry.offset, late));
  }

  /** Waits for the entry that `applyCached` left unfinished. */
  async #finishEntry(): Promise<void> {
    const unfinished = this.#unfinished;
    if (unfinished === null) return;
    this.#unfinished = null;
    const before = this.appliedOffset;
    await unfinished;
    this.#report(before);
  }

  #report(before: Offset): void {
    const applied = this.appliedOffset;
    if (applied === before) return;
    this.#options.applied(applied);
    if (this.#waiters.length === 0) return;
    const due = this.#waiters.filter((waiter) => waiter.offset <= applied);
    this.#waiters = this.#waiters.filter((waiter) => waiter.offset > applied);
    for (const { wake } of due) wake();
  }
}
