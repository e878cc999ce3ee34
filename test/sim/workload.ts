import { ProtocolError } from "../../sidecar/protocol/errors.ts";
import { KeyComparisonType, Status, WriteRequest } from "../../sidecar/protocol/gen/oxia-client.ts";
import type { ReplicaHandle } from "../../sidecar/runtime/ports.ts";
import type { Call, Expected, Operation, Outcome } from "../linearizability/history.ts";
import { Chance } from "./chance.ts";
import type { SimCluster } from "./cluster.ts";
import { keysByShard } from "./key-space.ts";
import { SimProcess } from "./sim-clock.ts";
import { NetworkFailure } from "./sim-network.ts";
import type { SimShard } from "./sim-shard.ts";

const REQUEST_TIMEOUT_MS = 1_500;
const RETRY_MS = 30;
/** Scans tie all keys together for the check of their order, which is feasible for a few. */
const SCANNED_KEYS_MAX = 4;
const KEY_START = "key-";
const KEY_END = "key-~";
const WHOLE_RANGE = { shard: undefined, secondaryIndexName: undefined, includeInternalKeys: false };
const UNKNOWN = Number.POSITIVE_INFINITY;
/** Refusals that say that the request was not begun. */
const NOTHING_DONE: ReadonlySet<string> = new Set([
  "NODE_IS_NOT_LEADER",
  "NODE_IS_NOT_MEMBER",
  "NOT_INITIALIZED",
  "NAMESPACE_NOT_FOUND",
  "SHARD_NOT_FOUND",
]);

/** Counts of what clients saw. */
export interface WorkloadCounts {
  acknowledged: number;
  unknown: number;
  refused: number;
  reads: number;
}

/** One shard as its clients know it. */
class ShardClients {
  readonly shard: SimShard;
  /** Those that clients find there. */
  readonly keys: readonly string[];
  /** The value of every acknowledged write, with its key. */
  readonly acknowledged = new Map<string, string>();
  readonly ended: Operation[] = [];
  /** Requests that are not answered yet. */
  readonly open = new Set<Operation>();
  /** By client and key: the version that it saw last. */
  readonly versions = new Map<string, number>();
  /** By client: who answered it last. */
  readonly answering = new Map<SimProcess, string>();

  constructor(shard: SimShard, keys: readonly string[]) {
    this.shard = shard;
    this.keys = keys;
  }

  anyKey(chance: Chance): string {
    return this.keys[chance.below(this.keys.length)] ?? "";
  }
}

/** Clients that put unique values, delete and read them back, one request at a time each. */
export class Workload {
  readonly counts: WorkloadCounts = { acknowledged: 0, unknown: 0, refused: 0, reads: 0 };
  readonly #shards: readonly ShardClients[];
  readonly #cluster: SimCluster;
  readonly #seed: Chance;
  #next = 0;
  #stopped = false;
  #restMs = 0;

  constructor(cluster: SimCluster, seed: Chance) {
    this.#cluster = cluster;
    this.#seed = seed;
    const placed = cluster.shards.map((shard) => shard.placed);
    const keys = keysByShard(placed, cluster.options.keys);
    this.#shards = cluster.shards.map(
      (shard) => new ShardClients(shard, keys.get(shard.key.shard) ?? []),
    );
  }

  /** Starts the clients. */
  start(): void {
    const { clients } = this.#cluster.options;
    for (let i = 0; i < clients; i += 1) {
      // Every second one only reads: a writer soon leaves a leader that is cut off.
      void this.#client(this.#process(`client-${i}`), i % 2 === 0 ? 0.8 : 0);
    }
  }

  /** Every write to a shard, also one that nobody answered yet, and every answered read. */
  history(shard: SimShard): readonly Operation[] {
    const { ended, open } = this.#of(shard);
    return [...ended, ...open];
  }

  /** The value of every acknowledged write to a shard, with its key. */
  acknowledged(shard: SimShard): ReadonlyMap<string, string> {
    return this.#of(shard).acknowledged;
  }

  #of(shard: SimShard): ShardClients {
    return this.#shards[shard.key.shard] as ShardClients;
  }

  stop(): void {
    this.#stopped = true;
  }

  /** From now on clients wait up to this long after each request, also a failed one; 0: no more. */
  rest(thinkMs: number): void {
    this.#restMs = thinkMs;
  }

  /** Writes `count` values to each shard, each until it is acknowledged; resolves when all are. */
  async writeAll(count: number): Promise<void> {
    await Promise.all(this.#shards.map((at) => this.#writeAll(at, count)));
  }

  async #writeAll(at: ShardClients, count: number): Promise<void> {
    const process = this.#process("client-once");
    for (let i = 0; i < count; i += 1) {
      const key = at.anyKey(process.chance);
      while (!(await this.#put(process, at, key, undefined))) await pauseOf(process, RETRY_MS);
    }
  }

  async #client(process: SimProcess, writeShare: number): Promise<void> {
    const { thinkMs } = this.#cluster.options;
    while (!this.#stopped) {
      const write = process.chance.happens(writeShare);
      const done = write ? await this.#write(process) : await this.#read(process);
      if (this.#restMs > 0) await pauseOf(process, this.#restMs * process.chance.unit());
      else await pauseOf(process, done ? thinkMs * process.chance.unit() : RETRY_MS);
    }
  }

  async #write(process: SimProcess): Promise<boolean> {
    const { chance } = process;
    const at = this.#any(chance);
    const key = at.anyKey(chance);
    const kind = chance.unit();
    if (kind < 0.7) return this.#put(process, at, key, undefined);
    const expected = at.versions.get(`${process.name} ${key}`) ?? null;
    if (kind < 0.85) return this.#put(process, at, key, expected);
    return this.#delete(process, at, key, chance.happens(0.5) ? undefined : expected);
  }

  async #read(process: SimProcess): Promise<boolean> {
    const { chance } = process;
    const at = this.#any(chance);
    const scans = this.#cluster.options.keys <= SCANNED_KEYS_MAX;
    if (scans && chance.happens(0.2)) return this.#scan(process, at);
    return this.#get(process, at, at.anyKey(chance));
  }

  /** True when it was acknowledged. */
  async #put(
    process: SimProcess,
    at: ShardClients,
    key: string,
    expected: Expected,
  ): Promise<boolean> {
    const { referee, key: place } = at.shard;
    const value = `v${this.#next++}`.padEnd(this.#cluster.options.valueBytes, ".");
    const newestBefore = referee.versions.newest;
    const put = { key, value: Buffer.from(value), ...expectation(expected) };
    const request = WriteRequest.fromPartial({ shard: place.shard, puts: [put] });
    const raw = WriteRequest.encode(request).finish();
    const call: Call = { kind: "put", key, value, expected };
    return this.#ends(process, at, call, async () => {
      const [answer] = await this.#ask(process, at, "write", async (node, replica) => {
        const { puts } = await replica.write(request, raw);
        const written = puts[0]?.status === Status.OK;
        if (written) referee.answered({ kind: "write", node: node.name, key, value });
        return puts;
      });
      if (answer?.status !== Status.OK) return { kind: "refused" };
      const versionId = answer.version?.versionId ?? -1;
      referee.versions.acknowledged({ key, versionId, newestBefore });
      at.versions.set(`${process.name} ${key}`, versionId);
      at.acknowledged.set(value, key);
      return { kind: "written", versionId };
    });
  }

  async #delete(
    process: SimProcess,
    at: ShardClients,
    key: string,
    expected: Expected,
  ): Promise<boolean> {
    const deletes = [{ key, ...expectation(expected) }];
    const request = WriteRequest.fromPartial({ shard: at.shard.key.shard, deletes });
    const raw = WriteRequest.encode(request).finish();
    return this.#ends(process, at, { kind: "delete", key, expected }, async () => {
      const [answer] = await this.#ask(process, at, "write", async (_node, replica) => {
        const response = await replica.write(request, raw);
        return response.deletes;
      });
      if (answer?.status === Status.OK) return { kind: "deleted" };
      return answer?.status === Status.KEY_NOT_FOUND ? { kind: "absent" } : { kind: "refused" };
    });
  }

  async #get(process: SimProcess, at: ShardClients, key: string): Promise<boolean> {
    const { referee } = at.shard;
    const comparisonType = KeyComparisonType.EQUAL;
    const request = { key, includeValue: true, comparisonType, secondaryIndexName: undefined };
    return this.#ends(process, at, { kind: "get", key }, async () => {
      const found = await this.#ask(process, at, "read", async (node, replica) => {
        await replica.readBarrier(node.endless);
        const seen = replica.get(request);
        const shown = seen.value === undefined ? null : Buffer.from(seen.value).toString();
        referee.answered({ kind: "read", node: node.name, key, value: shown });
        return seen;
      });
      this.counts.reads += 1;
      if (found.value === undefined) return { kind: "absent" };
      const versionId = found.version?.versionId ?? -1;
      at.versions.set(`${process.name} ${key}`, versionId);
      return { kind: "found", value: Buffer.from(found.value).toString(), versionId };
    });
  }

  /** All that one shard has: a client of several asks each, and no two at the same moment. */
  async #scan(process: SimProcess, at: ShardClients): Promise<boolean> {
    const range = { startInclusive: KEY_START, endExclusive: KEY_END };
    const call: Call = { kind: "scan", start: KEY_START, end: KEY_END };
    return this.#ends(process, at, call, async () => {
      const pairs = await this.#ask(process, at, "read", async (node, replica) => {
        await replica.readBarrier(node.endless);
        return [...replica.scan({ ...WHOLE_RANGE, ...range })].flat();
      });
      this.counts.reads += 1;
      const seen = pairs.map(({ key = "", value, version }) => ({
        key,
        value: Buffer.from(value ?? []).toString(),
        versionId: version?.versionId ?? -1,
      }));
      return { kind: "pairs", pairs: seen };
    });
  }

  /** Keeps the operation, however it ends. True when it was answered. */
  async #ends(
    process: SimProcess,
    at: ShardClients,
    call: Call,
    ask: () => Promise<Outcome>,
  ): Promise<boolean> {
    const client = process.name;
    const { time } = this.#cluster;
    const calledAt = time.nowMs;
    const unknown = { kind: "unknown" } as const;
    const open = { client, call, outcome: unknown, calledAt, returnedAt: UNKNOWN };
    at.open.add(open);
    try {
      const outcome = await ask();
      at.ended.push({ client, call, outcome, calledAt, returnedAt: time.nowMs });
      if (call.kind === "put" || call.kind === "delete") this.counts.acknowledged += 1;
      return true;
    } catch (error) {
      const reads = call.kind === "get" || call.kind === "scan";
      const refused = wasNotBegun(error);
      if (refused) this.counts.refused += 1;
      else this.counts.unknown += 1;
      if (!reads && !refused) at.ended.push(open);
      return false;
    } finally {
      at.open.delete(open);
    }
  }

  /**
   * Asks whoever answered last, as clients do; after a failure the recorded leader, or any node.
   */
  #ask<T>(
    process: SimProcess,
    { answering, shard: { key, record } }: ShardClients,
    label: string,
    act: (node: SimProcess, replica: ReplicaHandle) => Promise<T>,
  ): Promise<T> {
    const { network, nodes } = this.#cluster;
    const any = nodes[process.chance.below(nodes.length)]?.name ?? "";
    const named = process.chance.happens(0.9) ? (record?.leader?.node ?? any) : any;
    const to = answering.get(process) ?? named;
    const { answer, cancel } = network.unary({
      from: process,
      to,
      label,
      serve: async (node) => {
        if (node.runtime === null) throw new ProtocolError("SHARD_NOT_FOUND", "not here");
        return act(node, node.runtime.replica(key.namespace, key.shard));
      },
    });
    return new Promise((resolve, reject) => {
      const timer = process.clock.timer(REQUEST_TIMEOUT_MS, () => {
        answering.delete(process);
        cancel();
        reject(new Error("no answer"));
      });
      answer
        .then(
          (value) => {
            answering.set(process, to);
            resolve(value);
          },
          (error: Error) => {
            answering.delete(process);
            reject(error);
          },
        )
        .finally(() => timer.cancel());
    });
  }

  /** Any shard; where there is one only, no chance is spent on it. */
  #any(chance: Chance): ShardClients {
    const at = this.#shards.length === 1 ? 0 : chance.below(this.#shards.length);
    return this.#shards[at] as ShardClients;
  }

  #process(name: string): SimProcess {
    return new SimProcess(name, this.#cluster.time, new Chance(this.#seed.below(2 ** 31)));
  }
}

/** True when nothing came of a request, for certain. */
function wasNotBegun(error: unknown): boolean {
  if (error instanceof ProtocolError) return NOTHING_DONE.has(error.reason);
  return error instanceof NetworkFailure && error.message.startsWith("connection refused");
}

/** `expectedVersionId` as the protocol has it: -1 is "no such key". */
function expectation(expected: Expected): { readonly expectedVersionId?: number } {
  return expected === undefined ? {} : { expectedVersionId: expected ?? -1 };
}

async function pauseOf(process: SimProcess, delayMs: number): Promise<void> {
  await new Promise<void>((resolve) => {
    process.clock.timer(delayMs, resolve);
  });
}
