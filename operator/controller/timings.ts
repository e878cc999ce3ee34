/** Every wait and bound of the coordinator, in milliseconds unless named otherwise. */
export interface Timings {
  /** A node is asked to report this often, even without news. */
  readonly heartbeatMs: number;
  /** Between two probes of a node. */
  readonly probeIntervalMs: number;
  /** A node that was heard of within this time is not probed: longer than between its reports. */
  readonly probeAfterMs: number;
  readonly probeDeadlineMs: number;
  /** A broken status stream is confirmed by one probe with this deadline. */
  readonly confirmDeadlineMs: number;
  /** No word from a connected node for this long: silent. */
  readonly silentAfterMs: number;
  readonly reconnectMinMs: number;
  readonly reconnectMaxMs: number;
  /** A node that has been away for longer than this is tried again less and less often... */
  readonly reconnectQuickMs: number;
  /** ...down to this, unless the platform says that it is back. */
  readonly reconnectSlowMs: number;
  readonly callDeadlineMs: number;
  readonly newTermDeadlineMs: number;
  /** Waited for further replies once a quorum has answered; longer would show in every failover. */
  readonly electionGraceMs: number;
  readonly becomeLeaderDeadlineMs: number;
  readonly openShardDeadlineMs: number;
  readonly updateEnsembleDeadlineMs: number;
  readonly deleteShardDeadlineMs: number;
  /** A person's order waits for its turn and is carried out within this time. */
  readonly orderDeadlineMs: number;
  /** Status reports may lag behind an answered call for this long. */
  readonly settleMs: number;
  readonly retryMinMs: number;
  readonly retryMaxMs: number;
  /** A shard that is waited for, or that something is wrong with, is planned anew this often. */
  readonly resyncMs: number;
  /** A record that nothing was done with is read anew at least this often. */
  readonly recordResyncMs: number;
  /** A store is left alone for so long before one of its leaderships is handed over for balance. */
  readonly balanceAfterMs: number;
  /** Where that did not help it is twice as long the next time, and so on up to this. */
  readonly balanceAfterMaxMs: number;
}

/** Timings of a coordinator that has a few stores to itself. */
export const DEFAULT_TIMINGS: Timings = Object.freeze({
  heartbeatMs: 500,
  probeIntervalMs: 400,
  probeAfterMs: 700,
  probeDeadlineMs: 1_000,
  confirmDeadlineMs: 150,
  silentAfterMs: 1_500,
  reconnectMinMs: 20,
  reconnectMaxMs: 50,
  reconnectQuickMs: 3_000,
  reconnectSlowMs: 1_000,
  callDeadlineMs: 2_000,
  newTermDeadlineMs: 1_000,
  electionGraceMs: 50,
  becomeLeaderDeadlineMs: 3_000,
  openShardDeadlineMs: 10_000,
  updateEnsembleDeadlineMs: 5_000,
  deleteShardDeadlineMs: 10_000,
  orderDeadlineMs: 15_000,
  settleMs: 500,
  retryMinMs: 50,
  retryMaxMs: 2_000,
  resyncMs: 1_000,
  recordResyncMs: 10_000,
  balanceAfterMs: 30_000,
  balanceAfterMaxMs: 30 * 60_000,
});

/**
 * Timings of one coordinator among a thousand in a process: that each pod lives, and that nobody
 * else changed a record, is most of what it does. Whoever uses these has to tell of changed records
 * ({@link Coordinator.sawRecord}) and of processes that are back ({@link Coordinator.lookAgain}).
 */
export const SHARED_TIMINGS: Timings = Object.freeze({
  ...DEFAULT_TIMINGS,
  heartbeatMs: 1_000,
  // Later than any sign of life that a busy process reads late: a probe opens a channel, which is
  // dear, and a thousand of them keep it busy.
  probeAfterMs: 1_700,
  probeIntervalMs: 300,
  // One probe that is not answered is enough: it ends when the node was silent for long enough.
  probeDeadlineMs: 1_300,
  silentAfterMs: 2_500,
  // A thousand pods that are not there yet would be most of what is called.
  reconnectMaxMs: 100,
  reconnectSlowMs: 10_000,
  recordResyncMs: 60_000,
});
