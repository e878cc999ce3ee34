import { assert } from "../lib/assert.ts";
import type { Clock, Timer } from "../lib/ports/clock.ts";
import type { Random } from "../lib/ports/random.ts";
import type { Offset } from "../protocol/entry.ts";
import { ProtocolError } from "../protocol/errors.ts";
import type { SnapshotSource } from "./source.ts";

/** A source that holds a read view open until it is released. */
export interface PinnedSource extends SnapshotSource {
  release(): Promise<void>;
}

/** A sender's turn with a pinned snapshot. Exactly one `release` ends it. */
export interface PinLease {
  /** The same for as long as this pin is kept. */
  readonly snapshotId: string;
  readonly source: SnapshotSource;
  /** `keep`: the transfer broke and may go on, so the pin stays for the grace time. */
  release(options: { readonly keep: boolean }): Promise<void>;
}

interface Pin {
  readonly snapshotId: string;
  readonly source: PinnedSource;
  inUse: boolean;
  grace: Timer | null;
}

interface Waiter {
  readonly start: () => void;
}

/**
 * The pinned snapshots of a process, one per target, and the turns to send them. A broken transfer
 * finds the same snapshot again (ids stay equal, so it resumes), and no more than `sendersMax` go
 * at a time; the others wait in order, at most `waitingMax` of them.
 */
export class SnapshotPins {
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #graceMs: number;
  readonly #sendersMax: number;
  readonly #waitingMax: number;
  readonly #pins = new Map<string, Pin>();
  /** Targets whose pin is being made. */
  readonly #pinning = new Set<string>();
  readonly #waiting: Waiter[] = [];
  readonly #releases = new Set<Promise<void>>();
  #sending = 0;
  #closed = false;

  constructor(options: {
    readonly clock: Clock;
    readonly random: Random;
    /** How long a pin outlives a broken transfer. */
    readonly graceMs: number;
    readonly sendersMax: number;
    readonly waitingMax: number;
  }) {
    this.#clock = options.clock;
    this.#random = options.random;
    this.#graceMs = options.graceMs;
    this.#sendersMax = options.sendersMax;
    this.#waitingMax = options.waitingMax;
  }

  /**
   * Waits for a turn, then gives the snapshot kept for `target` (shard and replica uid), or a new
   * one from `pin`. Rejects with RESOURCE_UNAVAILABLE when too many wait, the signal's reason, or
   * `pin`'s error.
   */
  async acquire(
    target: string,
    pin: () => Promise<PinnedSource>,
    signal: AbortSignal,
  ): Promise<PinLease> {
    signal.throwIfAborted();
    if (this.#closed) throw closedError();
    await this.#turn(signal);
    try {
      const kept = this.#pins.get(target);
      if (kept?.inUse === true || this.#pinning.has(target)) {
        throw new ProtocolError(
          "RESOURCE_CONFLICT",
          `a snapshot is being sent to ${target} already`,
        );
      }
      return this.#lease(target, kept ?? (await this.#pin(target, pin)));
    } catch (error) {
      this.#endTurn();
      throw error;
    }
  }

  /**
   * The lowest offset that a kept snapshot of `target` needs the log after; null when there is none
   * (R17).
   */
  heldOffset(target: string): Offset | null {
    return this.#pins.get(target)?.source.position.offset ?? null;
  }

  /**
   * Forgets a snapshot that nobody is sending: its target is gone, or its log grew too long (R17).
   */
  async drop(target: string): Promise<void> {
    const pin = this.#pins.get(target);
    if (pin !== undefined && !pin.inUse) await this.#release(target, pin);
  }

  /** Ends the waiting and releases every kept pin; leases in use are released by their holders. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const waiter of this.#waiting.splice(0)) waiter.start();
    for (const [target, pin] of [...this.#pins]) {
      if (!pin.inUse) await this.#release(target, pin);
    }
    await Promise.all(this.#releases);
  }

  async #pin(target: string, pin: () => Promise<PinnedSource>): Promise<Pin> {
    this.#pinning.add(target);
    try {
      const source = await pin();
      if (this.#closed) {
        await source.release();
        throw closedError();
      }
      const made: Pin = { snapshotId: this.#random.uid(), source, inUse: false, grace: null };
      this.#pins.set(target, made);
      return made;
    } finally {
      this.#pinning.delete(target);
    }
  }

  #lease(target: string, pin: Pin): PinLease {
    pin.grace?.cancel();
    pin.grace = null;
    pin.inUse = true;
    const { snapshotId, source } = pin;
    return { snapshotId, source, release: ({ keep }) => this.#giveBack(target, pin, keep) };
  }

  async #giveBack(target: string, pin: Pin, keep: boolean): Promise<void> {
    assert(pin.inUse, `the snapshot for ${target} was given back twice`);
    pin.inUse = false;
    this.#endTurn();
    if (!keep || this.#closed || this.#graceMs === 0) return this.#release(target, pin);
    pin.grace = this.#clock.timer(this.#graceMs, () => {
      const released = this.#release(target, pin).catch(() => undefined);
      this.#releases.add(released);
      void released.then(() => this.#releases.delete(released));
    });
  }

  async #release(target: string, pin: Pin): Promise<void> {
    pin.grace?.cancel();
    if (this.#pins.get(target) === pin) this.#pins.delete(target);
    await pin.source.release();
  }

  async #turn(signal: AbortSignal): Promise<void> {
    if (this.#sending < this.#sendersMax) {
      this.#sending++;
      return;
    }
    if (this.#waiting.length >= this.#waitingMax) {
      throw new ProtocolError(
        "RESOURCE_UNAVAILABLE",
        `${this.#waiting.length} snapshots wait to be sent, allowed: ${this.#waitingMax}`,
      );
    }
    await new Promise<void>((resolve, reject) => {
      const onAbort = (): void => {
        this.#waiting.splice(this.#waiting.indexOf(waiter), 1);
        reject(signal.reason as Error);
      };
      const waiter: Waiter = {
        start: () => {
          signal.removeEventListener("abort", onAbort);
          if (this.#closed) reject(closedError());
          else resolve();
        },
      };
      signal.addEventListener("abort", onAbort, { once: true });
      this.#waiting.push(waiter);
    });
  }

  /** Hands the turn to the next in line, or frees it. */
  #endTurn(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#sending--;
    else next.start();
  }
}

function closedError(): ProtocolError {
  return new ProtocolError("RESOURCE_UNAVAILABLE", "this process is shutting down");
}
