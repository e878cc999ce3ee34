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

/** What is kept for the sake of a snapshot (R17). */
export interface HeldSnapshot {
  /** The log after this offset. */
  readonly offset: Offset;
  /** Every page of the state as it was: about so many bytes. */
  readonly stateBytes: number;
}

/** A sender's turn with a pinned snapshot. Exactly one `release` ends it. */
export interface PinLease {
  /** The same for as long as this pin is kept. */
  readonly snapshotId: string;
  readonly source: SnapshotSource;
  /**
   * `keep`: the transfer broke and may go on, so the pin stays for the grace time: for so long in
   * all that nobody sends it, since the receiver verified more than before. One that was restarted
   * and begins lower does so too, a few times: who only begins again and again does not hold it.
   */
  release(options: ReleaseOptions): Promise<void>;
}

interface ReleaseOptions {
  readonly keep: boolean;
  /** Content that the receiver has, from the snapshot's start. */
  readonly bytesVerified: number;
}

interface Pin {
  readonly snapshotId: string;
  readonly source: PinnedSource;
  inUse: boolean;
  grace: Timer | null;
  /** What the receiver had at the end of the last attempt, and of any. */
  bytesVerified: number;
  mostVerified: number;
  /** Time without a sender since there was progress, before the present or last turn. */
  idleMs: number;
  idleSinceMs: number | null;
  /** How often the receiver had less than before. */
  setBacks: number;
}

/** Restarts of a receiver whose stage was lost by them, beyond which its attempts do not count. */
const SET_BACKS_MAX = 3;

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

  /** What a kept snapshot of `target` needs; null when there is none. */
  held(target: string): HeldSnapshot | null {
    const source = this.#pins.get(target)?.source;
    if (source === undefined) return null;
    return { offset: source.position.offset, stateBytes: source.forms[0]?.bytes ?? 0 };
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
      const snapshotId = this.#random.uid();
      const progress = { bytesVerified: 0, mostVerified: 0, idleMs: 0, idleSinceMs: null };
      const made: Pin = { snapshotId, source, inUse: false, grace: null, ...progress, setBacks: 0 };
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
    if (pin.idleSinceMs !== null) pin.idleMs += this.#clock.monotonicMs() - pin.idleSinceMs;
    const { snapshotId, source } = pin;
    return { snapshotId, source, release: (options) => this.#giveBack(target, pin, options) };
  }

  async #giveBack(target: string, pin: Pin, options: ReleaseOptions): Promise<void> {
    assert(pin.inUse, `the snapshot for ${target} was given back twice`);
    pin.inUse = false;
    this.#endTurn();
    pin.idleSinceMs = this.#clock.monotonicMs();
    const { bytesVerified } = options;
    if (bytesVerified < pin.bytesVerified) pin.setBacks += 1;
    const isElsewhere = bytesVerified !== pin.bytesVerified && pin.setBacks <= SET_BACKS_MAX;
    if (isElsewhere || bytesVerified > pin.mostVerified) pin.idleMs = 0;
    pin.bytesVerified = bytesVerified;
    pin.mostVerified = Math.max(pin.mostVerified, bytesVerified);
    const leftMs = this.#graceMs - pin.idleMs;
    if (!options.keep || this.#closed || leftMs <= 0) return this.#release(target, pin);
    pin.grace = this.#clock.timer(leftMs, () => {
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
