/**
 * The public API (Oxia's): redirects by NODE_IS_NOT_LEADER, linearizable reads (R15), writes whose
 * raw bytes become the log entry. What is not built yet is refused by name, never half done.
 */
import type { Metadata, ServerWritableStream } from "@grpc/grpc-js";
import { ProtocolError } from "../protocol/errors.ts";
import {
  type GetRequest,
  ListRequest,
  type ListResponse,
  RangeScanRequest,
  type RangeScanResponse,
  ReadRequest,
  type ReadResponse,
  type ShardAssignments,
  type ShardAssignmentsRequest,
  type WriteResponse,
} from "../protocol/gen/oxia-client.ts";
import { OxiaClientService } from "../protocol/service.ts";
import type { NodeRuntime, ReplicaHandle } from "../runtime/ports.ts";
import { refuseUnsupported, refuseUnsupportedRead } from "../state/request-validation.ts";
import type { Assignments } from "./assignments.ts";
import { type DecodedRequest, decodeWrite, type RawWrite, strictly } from "./decoded-request.ts";
import { drained, type HandlerContext, serverStream, unary } from "./handlers.ts";
import type { ReadMemory } from "./read-memory.ts";
import { listPages, readPages, scanPages, writePages, writeView } from "./read-pages.ts";
import { DEFAULT_NAMESPACE, ShardLookup } from "./shard-lookup.ts";
import { handleWriteStream } from "./write-stream.ts";

/** What the service is made of. */
export interface PublicServiceOptions {
  readonly runtime: NodeRuntime;
  readonly assignments: Assignments;
  readonly context: HandlerContext;
  /** One for all that this process serves. */
  readonly reads: ReadMemory;
  /** Aborts when the process stops: streams that would last for ever end then. */
  readonly stopping: AbortSignal;
}

/** The definition to serve: as Oxia's, with requests decoded strictly, writes with their bytes. */
export const PublicServiceDefinition = {
  ...OxiaClientService,
  write: { ...OxiaClientService.write, requestDeserialize: decodeWrite },
  writeStream: { ...OxiaClientService.writeStream, requestDeserialize: decodeWrite },
  read: { ...OxiaClientService.read, requestDeserialize: strictly(ReadRequest, "read") },
  list: { ...OxiaClientService.list, requestDeserialize: strictly(ListRequest, "range") },
  rangeScan: {
    ...OxiaClientService.rangeScan,
    requestDeserialize: strictly(RangeScanRequest, "range"),
  },
};

/** Handlers of {@link PublicServiceDefinition}. */
export function publicService(options: PublicServiceOptions): PublicHandlers {
  const { context, runtime, assignments, reads, stopping } = options;
  const { clock } = context;
  const lookup = new ShardLookup(runtime, assignments);
  const find = (shard: number | undefined, call: Call): ReplicaHandle =>
    lookup.find(shard, call.metadata);
  return {
    getShardAssignments: serverStream<ShardAssignmentsRequest, ShardAssignments>(
      context,
      "GetShardAssignments",
      (call) => followAssignments(call, assignments, stopping),
    ),
    write: unary<RawWrite, WriteResponse>(context, "Write", (write, _signal, metadata) =>
      redirecting(lookup, { metadata }, write.request.shard, () => {
        // First of all: such a request has no shard.
        const { shard } = wellFormed(write);
        const replica = lookup.find(shard, metadata);
        checkWrite(write);
        return replica.write(write.request, write.raw);
      }),
    ),
    writeStream: handleWriteStream({ context, lookup, check: checkWrite, stopping }),
    read: serverStream<DecodedRequest<ReadRequest>, ReadResponse>(context, "Read", (call, signal) =>
      redirecting(lookup, call, call.request.request.shard, async () => {
        const { shard, gets } = wellFormed(call.request);
        const replica = find(shard, call);
        for (const get of gets) checkRead(get);
        const hold = reads.hold(call, call.request.bytes);
        await replica.readBarrier(signal);
        await writePages({ call, hold, clock }, readPages(replica, gets));
      }),
    ),
    list: serverStream<DecodedRequest<ListRequest>, ListResponse>(context, "List", (call, signal) =>
      redirecting(lookup, call, call.request.request.shard, async () => {
        const request = wellFormed(call.request);
        const replica = find(request.shard, call);
        checkRead(request);
        const hold = reads.hold(call, call.request.bytes);
        await replica.readBarrier(signal);
        await writeView({ call, hold, clock }, listPages(replica.list(request)));
      }),
    ),
    rangeScan: serverStream<DecodedRequest<RangeScanRequest>, RangeScanResponse>(
      context,
      "RangeScan",
      (call, signal) =>
        redirecting(lookup, call, call.request.request.shard, async () => {
          const request = wellFormed(call.request);
          const replica = find(request.shard, call);
          checkRead(request);
          const hold = reads.hold(call, call.request.bytes);
          await replica.readBarrier(signal);
          await writeView({ call, hold, clock }, scanPages(replica.scan(request)));
        }),
    ),
    getSequenceUpdates: serverStream(context, "GetSequenceUpdates", () =>
      refuse("sequence keys (GetSequenceUpdates)"),
    ),
    getNotifications: serverStream(context, "GetNotifications", () =>
      refuse("notifications (GetNotifications)"),
    ),
    createSession: unary(context, "CreateSession", () => refuse("sessions (CreateSession)")),
    keepAlive: unary(context, "KeepAlive", () => refuse("sessions (KeepAlive)")),
    closeSession: unary(context, "CloseSession", () => refuse("sessions (CloseSession)")),
  };
}

/** The shape that gRPC's addService takes. */
export interface PublicHandlers {
  readonly [method: string]: (call: never, answer: never) => void;
}

type Call = { readonly metadata: Metadata };

async function refuse(feature: string): Promise<never> {
  throw new ProtocolError("UNIMPLEMENTED", `${feature}: not supported by this version`, {
    feature,
  });
}

async function redirecting<T>(
  lookup: ShardLookup,
  { metadata }: Call,
  shard: number | undefined,
  run: () => Promise<T>,
): Promise<T> {
  try {
    return await run();
  } catch (error) {
    throw lookup.redirect(error, metadata, shard);
  }
}

function checkWrite(write: RawWrite): void {
  const refusal = write.malformed ?? refuseUnsupported(write.request, write.raw.byteLength);
  if (refusal !== null) throw refusal;
}

function wellFormed<T>({ request, malformed }: DecodedRequest<T>): T {
  if (malformed !== null) throw malformed;
  return request;
}

function checkRead(request: GetRequest | ListRequest | RangeScanRequest): void {
  const refusal = refuseUnsupportedRead(request);
  if (refusal !== null) throw refusal;
}

/** Streams a namespace's assignments until the caller goes; a slow caller skips to the latest. */
async function followAssignments(
  call: ServerWritableStream<ShardAssignmentsRequest, ShardAssignments>,
  assignments: Assignments,
  stopping: AbortSignal,
): Promise<void> {
  const name = call.request.namespace === "" ? DEFAULT_NAMESPACE : call.request.namespace;
  let wake: () => void = () => {};
  let sent: ShardAssignments | null = null;
  const unwatch = assignments.watch(() => wake());
  const onEnd = (): void => wake();
  call.on("cancelled", onEnd);
  stopping.addEventListener("abort", onEnd);
  try {
    while (!call.cancelled && !stopping.aborted) {
      if (assignments.latest !== sent) {
        sent = assignments.latest;
        call.write(selectNamespace(assignments, name));
        await drained(call);
        continue;
      }
      if (sent === null) throw notInitialized();
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
  } finally {
    unwatch();
    stopping.removeEventListener("abort", onEnd);
  }
  if (stopping.aborted) throw new ProtocolError("NOT_INITIALIZED", "the sidecar is shutting down");
}

function notInitialized(): ProtocolError {
  return new ProtocolError(
    "NOT_INITIALIZED",
    "no shard assignments yet: the coordinator has not reached this sidecar since it started",
  );
}

function selectNamespace(assignments: Assignments, name: string): ShardAssignments {
  const found = assignments.namespace(name);
  if (found === undefined) {
    const known = Object.keys(assignments.latest?.namespaces ?? {}).join(", ");
    // A store whose first leader is still being elected names no namespace yet.
    if (known === "") throw notInitialized();
    throw new ProtocolError(
      "NAMESPACE_NOT_FOUND",
      `namespace ${JSON.stringify(name)} not found; known: ${known}`,
      { field: "namespace", value: name, allowed: known },
    );
  }
  return {
    namespaces: { [name]: found },
    allowedAuthorities: assignments.latest?.allowedAuthorities ?? [],
  };
}
