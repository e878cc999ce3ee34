import {
  type GetResponse,
  KeyComparisonType,
  type ListResponse,
  type RangeScanResponse,
  Status,
  type Version,
} from "../../sidecar/protocol/gen/oxia-client.ts";
import { OxiaClientService } from "../../sidecar/protocol/service.ts";
import { AssignmentWatch } from "./assignment-watch.ts";
import { hierarchicalOrder, type KeyOrder, mergeSorted } from "./key-order.ts";
import { shardOfKey } from "./shard-map.ts";
import { type KeyRange, type RangeKind, ShardReader } from "./shard-reader.ts";
import { ShardWriter } from "./shard-writer.ts";
import { StoreChannels } from "./store-channels.ts";
import { StoreError } from "./store-error.ts";
import {
  type BatchLimits,
  OPERATION_BYTES_MAX,
  type WriteBody,
  WriteOperation,
  type WriteResult,
} from "./write-batch.ts";

/** How to reach a store. Everything but `servers` has a default. */
export interface StoreClientOptions {
  /** host:port of public endpoints; any one of them is enough to find the others. */
  readonly servers: readonly string[];
  readonly namespace?: string;
  /**
   * How long one call is tried, retries included; of a list or scan, how long it waits for more at
   * a time. Default 30,000.
   */
  readonly requestTimeoutMs?: number;
  /** How long a batch of writes waits for company. Default 0. */
  readonly lingerMs?: number;
  /** What a request of writes holds at most; never more than a message may. */
  readonly batch?: BatchLimits;
  /** Order the store sorts keys by, to merge several shards. Default hierarchical. */
  readonly keyOrder?: KeyOrder;
  /** Writes held at once; beyond: OVERLOADED. Default 100,000. */
  readonly pendingWritesMax?: number;
  /**
   * Where a server is reached that names itself so, where that is elsewhere: from outside of a
   * cluster, whose names only its own pods can look up. Asked again for each call.
   */
  readonly reachedAt?: (address: string) => string;
}

/** Options of one write. */
export interface WriteOptions {
  /** Only if the record has this version; -1: only if there is none. */
  readonly expectedVersionId?: number;
  /** Routes by this instead of the key. */
  readonly partitionKey?: string;
  readonly signal?: AbortSignal;
  /** Send again when the outcome is unknown (unconditional writes only). Default true. */
  readonly retryUnknown?: boolean;
}

/** Options of one read. */
export interface ReadOptions {
  readonly partitionKey?: string;
  /** Overrides the client's requestTimeoutMs. */
  readonly timeoutMs?: number;
}

/** Options of a list or scan. */
export interface RangeOptions extends ReadOptions {
  /**
   * Each shard's part is as of one moment, and what is interrupted ends as UNAVAILABLE. Otherwise
   * it goes on behind the last key, as of then; so does what takes longer than a server allows.
   */
  readonly oneView?: boolean;
}

/** A record as stored. `value` is empty when it was not asked for. */
export interface StoredRecord {
  readonly key: string;
  readonly value: Uint8Array;
  readonly version: Version;
}

/** What a conditional write came to; `written` false: the version was another one. */
export type PutOutcome =
  | { readonly written: true; readonly key: string; readonly version: Version }
  | { readonly written: false };

/**
 * What a delete came to:
 * - deleted: the record was there and is not any more;
 * - absent: there was nothing to delete;
 * - gone: there is none now; it had to be sent twice, and the first may have deleted it;
 * - conflict: the version was another one.
 */
export type DeleteOutcome = "deleted" | "absent" | "gone" | "conflict";

const NO_VERSION: Version = {
  versionId: -1,
  modificationsCount: 0,
  createdTimestamp: 0,
  modifiedTimestamp: 0,
};

/**
 * A small client of the public API: finds leaders by the assignments stream and by redirects,
 * routes keys by hash, batches writes per shard, and retries with bounded back-off until the
 * request's deadline. Failures are StoreErrors; a conditional write whose outcome is unknown is
 * reported, never repeated.
 */
export class StoreClient {
  private readonly channels: StoreChannels;
  private readonly assignments: AssignmentWatch;
  private readonly writers = new Map<number, ShardWriter>();
  private readonly readers = new Map<number, ShardReader>();
  private readonly options: Required<StoreClientOptions>;
  private pendingWrites = 0;
  private closed = false;

  constructor(options: StoreClientOptions) {
    this.options = {
      namespace: "default",
      requestTimeoutMs: 30_000,
      lingerMs: 0,
      batch: { operationsMax: 1_000, bytesMax: 128 * 1024 },
      keyOrder: hierarchicalOrder,
      pendingWritesMax: 100_000,
      reachedAt: (address) => address,
      ...options,
    };
    this.channels = new StoreChannels(this.options.reachedAt);
    this.assignments = new AssignmentWatch(
      this.channels,
      this.options.namespace,
      this.options.servers,
    );
    this.assignments.start();
  }

  async put(key: string, value: Uint8Array, options: WriteOptions = {}): Promise<PutOutcome> {
    const request = {
      key,
      value,
      expectedVersionId: options.expectedVersionId,
      partitionKey: options.partitionKey,
      sequenceKeyDelta: [],
      secondaryIndexes: [],
    };
    const shard = await this.shardOf(options.partitionKey ?? key);
    const { status, put } = await this.write(shard, { kind: "put", request }, options);
    if (status === Status.UNEXPECTED_VERSION_ID) return { written: false };
    if (status !== Status.OK) throw new StoreError("REFUSED", `put answered status ${status}`);
    return { written: true, key: put?.key ?? key, version: put?.version ?? NO_VERSION };
  }

  async delete(key: string, options: WriteOptions = {}): Promise<DeleteOutcome> {
    const { expectedVersionId, partitionKey } = options;
    const shard = await this.shardOf(partitionKey ?? key);
    const body: WriteBody = { kind: "delete", request: { key, expectedVersionId, partitionKey } };
    const { status, repeated } = await this.write(shard, body, options);
    if (status === Status.OK) return "deleted";
    if (status === Status.KEY_NOT_FOUND) return repeated ? "gone" : "absent";
    if (status === Status.UNEXPECTED_VERSION_ID) return "conflict";
    throw new StoreError("REFUSED", `delete answered status ${status}`);
  }

  /**
   * Deletes all keys from `startInclusive` to before `endExclusive` (empty: to the end) on every
   * shard.
   */
  async deleteRange(
    startInclusive: string,
    endExclusive: string,
    options: WriteOptions = {},
  ): Promise<void> {
    const shards = await this.shardsFor(options.partitionKey);
    const body: WriteBody = { kind: "deleteRange", request: { startInclusive, endExclusive } };
    await Promise.all(shards.map((shard) => this.write(shard, body, options)));
  }

  /** The record, or null when there is none. */
  async get(key: string, options: ReadOptions = {}): Promise<StoredRecord | null> {
    const shard = await this.shardOf(options.partitionKey ?? key);
    const request = { key, includeValue: true, comparisonType: KeyComparisonType.EQUAL };
    const answer = await this.reader(shard).get(request, this.deadline(options.timeoutMs));
    if (answer.status === Status.KEY_NOT_FOUND) return null;
    if (answer.status !== Status.OK) {
      throw new StoreError("REFUSED", `get answered status ${answer.status}`);
    }
    return recordOf(answer, key);
  }

  /**
   * Keys from `startInclusive` to before `endExclusive` (empty: to the end), in the store's order.
   */
  list(
    startInclusive: string,
    endExclusive: string,
    options: RangeOptions = {},
  ): AsyncGenerator<string, void, void> {
    return this.range(LIST, { startInclusive, endExclusive }, options);
  }

  /**
   * Records from `startInclusive` to before `endExclusive` (empty: to the end), in the store's
   * order.
   */
  scan(
    startInclusive: string,
    endExclusive: string,
    options: RangeOptions = {},
  ): AsyncGenerator<StoredRecord, void, void> {
    return this.range(SCAN, { startInclusive, endExclusive }, options);
  }

  /**
   * Resolves when every shard of the namespace has a leader. Throws UNAVAILABLE after `timeoutMs`.
   */
  async ready(timeoutMs = this.options.requestTimeoutMs): Promise<void> {
    await this.until(
      () => (this.assignments.routes?.every(({ leader }) => leader !== "") ?? false) || null,
      performance.now() + timeoutMs,
    );
  }

  /** Leader address by shard, as known now. */
  leaders(): ReadonlyMap<number, string> {
    return new Map(this.assignments.routes?.map(({ shard, leader }) => [shard, leader]) ?? []);
  }

  async close(): Promise<void> {
    this.closed = true;
    for (const writer of this.writers.values()) writer.close();
    for (const reader of this.readers.values()) reader.close();
    await this.assignments.close();
    this.channels.close();
  }

  private async write(shard: number, body: WriteBody, options: WriteOptions): Promise<WriteResult> {
    options.signal?.throwIfAborted();
    if (this.closed) throw new StoreError("CLOSED", "the client was closed");
    if (this.pendingWrites >= this.options.pendingWritesMax) {
      throw new StoreError("OVERLOADED", `${this.pendingWrites} writes are pending already`);
    }
    this.pendingWrites += 1;
    let onAbort: (() => void) | null = null;
    try {
      return await new Promise<WriteResult>((resolve, reject) => {
        const operation = new WriteOperation(
          body,
          {
            conditional: options.expectedVersionId !== undefined || options.retryUnknown === false,
            deadlineMs: this.deadline(undefined),
          },
          (outcome) => (outcome instanceof StoreError ? reject(outcome) : resolve(outcome)),
        );
        if (operation.bytes > OPERATION_BYTES_MAX) {
          const allowed = `allowed: up to ${OPERATION_BYTES_MAX}`;
          throw new StoreError("REFUSED", `a write of ${operation.bytes} bytes; ${allowed}`);
        }
        onAbort = () => operation.giveUp("ABORTED", "aborted by the caller");
        options.signal?.addEventListener("abort", onAbort);
        this.writer(shard).add(operation);
      });
    } finally {
      this.pendingWrites -= 1;
      if (onAbort !== null) options.signal?.removeEventListener("abort", onAbort);
    }
  }

  private async *range<Page, Item>(
    kind: RangeKind<Page, Item>,
    range: KeyRange,
    { partitionKey, timeoutMs, oneView }: RangeOptions,
  ): AsyncGenerator<Item, void, void> {
    const shards = await this.shardsFor(partitionKey);
    const each = {
      timeoutMs: timeoutMs ?? this.options.requestTimeoutMs,
      oneView: oneView ?? false,
    };
    const sources = shards.map((shard) => this.reader(shard).range(kind, range, each));
    yield* mergeSorted(sources, kind.keyOf, this.options.keyOrder);
  }

  private deadline(timeoutMs: number | undefined): number {
    return performance.now() + (timeoutMs ?? this.options.requestTimeoutMs);
  }

  private async shardOf(routingKey: string): Promise<number> {
    const routes = this.assignments.routes;
    const known = routes === null ? null : shardOfKey(routes, routingKey);
    if (known !== null) return known;
    return await this.until(() => {
      const now = this.assignments.routes;
      return now === null ? null : shardOfKey(now, routingKey);
    }, this.deadline(undefined));
  }

  private async shardsFor(partitionKey: string | undefined): Promise<readonly number[]> {
    if (partitionKey !== undefined) return [await this.shardOf(partitionKey)];
    return await this.until(() => {
      const routes = this.assignments.routes;
      return routes === null || routes.length === 0 ? null : routes.map(({ shard }) => shard);
    }, this.deadline(undefined));
  }

  /** Waits until `probe` answers; it is asked again after each change of the assignments. */
  private async until<T>(probe: () => T | null, deadlineMs: number): Promise<T> {
    const now = probe();
    if (now !== null) return now;
    if (this.closed) throw new StoreError("CLOSED", "the client was closed");
    return await new Promise<T>((resolve, reject) => {
      const finish = () => {
        unsubscribe();
        clearInterval(timer);
      };
      const check = () => {
        const value = probe();
        const failure = this.assignments.lastError;
        if (value !== null) {
          finish();
          resolve(value);
        } else if (this.closed) {
          finish();
          reject(new StoreError("CLOSED", "the client was closed"));
        } else if (failure !== null && this.assignments.refused) {
          finish();
          reject(new StoreError("REFUSED", failure.message, failure));
        } else if (performance.now() >= deadlineMs) {
          finish();
          const why = failure?.message ?? "no server said who leads";
          reject(new StoreError("UNAVAILABLE", why, failure ?? undefined));
        }
      };
      const unsubscribe = this.assignments.onChange(check);
      const timer = setInterval(check, 50);
    });
  }

  private writer(shard: number): ShardWriter {
    let writer = this.writers.get(shard);
    if (writer === undefined) {
      const { namespace, batch, lingerMs } = this.options;
      const limits = { ...batch, bytesMax: Math.min(batch.bytesMax, OPERATION_BYTES_MAX) };
      const { channels, assignments } = this;
      writer = new ShardWriter({ shard, namespace, channels, assignments, limits, lingerMs });
      this.writers.set(shard, writer);
    }
    return writer;
  }

  private reader(shard: number): ShardReader {
    // The shard may have been waited for: a reader made now would be closed by nobody.
    if (this.closed) throw new StoreError("CLOSED", "the client was closed");
    let reader = this.readers.get(shard);
    if (reader === undefined) {
      reader = new ShardReader({ shard, channels: this.channels, assignments: this.assignments });
      this.readers.set(shard, reader);
    }
    return reader;
  }
}

function recordOf(answer: GetResponse, askedKey: string): StoredRecord {
  // The bytes are a view of the message: copied, since callers keep records for long.
  const value = answer.value === undefined ? new Uint8Array() : Uint8Array.from(answer.value);
  return { key: answer.key ?? askedKey, value, version: answer.version ?? NO_VERSION };
}

const LIST: RangeKind<ListResponse, string> = {
  method: OxiaClientService.list,
  itemsOf: ({ keys }) => keys,
  keyOf: (key) => key,
};

const SCAN: RangeKind<RangeScanResponse, StoredRecord> = {
  method: OxiaClientService.rangeScan,
  itemsOf: ({ records }) => records.map((record) => recordOf(record, "")),
  keyOf: ({ key }) => key,
};
