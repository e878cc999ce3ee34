/**
 * Time, as the sidecar's parts see it. Real in `os/node-clock.ts`, virtual in the simulator.
 * Nothing outside an adapter may use Date, timers or setImmediate.
 */
export interface Clock {
  /**
   * Wall clock in milliseconds since 1970. May jump; used for timestamps people read, never for
   * waits.
   */
  nowMs(): number;
  /** Monotonic milliseconds from an arbitrary start. */
  monotonicMs(): number;
  /** Resolves after `delayMs`; rejects with the signal's reason when it aborts first. */
  sleep(delayMs: number, signal: AbortSignal): Promise<void>;
  /** Calls `fire` once after `delayMs`, unless cancelled. */
  timer(delayMs: number, fire: () => void): Timer;
  /** Lets other work of this process run (a macrotask turn). */
  yield(): Promise<void>;
}

/** A pending call made by {@link Clock.timer}. */
export interface Timer {
  cancel(): void;
}
