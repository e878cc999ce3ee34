import type { Effect } from "../core/effect.ts";
import type { Input, RequestId } from "../core/input.ts";
import type { Replica } from "../core/replica.ts";

/**
 * Feeds one core, one input at a time, and performs its effects in order. An effect that returns a
 * promise holds back everything behind it. Re-entrant feeds are queued, so a step never runs inside
 * another.
 *
 * The queue is bounded by its producers: each client request and stream has at most a bounded
 * number of inputs under way, and who could feed without end waits for `unblocked`.
 */
export class ReplicaLoop {
  readonly #core: Replica;
  readonly #perform: (effect: Effect) => Promise<void> | undefined;
  readonly #afterDrain: () => void;
  readonly #failed: (error: unknown) => void;
  #queue: Input[] = [];
  #draining = false;
  #blocked: Promise<void> | null = null;
  #blockedAtMs = 0;
  readonly #nowMs: () => number;
  #stopped = false;

  constructor(options: {
    readonly core: Replica;
    readonly perform: (effect: Effect) => Promise<void> | undefined;
    /** Called whenever the queue ran empty. */
    readonly afterDrain: () => void;
    readonly failed: (error: unknown) => void;
    /** A clock that never goes back. */
    readonly nowMs: () => number;
  }) {
    this.#nowMs = options.nowMs;
    this.#core = options.core;
    this.#perform = options.perform;
    this.#afterDrain = options.afterDrain;
    this.#failed = options.failed;
  }

  /** For how long one effect has been holding back everything behind it; 0: none does. */
  get blockedMs(): number {
    return this.#blocked === null ? 0 : this.#nowMs() - this.#blockedAtMs;
  }

  /** A promise while an effect holds back what is fed. */
  unblocked(): Promise<void> | undefined {
    return this.#blocked === null ? undefined : this.#whileBlocked();
  }

  async #whileBlocked(): Promise<void> {
    while (this.#blocked !== null) await this.#blocked;
  }

  feed(input: Input): void {
    if (this.#stopped) return;
    // Another one comes soon, with the time that it is then.
    if (input.kind === "tick" && this.#blocked !== null) return;
    this.#queue.push(input);
    this.#drain();
  }

  /** Takes back what was fed with this id; false: the core has it already. */
  withdraw(id: RequestId): boolean {
    const at = this.#queue.findIndex((input) => "id" in input && input.id === id);
    if (at >= 0) this.#queue.splice(at, 1);
    return at >= 0;
  }

  /**
   * Runs `job` while no other input is taken: what it checked stays true until it is done. It may
   * step the core itself. Waits for its turn.
   */
  async exclusive(job: (step: (input: Input) => void) => Promise<void>): Promise<void> {
    while (this.#blocked !== null) await this.#blocked;
    const work = job((input) => this.#performFrom(this.#core.step(input), 0));
    const hold = work
      .catch(() => undefined)
      .then(() => {
        if (this.#blocked === hold) this.#blocked = null;
        this.#drain();
      });
    this.#blocked = hold;
    this.#blockedAtMs = this.#nowMs();
    await work;
  }

  /** No input is taken any more; resolves when the effect under way is done. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#queue = [];
    await this.#blocked;
  }

  #drain(): void {
    if (this.#draining || this.#blocked !== null) return;
    this.#draining = true;
    try {
      let batch = this.#queue;
      while (batch.length > 0 && this.#blocked === null) {
        this.#queue = [];
        for (const [index, input] of batch.entries()) {
          this.#performFrom(this.#core.step(input), 0);
          if (this.#blocked !== null) {
            this.#queue = [...batch.slice(index + 1), ...this.#queue];
            break;
          }
        }
        batch = this.#queue;
      }
      if (this.#blocked === null) this.#afterDrain();
    } catch (error) {
      this.#stopped = true;
      this.#queue = [];
      this.#failed(error);
    } finally {
      this.#draining = false;
    }
  }

  #performFrom(effects: readonly Effect[], start: number): void {
    for (let i = start; i < effects.length; i++) {
      const wait = this.#perform(effects[i] as Effect);
      if (wait === undefined) continue;
      this.#blockedAtMs = this.#nowMs();
      this.#blocked = wait.then(
        () => {
          this.#blocked = null;
          if (this.#stopped) return;
          this.#performFrom(effects, i + 1);
          this.#drain();
        },
        (error: unknown) => {
          this.#blocked = null;
          this.#stopped = true;
          this.#failed(error);
        },
      );
      return;
    }
  }
}
