/**
 * What the coordinator needs from a platform. Implemented by `local`, `kube`, `sidecar-client` and
 * the simulator.
 */
import type {
  AddFollowerRequest,
  BecomeLeaderRequest,
  BecomeLeaderResponse,
  DeleteShardRequest,
  EnrolRequest,
  GetInfoResponse,
  NewTermRequest,
  NewTermResponse,
  NodeStatus,
  OpenShardRequest,
  PromoteRequest,
  RemoveFollowerRequest,
  RemoveFollowerResponse,
  ReplicaStatus,
  UpdateEnsembleRequest,
  UpdateEnsembleResponse,
  WatchStatusRequest,
} from "../../sidecar/protocol/gen/resilver.ts";
import type { ShardAssignments } from "../../sidecar/protocol/gen/oxia-client.ts";
import type { ClaimUids } from "../core/observed.ts";
import type { ShardKey, ShardRecord } from "../core/record.ts";

/** One pod, or one local process. Addresses are host:port. */
export interface NodeEndpoint {
  readonly node: string;
  readonly internalAddress: string;
  readonly publicAddress: string;
}

/** One namespace of a store. */
export interface NamespaceSpec {
  readonly name: string;
  readonly shards: number;
  /** Absent: the largest odd number up to the number of nodes. */
  readonly replicationFactor?: number;
  readonly keySorting: "natural" | "hierarchical";
  readonly notifications: boolean;
}

/** What a person asked for. */
export interface StoreSpec {
  /** Made once with the store; a volume of another store is refused. */
  readonly storeId: string;
  readonly nodes: readonly NodeEndpoint[];
  readonly namespaces: readonly NamespaceSpec[];
}

/** A record and the version it was read at. */
export interface StoredRecord {
  readonly record: ShardRecord;
  /** Opaque; differs after each change. */
  readonly version: string;
}

/** The record is no longer at the version that was to be replaced (R18). */
export class RecordConflict extends Error {
  override readonly name = "RecordConflict";
}

/**
 * Keeps records. A change that resolved is durable. One that rejected with anything but
 * RecordConflict may or may not have happened: read again.
 */
export interface RecordStore {
  /** Uncached. Null: there is none. Throws RecordInvalid for one that cannot be believed. */
  read(key: ShardKey, signal: AbortSignal): Promise<StoredRecord | null>;
  /** Throws RecordConflict when there is one already. */
  create(record: ShardRecord, signal: AbortSignal): Promise<StoredRecord>;
  /** Compare-and-swap. Throws RecordConflict. */
  replace(record: ShardRecord, version: string, signal: AbortSignal): Promise<StoredRecord>;
}

/** A bound for one call. */
export interface CallOptions {
  readonly deadlineMs: number;
  readonly signal: AbortSignal;
}

/**
 * The call did not get an answer from the sidecar: connection refused or broken, or the deadline
 * passed.
 */
export class CallFailed extends Error {
  override readonly name = "CallFailed";
  readonly node: string;
  readonly timedOut: boolean;
  constructor(node: string, message: string, timedOut: boolean, cause?: unknown) {
    super(message, { cause });
    this.node = node;
    this.timedOut = timedOut;
  }
}

/**
 * Calls to sidecars. Refusals are thrown as ProtocolError, everything else as CallFailed; when the
 * signal is aborted, its reason is thrown.
 */
export interface SidecarClient {
  openShard(to: NodeEndpoint, request: OpenShardRequest, call: CallOptions): Promise<ReplicaStatus>;
  newTerm(to: NodeEndpoint, request: NewTermRequest, call: CallOptions): Promise<NewTermResponse>;
  becomeLeader(
    to: NodeEndpoint,
    request: BecomeLeaderRequest,
    call: CallOptions,
  ): Promise<BecomeLeaderResponse>;
  addFollower(to: NodeEndpoint, request: AddFollowerRequest, call: CallOptions): Promise<void>;
  removeFollower(
    to: NodeEndpoint,
    request: RemoveFollowerRequest,
    call: CallOptions,
  ): Promise<RemoveFollowerResponse>;
  promote(to: NodeEndpoint, request: PromoteRequest, call: CallOptions): Promise<void>;
  updateEnsemble(
    to: NodeEndpoint,
    request: UpdateEnsembleRequest,
    call: CallOptions,
  ): Promise<UpdateEnsembleResponse>;
  enrol(to: NodeEndpoint, request: EnrolRequest, call: CallOptions): Promise<void>;
  deleteShard(to: NodeEndpoint, request: DeleteShardRequest, call: CallOptions): Promise<void>;
  getInfo(to: NodeEndpoint, call: CallOptions): Promise<GetInfoResponse>;
  /** Ends only by throwing: CallFailed, or the signal's reason. */
  watchStatus(
    to: NodeEndpoint,
    request: WatchStatusRequest,
    signal: AbortSignal,
  ): AsyncIterable<NodeStatus>;
  /**
   * Sends each of `updates` until that ends, the connection breaks (CallFailed) or the signal
   * aborts.
   */
  pushAssignments(
    to: NodeEndpoint,
    updates: AsyncIterable<ShardAssignments>,
    signal: AbortSignal,
  ): Promise<void>;
  close(): Promise<void>;
}

/** What only the platform knows. */
export interface Platform {
  /** True when the node's process is confirmed to be gone and will not come back by itself. */
  isStopped(node: string, signal: AbortSignal): Promise<boolean>;
  /**
   * True while a volume of the node is being deleted: what would be rebuilt on it would go with it.
   * Absent: volumes of this platform are never deleted so.
   */
  isVolumeTerminating?(node: string): boolean;
  /**
   * Uids of the claims that the node's running process has its data on; null where that cannot be
   * said. Absent: this platform has no claims.
   */
  claims?(node: string): ClaimUids | null;
}
