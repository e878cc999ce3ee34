/**
 * Every bound of the sidecar in one place. Units are last in the name. A bound that people may
 * change is in `config.ts` and only its default and range are here.
 */
export const LIMITS = Object.freeze({
  /** Largest value of one put. */
  valueBytesMax: 1024 * 1024 * 4 - 64 * 1024,
  /** Longest key. */
  keyBytesMax: 1024,
  /** Longest client identity of a put; each read of the record carries it. */
  clientIdentityBytesMax: 1024,
  /** Largest message of any RPC, both directions. */
  messageBytesMax: 8 * 1024 * 1024,
  /** Largest log entry (one WriteRequest). */
  entryBytesMax: 4 * 1024 * 1024,
  /**
   * Puts, deletes and delete ranges of one request. Each takes far more memory and time than its
   * bytes tell, and the answer must fit into a message.
   */
  writeOperationsMax: 10_000,
  /** Gets of one read: decoding and answering them takes far more than their bytes tell. */
  readGetsMax: 10_000,
  /** HTTP/2 stream and session windows for bulk streams. */
  http2WindowBytes: 8 * 1024 * 1024,
  /** Entries kept decoded for followers that are nearly caught up. */
  entryCacheBytesMax: 8 * 1024 * 1024,
  /** Writes accepted and not yet committed, per shard; beyond: RESOURCE_UNAVAILABLE. */
  pendingWritesMax: 50_000,
  pendingWriteBytesMax: 128 * 1024 * 1024,
  /** Writes of one WriteStream that are not answered yet; beyond, its client waits. */
  writeStreamRequestsMax: 1_024,
  writeStreamBytesMax: 16 * 1024 * 1024,
  /** Reads waiting for a confirmation, per shard. */
  pendingReadsMax: 50_000,
  segmentBytes: 64 * 1024 * 1024,
  /** Memory table of a whole process: beyond it writes wait for the flush. */
  memoryTableBytesMax: 96 * 1024 * 1024,
  /** A checkpoint starts at the latest when this much is dirty, or after checkpointIntervalMs. */
  checkpointBytes: 32 * 1024 * 1024,
  checkpointIntervalMs: 10_000,
  /** One engine transaction of a checkpoint at most; between two of them other work runs. */
  checkpointSliceKeys: 1_000,
  checkpointSliceBytes: 4 * 1024 * 1024,
  /**
   * What the next checkpoint may need of its volume: a redo journal of checkpointBytes, and for the
   * largest transaction a page of 16 KiB for each key, the records' bytes and one large record.
   */
  checkpointRoomBytes: 64 * 1024 * 1024,
  /** What a slice shrinks to when the device is slow. */
  checkpointSliceKeysMin: 250,
  /** How long a slice should keep the device busy: so much later a sync of the log may be. */
  checkpointSliceMs: 20,
  /** Versions remembered by a whole process, so that writes read no disk. */
  versionCacheBytesMax: 24 * 1024 * 1024,
  /** A list or scan that takes longer is ended: it keeps old pages and old entries alive. */
  readViewMsMax: 30_000,
  /** Lists and scans open at once on a shard. */
  readViewsMax: 512,
  /** Requests of reads and pages of their answers that have not left, of a whole process. */
  readBytesMax: 64 * 1024 * 1024,
  /** A reader that takes nothing for so long makes room for others when they need it. */
  readStallMs: 1_000,
  snapshotChunkBytes: 1024 * 1024,
  /** Of a snapshot that is being received: what a killed process transfers again at most. */
  snapshotDurableEveryBytes: 64 * 1024 * 1024,
  /** Of a snapshot that is being received: bytes of one write, and how many are under way. */
  pageWriteBytes: 4 * 1024 * 1024,
  pageWritesAtOnce: 4,
  /** A snapshot is of the last checkpoint, unless more than this was applied since. */
  pinAppliedBytesMax: 1024 * 1024,
  /**
   * Of a framed stream: what is read ahead of its consumer (bulk: of a snapshot), and
   * written ahead of the network. A process has a stream for each shard and peer.
   */
  framedReadBytesMax: 1024 * 1024,
  bulkReadBytesMax: 4 * 1024 * 1024,
  framedWriteBytesMax: 2 * 1024 * 1024,
  /** Largest message of a framed stream without its content. */
  frameHeadBytesMax: 64 * 1024,
  /** Whoever connects and says nothing for so long is disconnected. */
  greetingMs: 10_000,
  snapshotSendersMax: 2,
  /** Until a snapshot that was refused is tried again: each try pins one anew. */
  snapshotRetryMinMs: 1_000,
  snapshotRetryMaxMs: 20_000,
  heartbeatIntervalMs: 100,
  /**
   * A connection that is not made by then goes to where nobody is any more: a pod that was made
   * again has another address, and at the old one nobody refuses. Long enough for one packet lost.
   */
  connectTimeoutMs: 1_500,
  /** Silence after which a peer or leader counts as gone. */
  peerTimeoutMs: 2_000,
  /**
   * Silence after which a coordinator's streams are ended here. One that has too much to do for a
   * while must not find all of its nodes gone: to connect to them anew is more to do still.
   */
  watcherSilenceMs: 30_000,
  /** The longest silence of a WatchStatus stream that asks for no other, and what it may ask. */
  statusHeartbeatMs: 500,
  statusHeartbeatMinMs: 100,
  statusHeartbeatMaxMs: 10_000,
  /** Streams of one connection to a server. */
  streamsPerConnectionMax: 20_000,
  /** Addresses remembered as taking no frames. */
  framesRefusedMax: 10_000,
  /** Connections kept to peers; idle ones are closed beyond it. */
  peerConnectionsMax: 64,
  /** Keys, records or answers; between two messages of one call other work runs. */
  listKeysPerMessageMax: 1_000,
  readBytesPerMessageMax: 2 * 1024 * 1024,
  shutdownMs: 5_000,
});
