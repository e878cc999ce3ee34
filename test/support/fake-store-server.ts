import {
  Metadata,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServerWritableStream,
  status,
} from "@grpc/grpc-js";
import { hierarchicalOrder } from "../../operator/sidecar-client/key-order.ts";
import { DETAILS_KEY, encodeErrorDetail } from "../../sidecar/protocol/error-detail.ts";
import { ProtocolError } from "../../sidecar/protocol/errors.ts";
import {
  type GetResponse,
  type ListRequest,
  type PutRequest,
  type PutResponse,
  type RangeScanRequest,
  type ReadRequest,
  type ShardAssignments,
  type ShardAssignmentsRequest,
  Status,
  type WriteRequest,
  type WriteResponse,
} from "../../sidecar/protocol/gen/oxia-client.ts";
import { OxiaClientService } from "../../sidecar/protocol/service.ts";

interface Stored {
  readonly value: Uint8Array;
  readonly versionId: number;
}

/** What the server does with the next request of writes; "silent" is for all, reads too. */
export type WriteFault =
  | "none"
  | "refuse"
  | "full"
  | "overload"
  | "applyThenBreak"
  | "applyThenStepDown"
  | "applyThenExhaust"
  | "breakFirst"
  | "invalid"
  | "silent";

/** Shared contents of several fake servers: shard by shard, and who leads each. */
export class FakeStore {
  readonly shards: Map<string, Stored>[];
  readonly leaders: string[];
  readonly watchers = new Set<() => void>();
  /** One WriteRequest each, in the order they were applied. */
  readonly applied: WriteRequest[] = [];
  private version = 0;

  constructor(shards: number) {
    this.shards = Array.from({ length: shards }, () => new Map<string, Stored>());
    this.leaders = this.shards.map(() => "");
  }

  setLeader(shard: number, address: string): void {
    this.leaders[shard] = address;
    for (const watcher of this.watchers) watcher();
  }

  apply(request: WriteRequest): WriteResponse {
    this.applied.push(request);
    const records = this.records(request.shard);
    const puts = request.puts.map((put) => this.put(records, put));
    const deletes = request.deletes.map(({ key }) => ({
      status: records.delete(key) ? Status.OK : Status.KEY_NOT_FOUND,
    }));
    const deleteRanges = request.deleteRanges.map(({ startInclusive, endExclusive }) => {
      for (const key of this.range(request.shard, startInclusive, endExclusive))
        records.delete(key);
      return { status: Status.OK };
    });
    return { puts, deletes, deleteRanges };
  }

  read(shard: number | undefined, key: string): GetResponse {
    const found = this.records(shard).get(key);
    if (found === undefined) return { status: Status.KEY_NOT_FOUND, version: undefined };
    return { status: Status.OK, version: versionOf(found.versionId), value: found.value, key };
  }

  range(shard: number | undefined, start: string, end: string): string[] {
    return [...this.records(shard).keys()]
      .filter((key) => hierarchicalOrder(key, start) >= 0)
      .filter((key) => end === "" || hierarchicalOrder(key, end) < 0)
      .sort(hierarchicalOrder);
  }

  private records(shard: number | undefined): Map<string, Stored> {
    const records = this.shards[shard ?? -1];
    if (records === undefined) throw new Error(`no shard ${shard}`);
    return records;
  }

  private put(records: Map<string, Stored>, request: PutRequest): PutResponse {
    const expected = request.expectedVersionId;
    if (expected !== undefined && expected !== (records.get(request.key)?.versionId ?? -1)) {
      return { status: Status.UNEXPECTED_VERSION_ID, version: undefined };
    }
    this.version += 1;
    records.set(request.key, { value: Buffer.from(request.value), versionId: this.version });
    return { status: Status.OK, version: versionOf(this.version) };
  }
}

/** Longer keys are refused. */
const KEY_LENGTH_MAX = 1_024;

/** One server of the public API, just true enough to test a client against. */
export class FakeStoreServer {
  readonly store: FakeStore;
  fault: WriteFault = "none";
  /** Faults of the requests after the next one. */
  later: WriteFault[] = [];
  /** Answers of reads that are held back; null: reads are answered at once. */
  heldReads: (() => void)[] | null = null;
  /** A list or scan with more pages, of a record each, is ended after so many of them. */
  pagesMax = Number.POSITIVE_INFINITY;
  /** Lists and scans that were ended so. */
  interrupted = 0;
  /** Called for each request that "silent" leaves without an answer. */
  asked: () => void = () => undefined;
  address = "";
  assignmentStreams = 0;
  private readonly server = new Server({ "grpc.max_receive_message_length": -1 });

  constructor(store: FakeStore) {
    this.store = store;
  }

  async start(): Promise<void> {
    this.server.addService(
      {
        getShardAssignments: OxiaClientService.getShardAssignments,
        writeStream: OxiaClientService.writeStream,
        read: OxiaClientService.read,
        list: OxiaClientService.list,
        rangeScan: OxiaClientService.rangeScan,
      },
      {
        getShardAssignments: (
          call: ServerWritableStream<ShardAssignmentsRequest, ShardAssignments>,
        ) => this.assignments(call),
        writeStream: (call: ServerDuplexStream<WriteRequest, WriteResponse>) => this.writes(call),
        read: (call: ServerWritableStream<ReadRequest, unknown>) => {
          const { shard, gets } = call.request;
          if (this.refused(call, shard)) return;
          if (gets.some(({ key }) => key.length > KEY_LENGTH_MAX)) {
            fail(call, new ProtocolError("INVALID_ARGUMENT", "long"), status.INVALID_ARGUMENT);
            return;
          }
          const answer = () => {
            call.write({ gets: gets.map(({ key }) => this.store.read(shard, key)) });
            call.end();
          };
          if (this.heldReads === null) answer();
          else this.heldReads.push(answer);
        },
        list: (call: ServerWritableStream<ListRequest, unknown>) => {
          const { shard, startInclusive, endExclusive } = call.request;
          if (this.refused(call, shard)) return;
          const keys = this.store.range(shard, startInclusive, endExclusive);
          this.pages(
            call,
            keys.map((key) => ({ keys: [key] })),
          );
        },
        rangeScan: (call: ServerWritableStream<RangeScanRequest, unknown>) => {
          const { shard, startInclusive, endExclusive } = call.request;
          if (this.refused(call, shard)) return;
          const keys = this.store.range(shard, startInclusive, endExclusive);
          this.pages(
            call,
            keys.map((key) => ({ records: [this.store.read(shard, key)] })),
          );
        },
      },
    );
    const port = await new Promise<number>((resolve, reject) => {
      this.server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) =>
        error === null ? resolve(bound) : reject(error),
      );
    });
    this.address = `127.0.0.1:${port}`;
  }

  stop(): void {
    this.server.forceShutdown();
  }

  private assignments(call: ServerWritableStream<ShardAssignmentsRequest, ShardAssignments>): void {
    this.assignmentStreams += 1;
    const send = () => {
      const count = this.store.shards.length;
      const width = Math.floor(0x1_0000_0000 / count);
      const assignments = this.store.leaders.map((leader, shard) => ({
        shard,
        leader,
        shardBoundaries: {
          $case: "int32HashRange" as const,
          value: {
            minHashInclusive: shard * width,
            maxHashInclusive: shard === count - 1 ? 0xffff_ffff : (shard + 1) * width - 1,
          },
        },
      }));
      const namespaces = { [call.request.namespace]: { assignments, shardKeyRouter: 1 as const } };
      call.write({ namespaces, allowedAuthorities: [] });
    };
    send();
    this.store.watchers.add(send);
    call.on("cancelled", () => this.store.watchers.delete(send));
  }

  private writes(call: ServerDuplexStream<WriteRequest, WriteResponse>): void {
    call.on("error", () => undefined);
    call.on("data", (request: WriteRequest) => {
      const fault = this.fault;
      if (fault === "silent") {
        this.asked();
        return;
      }
      this.fault = this.later.shift() ?? "none";
      if (fault === "refuse" || this.store.leaders[request.shard ?? -1] !== this.address) {
        this.refuse(call, request.shard);
      } else if (fault === "invalid") {
        fail(call, new ProtocolError("INVALID_ARGUMENT", "bad value"), status.INVALID_ARGUMENT);
      } else if (fault === "full") {
        fail(call, new ProtocolError("NO_SPACE", "full"), status.RESOURCE_EXHAUSTED);
      } else if (fault === "overload") {
        // As the real one: what follows on the stream is not done either.
        call.removeAllListeners("data");
        unavailable(call, "none");
      } else if (fault === "breakFirst") {
        breakOff(call);
      } else {
        const response = this.store.apply(request);
        if (fault === "none") call.write(response);
        else if (fault === "applyThenBreak") breakOff(call);
        else if (fault === "applyThenExhaust") breakOff(call, status.RESOURCE_EXHAUSTED);
        else unavailable(call, "unknown");
      }
    });
    call.on("end", () => call.end());
  }

  private pages(call: ServerWritableStream<unknown, unknown>, pages: readonly unknown[]): void {
    for (const page of pages.slice(0, this.pagesMax)) call.write(page);
    if (pages.length <= this.pagesMax) {
      call.end();
      return;
    }
    this.interrupted += 1;
    unavailable(call, "");
  }

  /** True: it is not to be answered any more. */
  private refused(call: Failing, shard: number | undefined): boolean {
    if (this.fault === "silent") {
      this.asked();
      return true;
    }
    if (this.store.leaders[shard ?? -1] === this.address) return false;
    this.refuse(call, shard);
    return true;
  }

  private refuse(call: Failing, shard: number | undefined): void {
    const leader = this.store.leaders[shard ?? -1] ?? "";
    const metadata = { leader, shard: String(shard) };
    fail(call, new ProtocolError("NODE_IS_NOT_LEADER", "not the leader", metadata), status.ABORTED);
  }
}

interface Failing {
  emit(event: "error", error: Error): boolean;
}

function fail(call: Failing, error: ProtocolError, code: number): void {
  const metadata = new Metadata();
  metadata.set(DETAILS_KEY, Buffer.from(encodeErrorDetail(code, error)));
  call.emit(
    "error",
    Object.assign(new Error(error.message), { code, details: error.message, metadata }),
  );
}

function unavailable(call: Failing, outcome: string): void {
  fail(call, new ProtocolError("RESOURCE_UNAVAILABLE", "ended", { outcome }), status.UNAVAILABLE);
}

/** Ends a call as the library does by itself: without a refusal by name. */
function breakOff(call: Failing, code = status.UNAVAILABLE): void {
  const metadata = new Metadata();
  const details = "connection lost";
  call.emit("error", Object.assign(new Error(details), { code, details, metadata }));
}

function versionOf(versionId: number) {
  return { versionId, modificationsCount: 0, createdTimestamp: 0, modifiedTimestamp: 0 };
}
