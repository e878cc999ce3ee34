/** Waits between attempts: doubling from 10 ms to 500 ms, each between half and all of it. */
export class Backoff {
  private attempts = 0;

  /** Milliseconds to wait before the next attempt. */
  next(): number {
    const full = Math.min(500, 10 * 2 ** Math.min(this.attempts, 10));
    this.attempts += 1;
    // Jitter, so that many clients of a failed leader do not come back in step.
    return full / 2 + (Math.random() * full) / 2;
  }

  /** After a success. */
  reset(): void {
    this.attempts = 0;
  }
}
