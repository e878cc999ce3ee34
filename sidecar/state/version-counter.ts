import { assert } from "../lib/assert.ts";

/**
 * Version ids are below 2^53: the loss epoch in the 8 bits from 2^45 up, a counter below (11 years
 * at 100,000 writes a second). A new loss epoch therefore gives ids above every one that was given
 * up (R6).
 */
const COUNTERS_PER_EPOCH = 2 ** 45;
/** Largest loss epoch. */
const LOSS_EPOCH_MAX = 255;
/** Largest version id. */
export const VERSION_ID_MAX: number = (LOSS_EPOCH_MAX + 1) * COUNTERS_PER_EPOCH - 1;
/**
 * Largest id that a client may ask for. Ids go on above it, so it leaves half of the first loss
 * epoch's range to ordinary writes, and keeps clear of the ranges of later epochs: ids given out
 * there too early would be given out again after a loss (R6).
 */
export const VERSION_OVERRIDE_MAX: number = COUNTERS_PER_EPOCH / 2 - 1;

/** Gives out version ids that grow within a shard. */
export class VersionCounter {
  #next: number;
  #lossEpoch: number;

  constructor(next: number, lossEpoch: number) {
    this.#next = next;
    this.#lossEpoch = 0;
    this.raiseEpoch(lossEpoch);
  }

  /** The id that {@link take} gives out next. */
  get next(): number {
    return this.#next;
  }

  get lossEpoch(): number {
    return this.#lossEpoch;
  }

  /**
   * Takes the next id, or `wanted`, after which ids go on above it. Null when there is none: logs
   * of earlier builds may hold an override of the largest id. That is no broken invariant, or one
   * write would end every replica, at each start again.
   */
  take(wanted: number | undefined): number | null {
    const id = wanted ?? this.#next;
    if (id < 0 || id > VERSION_ID_MAX) return null;
    if (id >= this.#next) this.#next = id + 1;
    return id;
  }

  /** Moves to a loss epoch; an older or equal one changes nothing. */
  raiseEpoch(lossEpoch: number): void {
    assert(
      lossEpoch >= 0 && lossEpoch <= LOSS_EPOCH_MAX,
      `loss epoch ${lossEpoch} is not within 0..${LOSS_EPOCH_MAX}`,
    );
    this.#lossEpoch = Math.max(this.#lossEpoch, lossEpoch);
    this.#next = Math.max(this.#next, this.#lossEpoch * COUNTERS_PER_EPOCH);
  }
}
