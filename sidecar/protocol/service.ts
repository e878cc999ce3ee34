/**
 * The gRPC services as plain data: paths, kinds of streaming and codecs. Nothing here needs a
 * gRPC library; `rpc/` and the operator's client hand these to one. Messages are views of the
 * transport's buffers in both directions: whoever keeps decoded bytes longer than the call copies
 * them.
 */
import * as health from "./gen/health.ts";
import * as oxia from "./gen/oxia-client.ts";
import * as own from "./gen/resilver.ts";
import { encodeAppend, encodeSnapshotChunk } from "./hot-codec.ts";

/** One rpc, in the shape gRPC libraries for Node take. */
export interface MethodDefinition<
  Request,
  Response,
  RequestStream extends boolean = boolean,
  ResponseStream extends boolean = boolean,
> {
  /** `/package.Service/Method`. */
  readonly path: string;
  readonly requestStream: RequestStream;
  readonly responseStream: ResponseStream;
  readonly requestSerialize: (message: Request) => Buffer;
  readonly requestDeserialize: (bytes: Buffer) => Request;
  readonly responseSerialize: (message: Response) => Buffer;
  readonly responseDeserialize: (bytes: Buffer) => Response;
}

/** What a generated message type offers. */
interface Codec<T> {
  encode(message: T): { finish(): Uint8Array };
  decode(bytes: Uint8Array): T;
}

/** The same bytes as a Buffer, without a copy. */
export function bufferView(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function serializer<T>(codec: Codec<T>): (message: T) => Buffer {
  return (message) => bufferView(codec.encode(message).finish());
}

function method<Request, Response, In extends boolean, Out extends boolean>(
  path: string,
  request: Codec<Request>,
  response: Codec<Response>,
  streams: { readonly request: In; readonly response: Out },
): MethodDefinition<Request, Response, In, Out> {
  return {
    path,
    requestStream: streams.request,
    responseStream: streams.response,
    requestSerialize: serializer(request),
    requestDeserialize: (bytes) => request.decode(bytes),
    responseSerialize: serializer(response),
    responseDeserialize: (bytes) => response.decode(bytes),
  };
}

const UNARY = { request: false, response: false } as const;
const CLIENT_STREAM = { request: true, response: false } as const;
const SERVER_STREAM = { request: false, response: true } as const;
const BIDIRECTIONAL = { request: true, response: true } as const;

const PUBLIC = "/io.oxia.proto.v1.OxiaClient";

/** The public API, Oxia's (WIRE.md). */
export const OxiaClientService = {
  getShardAssignments: method(
    `${PUBLIC}/GetShardAssignments`,
    oxia.ShardAssignmentsRequest,
    oxia.ShardAssignments,
    SERVER_STREAM,
  ),
  write: method(`${PUBLIC}/Write`, oxia.WriteRequest, oxia.WriteResponse, UNARY),
  writeStream: method(
    `${PUBLIC}/WriteStream`,
    oxia.WriteRequest,
    oxia.WriteResponse,
    BIDIRECTIONAL,
  ),
  read: method(`${PUBLIC}/Read`, oxia.ReadRequest, oxia.ReadResponse, SERVER_STREAM),
  list: method(`${PUBLIC}/List`, oxia.ListRequest, oxia.ListResponse, SERVER_STREAM),
  rangeScan: method(
    `${PUBLIC}/RangeScan`,
    oxia.RangeScanRequest,
    oxia.RangeScanResponse,
    SERVER_STREAM,
  ),
  getSequenceUpdates: method(
    `${PUBLIC}/GetSequenceUpdates`,
    oxia.GetSequenceUpdatesRequest,
    oxia.GetSequenceUpdatesResponse,
    SERVER_STREAM,
  ),
  getNotifications: method(
    `${PUBLIC}/GetNotifications`,
    oxia.NotificationsRequest,
    oxia.NotificationBatch,
    SERVER_STREAM,
  ),
  createSession: method(
    `${PUBLIC}/CreateSession`,
    oxia.CreateSessionRequest,
    oxia.CreateSessionResponse,
    UNARY,
  ),
  keepAlive: method(`${PUBLIC}/KeepAlive`, oxia.SessionHeartbeat, oxia.KeepAliveResponse, UNARY),
  closeSession: method(
    `${PUBLIC}/CloseSession`,
    oxia.CloseSessionRequest,
    oxia.CloseSessionResponse,
    UNARY,
  ),
};

/**
 * The same rpcs under the name that Oxia's released clients call (Java up to 0.9, Python): the
 * messages are equal on the wire, only the protobuf package was named otherwise.
 */
export function underReleasedName<Rpc extends { readonly path: string }>(
  service: Readonly<Record<string, Rpc>>,
): Readonly<Record<string, Rpc>> {
  const renamed = Object.entries(service).map(([name, rpc]) => {
    const path = rpc.path.replace(PUBLIC, "/io.streamnative.oxia.proto.OxiaClient");
    return [name, { ...rpc, path }] as const;
  });
  return Object.fromEntries(renamed);
}

const COORDINATION = "/resilver.v1.Coordination";

/** Operator to sidecar, on the internal port. */
export const CoordinationService = {
  pushShardAssignments: method(
    `${COORDINATION}/PushShardAssignments`,
    oxia.ShardAssignments,
    own.CoordinationShardAssignmentsResponse,
    CLIENT_STREAM,
  ),
  handshake: method(
    `${COORDINATION}/Handshake`,
    own.HandshakeRequest,
    own.HandshakeResponse,
    UNARY,
  ),
  getInfo: method(`${COORDINATION}/GetInfo`, own.GetInfoRequest, own.GetInfoResponse, UNARY),
  openShard: method(`${COORDINATION}/OpenShard`, own.OpenShardRequest, own.ReplicaStatus, UNARY),
  newTerm: method(`${COORDINATION}/NewTerm`, own.NewTermRequest, own.NewTermResponse, UNARY),
  becomeLeader: method(
    `${COORDINATION}/BecomeLeader`,
    own.BecomeLeaderRequest,
    own.BecomeLeaderResponse,
    UNARY,
  ),
  addFollower: method(
    `${COORDINATION}/AddFollower`,
    own.AddFollowerRequest,
    own.AddFollowerResponse,
    UNARY,
  ),
  removeFollower: method(
    `${COORDINATION}/RemoveFollower`,
    own.RemoveFollowerRequest,
    own.RemoveFollowerResponse,
    UNARY,
  ),
  promote: method(`${COORDINATION}/Promote`, own.PromoteRequest, own.PromoteResponse, UNARY),
  updateEnsemble: method(
    `${COORDINATION}/UpdateEnsemble`,
    own.UpdateEnsembleRequest,
    own.UpdateEnsembleResponse,
    UNARY,
  ),
  enrol: method(`${COORDINATION}/Enrol`, own.EnrolRequest, own.EnrolResponse, UNARY),
  getStatus: method(
    `${COORDINATION}/GetStatus`,
    own.GetStatusRequest,
    own.GetStatusResponse,
    UNARY,
  ),
  watchStatus: method(
    `${COORDINATION}/WatchStatus`,
    own.WatchStatusRequest,
    own.NodeStatus,
    SERVER_STREAM,
  ),
  deleteShard: method(
    `${COORDINATION}/DeleteShard`,
    own.DeleteShardRequest,
    own.DeleteShardResponse,
    UNARY,
  ),
  checksum: method(`${COORDINATION}/Checksum`, own.ChecksumRequest, own.ChecksumResponse, UNARY),
};

const REPLICATION = "/resilver.v1.LogReplication";

/** Leader to follower, on the internal port. */
export const LogReplicationService = {
  truncate: method(`${REPLICATION}/Truncate`, own.TruncateRequest, own.TruncateResponse, UNARY),
  replicate: {
    ...method(`${REPLICATION}/Replicate`, own.Append, own.Ack, BIDIRECTIONAL),
    requestSerialize: encodeAppend,
  },
  sendSnapshot: {
    ...method(
      `${REPLICATION}/SendSnapshot`,
      own.SnapshotChunk,
      own.SnapshotResponse,
      BIDIRECTIONAL,
    ),
    requestSerialize: encodeSnapshotChunk,
  },
};

const HEALTH = "/grpc.health.v1.Health";

/** Health checks, on every port. */
export const HealthService = {
  check: method(`${HEALTH}/Check`, health.HealthCheckRequest, health.HealthCheckResponse, UNARY),
  list: method(`${HEALTH}/List`, health.HealthListRequest, health.HealthListResponse, UNARY),
  watch: method(
    `${HEALTH}/Watch`,
    health.HealthCheckRequest,
    health.HealthCheckResponse,
    SERVER_STREAM,
  ),
};
