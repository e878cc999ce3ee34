const STOP_SIGNALS = ["SIGTERM", "SIGINT"] as const;

/** What people and Kubernetes send to end the process. */
export type StopSignal = (typeof STOP_SIGNALS)[number];

/**
 * Resolves with the first stop signal that arrives. Later ones are ignored: shutting down has
 * its own deadline, and an impatient second Ctrl-C must not skip the final sync. Takes over from
 * whoever listened before: the launcher, which ends the process at once while nothing is open.
 */
export function stopSignal(): Promise<StopSignal> {
  return new Promise((resolve) => {
    for (const signal of STOP_SIGNALS) {
      const before = process.listeners(signal);
      // First: without any listener in between a signal would end the process, or be lost.
      process.on(signal, () => resolve(signal));
      for (const listener of before) process.off(signal, listener);
    }
  });
}
