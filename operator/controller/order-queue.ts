import type { Clock } from "../../sidecar/lib/ports/clock.ts";
import { OrderTimeout } from "./order-timeout.ts";
import { childAbort, type Wake } from "./wake.ts";

const ORDERS_MAX = 16;

/** A person's change of the record that waits for its turn; never rejects. */
type Order = () => Promise<void>;

/** People's changes of a record, which wait for their turn with what the shard's loop does. */
export class OrderQueue {
  readonly #clock: Clock;
  readonly #deadlineMs: number;
  readonly #wake: Wake;
  readonly #orders: Order[] = [];

  /** `wake` is notified when there is something to {@link take}. */
  constructor(clock: Clock, deadlineMs: number, wake: Wake) {
    this.#clock = clock;
    this.#deadlineMs = deadlineMs;
    this.#wake = wake;
  }

  /** The next one to carry out; null: none waits. */
  take(): Order | null {
    return this.#orders.shift() ?? null;
  }

  /** Has `change` done when its turn comes. It is over, one way or another, within a bound. */
  add(signal: AbortSignal, change: (bounded: AbortSignal) => Promise<void>): Promise<void> {
    const { controller, unlink } = childAbort(signal);
    const bounded = controller.signal;
    const timer = this.#clock.timer(this.#deadlineMs, () => {
      const waits = this.#orders.includes(order);
      controller.abort(new OrderTimeout(this.#deadlineMs, waits));
    });
    let order: Order = () => Promise.resolve();
    const done = new Promise<void>((resolve, reject) => {
      if (this.#orders.length >= ORDERS_MAX) {
        throw new RangeError("too many orders are waiting; try again");
      }
      bounded.addEventListener("abort", () => {
        const at = this.#orders.indexOf(order);
        if (at !== -1) this.#orders.splice(at, 1);
        reject(bounded.reason as Error);
      });
      order = () => change(bounded).then(resolve, reject);
      this.#orders.push(order);
      this.#wake.notify();
    });
    return done.finally(() => {
      timer.cancel();
      unlink();
    });
  }
}
