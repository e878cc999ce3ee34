const STOP_SIGNALS = ["SIGTERM", "SIGINT"] as const;

/** What people and Kubernetes send to end the process. */
export type StopSignal = (typeof STOP_SIGNALS)[number];

/**
 * Resolves with the first stop signal that arrives. Later ones are ignored: shutting down has
 * its own deadline, and an impatient second Ctrl-C must not skip the final sync.
 */
export function stopSignal(): Promise<StopSignal> {
  return new Promise((resolve) => {
    for (const signal of STOP_SIGNALS) process.on(signal, () => resolve(signal));
  });
}
