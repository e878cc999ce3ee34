/** A NodeRuntime that holds records in a map: just enough to test the services around it. */
import { ProtocolError } from "../../../sidecar/protocol/errors.ts";
import {
  type GetRequest,
  GetResponse,
  type ListRequest,
  type RangeScanRequest,
  type WriteRequest,
  WriteResponse,
} from "../../../sidecar/protocol/gen/oxia-client.ts";
import {
  type NodeStatus,
  ReplicaStatus,
  ServingStatus,
} from "../../../sidecar/protocol/gen/resilver.ts";
import type { NodeRuntime, ReplicaHandle } from "../../../sidecar/runtime/ports.ts";

/** Everything that a test may replace. */
export type Overrides = Partial<ReplicaHandle>;

function unexpected(name: string): never {
  throw new Error(`the test did not expect ${name}`);
}

/** One replica; `overrides` replace its methods. */
export function fakeReplica(
  namespace: string,
  shard: number,
  overrides: Overrides = {},
): ReplicaHandle {
  const records = new Map<string, Uint8Array>();
  const status = ReplicaStatus.create({
    namespace,
    shard,
    storeId: "store-1",
    replicaUid: "uid-1",
    status: ServingStatus.LEADER,
    votes: true,
    term: 3,
    commitOffset: 7,
    head: { term: 3, offset: 9, crc: 1 },
  });
  const base: ReplicaHandle = {
    newTerm: () => unexpected("newTerm"),
    becomeLeader: () => unexpected("becomeLeader"),
    addFollower: () => unexpected("addFollower"),
    removeFollower: () => unexpected("removeFollower"),
    promote: () => unexpected("promote"),
    updateEnsemble: () => unexpected("updateEnsemble"),
    enrol: () => unexpected("enrol"),
    truncate: () => unexpected("truncate"),
    serveReplicate: () => unexpected("serveReplicate"),
    serveSnapshot: () => unexpected("serveSnapshot"),
    async write(request: WriteRequest): Promise<WriteResponse> {
      for (const put of request.puts) records.set(put.key, Uint8Array.from(put.value));
      return WriteResponse.create({ puts: request.puts.map(({ key }) => ({ key })) });
    },
    async readBarrier(): Promise<void> {},
    get(request: GetRequest): GetResponse {
      const value = records.get(request.key);
      return GetResponse.create(value === undefined ? { status: 1 } : { key: request.key, value });
    },
    *list(request: ListRequest): Iterable<readonly string[]> {
      const keys = [...records.keys()].filter((key) => key >= request.startInclusive).sort();
      for (let at = 0; at < keys.length; at += 1_000) yield keys.slice(at, at + 1_000);
    },
    *scan(_request: RangeScanRequest): Iterable<readonly GetResponse[]> {
      for (const [key, value] of records) yield [GetResponse.create({ key, value })];
    },
    status: () => status,
    async checksum(): Promise<never> {
      return unexpected("checksum");
    },
  };
  return { ...base, ...overrides };
}

/** A node with these replicas, which a test may add to and remove from. */
export class FakeRuntime implements NodeRuntime {
  readonly node = "node-1";
  readonly bootId = 5;
  readonly handles: ReplicaHandle[];
  readonly watchers = new Set<(statuses: readonly ReplicaStatus[]) => void>();
  readonly fatal = new Promise<Error>(() => {});
  /** Why shards were not opened. */
  foreign: string[] = [];
  closed = false;

  constructor(handles: ReplicaHandle[]) {
    this.handles = handles;
  }

  async openShard(): Promise<ReplicaStatus> {
    return unexpected("openShard");
  }

  replica(namespace: string, shard: number): ReplicaHandle {
    const all = this.handles.map((handle) => ({ handle, status: handle.status() }));
    if (!all.some(({ status }) => status.namespace === namespace)) {
      throw new ProtocolError("NAMESPACE_NOT_FOUND", `namespace ${namespace} not found`);
    }
    const found = all.find(
      ({ status }) => status.namespace === namespace && status.shard === shard,
    );
    if (found === undefined) {
      throw new ProtocolError("SHARD_NOT_FOUND", `shard ${shard} not found`, {
        shard: String(shard),
      });
    }
    return found.handle;
  }

  replicas(): readonly ReplicaHandle[] {
    return this.handles;
  }

  async deleteShard(): Promise<void> {}

  status(): NodeStatus {
    return {
      node: this.node,
      bootId: this.bootId,
      full: true,
      replicas: this.handles.map((handle) => handle.status()),
    };
  }

  leftAlone(): readonly string[] {
    return this.foreign;
  }

  watch(changed: (statuses: readonly ReplicaStatus[]) => void): () => void {
    this.watchers.add(changed);
    return () => this.watchers.delete(changed);
  }

  async close(): Promise<void> {
    this.closed = true;
  }
}
