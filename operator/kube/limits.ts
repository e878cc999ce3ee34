/** Every bound and wait of the Kubernetes adapter in one place. Units are last in the name. */
export const KUBE_LIMITS = Object.freeze({
  /** One call, from its begin to the last byte of the answer. */
  callDeadlineMs: 10_000,
  /**
   * A connection that nobody uses. API servers end one after 90 s, and a request that is sent at
   * that moment is lost.
   */
  connectionIdleMs: 60_000,
  /** Calls under way; the Lease's and watches come on top. */
  callsAtOnceMax: 32,
  /** Stores whose coordinators begin: each connects to all of its pods and asks for its records. */
  startsAtOnceMax: 32,
  /** The headers of a watch. */
  watchOpenDeadlineMs: 10_000,
  /** Bookmarks come every minute: a watch that is silent for longer is opened anew. */
  watchIdleMs: 90_000,
  /** What a watch is asked to last; spread, so that not all end at once. */
  watchSecondsMin: 300,
  watchSecondsMax: 600,
  /** Everything is listed anew this often, whatever the watch says; at the end of a watch. */
  relistMs: 600_000,
  listPageObjects: 500,
  /** Largest answer or watch event; one object is below 2 MiB. */
  answerBytesMax: 256 * 1024 * 1024,
  watchLineBytesMax: 8 * 1024 * 1024,
  /** Wait before a list or watch is tried again; doubles, spread by half. */
  retryMinMs: 200,
  retryMaxMs: 30_000,
  /** A server that asks for longer is not obeyed. */
  retryAfterMaxMs: 120_000,
  /** Wait before a failed key is tried again; doubles. */
  queueRetryMinMs: 5,
  queueRetryMaxMs: 1_000_000,
  /** The Lease: how long it holds, how long its holder tries to renew it, how often. */
  leaseDurationMs: 15_000,
  leaseRenewMs: 10_000,
  leaseRetryMs: 2_000,
  /** Wait before a store of another operator is looked at again; a fifth shorter at most. */
  otherLookMs: 10_000,
  /** One read of another operator's Lease serves its stores so long; of a free one, less. */
  otherLeaseMs: 8_000,
  freeLeaseMs: 1_000,
  /** So long it has to be free before its stores are taken over: its own processes come first. */
  otherFreeMs: 15_000,
  /** Events that wait to be sent; beyond, the oldest are dropped. */
  eventsWaitingMax: 1_000,
  /** Different events that are remembered, to be counted rather than repeated. */
  eventsRememberedMax: 4_096,
  /** After this long the same event is a new one. */
  eventSeriesMs: 600_000,
  /** Longer notes are refused by the API server. */
  eventNoteLengthMax: 1_024,
});

/** The same names with other values. */
export type KubeLimits = Readonly<Record<keyof typeof KUBE_LIMITS, number>>;
