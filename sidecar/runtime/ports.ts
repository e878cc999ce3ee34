import type { DuplexCall } from "../lib/ports/duplex-call.ts";
import type {
  Ack,
  AddFollowerRequest,
  Append,
  BecomeLeaderRequest,
  BecomeLeaderResponse,
  ChecksumResponse,
  EnrolRequest,
  EnrolResponse,
  NewTermRequest,
  NewTermResponse,
  NodeStatus,
  OpenShardRequest,
  Peer,
  PromoteRequest,
  RemoveFollowerRequest,
  RemoveFollowerResponse,
  ReplicaStatus,
  SnapshotChunk,
  SnapshotResponse,
  TruncateRequest,
  TruncateResponse,
  UpdateEnsembleRequest,
  UpdateEnsembleResponse,
} from "../protocol/gen/resilver.ts";
import type {
  GetRequest,
  GetResponse,
  ListRequest,
  RangeScanRequest,
  WriteRequest,
  WriteResponse,
} from "../protocol/gen/oxia-client.ts";

/** Client side of LogReplication. `address` is host:port of the internal endpoint. */
export interface PeerTransport {
  replicate(address: string, peer: Peer): DuplexCall<Append, Ack>;
  sendSnapshot(address: string, peer: Peer): DuplexCall<SnapshotChunk, SnapshotResponse>;
  close(): Promise<void>;
}

/**
 * What a service calls on one replica. Refusals are thrown as ProtocolError. An order whose signal
 * aborts rejects with its reason and is not waited for any more; what it promised stays promised.
 */
export interface ReplicaHandle {
  newTerm(request: NewTermRequest, signal: AbortSignal): Promise<NewTermResponse>;
  becomeLeader(request: BecomeLeaderRequest, signal: AbortSignal): Promise<BecomeLeaderResponse>;
  addFollower(request: AddFollowerRequest, signal: AbortSignal): Promise<void>;
  removeFollower(
    request: RemoveFollowerRequest,
    signal: AbortSignal,
  ): Promise<RemoveFollowerResponse>;
  promote(request: PromoteRequest, signal: AbortSignal): Promise<void>;
  updateEnsemble(
    request: UpdateEnsembleRequest,
    signal: AbortSignal,
  ): Promise<UpdateEnsembleResponse>;
  enrol(request: EnrolRequest, signal: AbortSignal): Promise<EnrolResponse>;
  truncate(request: TruncateRequest): Promise<TruncateResponse>;
  /** Serves one Replicate stream until it ends. */
  serveReplicate(peer: Peer, call: DuplexCall<Ack, Append>): Promise<void>;
  /** Serves one SendSnapshot stream until it ends. */
  serveSnapshot(peer: Peer, call: DuplexCall<SnapshotResponse, SnapshotChunk>): Promise<void>;

  /**
   * Leader only. `raw` are the bytes of `request` as they came over the wire; they are the log
   * entry. Resolves when committed and applied. Requests of one caller are answered in call order.
   */
  write(request: WriteRequest, raw: Uint8Array): Promise<WriteResponse>;
  /**
   * Leader only: resolves when reads of the state are linearizable as of the call (R15), then read
   * synchronously. Rejects with the signal's reason when it aborts; nothing is left behind then.
   */
  readBarrier(signal: AbortSignal): Promise<void>;
  get(request: GetRequest): GetResponse;
  /**
   * Pages of keys, each within the limits of one message. Abandoning the iterator releases its read
   * view.
   */
  list(request: ListRequest): Iterable<readonly string[]>;
  scan(request: RangeScanRequest): Iterable<readonly GetResponse[]>;

  status(): ReplicaStatus;
  checksum(atLeastOffset: number, signal: AbortSignal): Promise<ChecksumResponse>;
}

/** All replicas of one sidecar process. */
export interface NodeRuntime {
  readonly node: string;
  /** Differs at each start of the process. */
  readonly bootId: number;
  /** Opens (formats when there is no cookie) the named shard; returns its status. */
  openShard(request: OpenShardRequest): Promise<ReplicaStatus>;
  /** Throws SHARD_NOT_FOUND / NAMESPACE_NOT_FOUND. */
  replica(namespace: string, shard: number): ReplicaHandle;
  replicas(): readonly ReplicaHandle[];
  /**
   * `generation` is that of the record by which it goes, 0 where that is not said. Throws
   * STALE_GENERATION for one older than the replica has heard of: what is there may be back since.
   */
  deleteShard(
    namespace: string,
    shard: number,
    term: number,
    storeId: string,
    generation?: number,
  ): Promise<void>;
  status(): NodeStatus;
  /**
   * Why shards that the disks hold are not open: their directories are another replica's, and left
   * alone. Who asks for one of them gets the same answer.
   */
  leftAlone(): readonly string[];
  /**
   * Calls `changed` after any replica's status changed (bounded to 20 per second and replica).
   * Returns the unsubscriber.
   */
  watch(changed: (statuses: readonly ReplicaStatus[]) => void): () => void;
  /**
   * Resolves, never rejects, with what went wrong when a replica's process must end (failed fsync,
   * broken invariant).
   */
  readonly fatal: Promise<Error>;
  /** Stops accepting, drains, syncs, checkpoints, closes. */
  close(): Promise<void>;
}
