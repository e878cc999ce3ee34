import { ProtocolError } from "../../sidecar/protocol/errors.ts";
import { WriteRequest } from "../../sidecar/protocol/gen/oxia-client.ts";
import type { ReplicaHandle } from "../../sidecar/runtime/ports.ts";
import { Chance } from "./chance.ts";
import type { SimCluster } from "./cluster.ts";
import { SimProcess } from "./sim-clock.ts";
import { SHARD } from "./sim-node.ts";

const REQUEST_TIMEOUT_MS = 1_500;
const RETRY_MS = 30;

/** Counts of what clients saw. */
export interface WorkloadCounts {
  acknowledged: number;
  unknown: number;
  refused: number;
  reads: number;
}

/** Clients that put unique values and read them back, one request at a time each. */
export class Workload {
  readonly counts: WorkloadCounts = { acknowledged: 0, unknown: 0, refused: 0, reads: 0 };
  /** The value of every acknowledged write, with its key. */
  readonly acknowledged = new Map<string, string>();
  readonly #cluster: SimCluster;
  readonly #seed: Chance;
  readonly #answering = new Map<SimProcess, string>();
  #next = 0;
  #stopped = false;

  constructor(cluster: SimCluster, seed: Chance) {
    this.#cluster = cluster;
    this.#seed = seed;
  }

  /** Starts the clients. */
  start(): void {
    const { clients } = this.#cluster.options;
    for (let i = 0; i < clients; i += 1) {
      // Every second one only reads: a writer soon leaves a leader that is cut off.
      void this.#client(this.#process(`client-${i}`), i % 2 === 0 ? 0.8 : 0);
    }
  }

  stop(): void {
    this.#stopped = true;
  }

  /** Writes `count` values, each until it is acknowledged; resolves when all are. */
  async writeAll(count: number): Promise<void> {
    const process = this.#process("client-once");
    for (let i = 0; i < count; i += 1) {
      while (!(await this.#put(process))) await pauseOf(process, RETRY_MS);
    }
  }

  async #client(process: SimProcess, writeShare: number): Promise<void> {
    const { thinkMs } = this.#cluster.options;
    while (!this.#stopped) {
      const write = process.chance.happens(writeShare);
      const done = write ? await this.#put(process) : await this.#get(process);
      await pauseOf(process, done ? thinkMs * process.chance.unit() : RETRY_MS);
    }
  }

  /** True when it was acknowledged. */
  async #put(process: SimProcess): Promise<boolean> {
    const { referee } = this.#cluster;
    const key = this.#key(process.chance);
    const value = `v${this.#next++}`.padEnd(this.#cluster.options.valueBytes, ".");
    const newestBefore = referee.versions.newest;
    const request = WriteRequest.fromPartial({
      shard: SHARD,
      puts: [{ key, value: Buffer.from(value) }],
    });
    const raw = WriteRequest.encode(request).finish();
    try {
      const versionId = await this.#ask(process, "write", async (node, replica) => {
        const { puts } = await replica.write(request, raw);
        referee.answered({ kind: "write", node, key, value });
        return puts[0]?.version?.versionId ?? -1;
      });
      referee.versions.acknowledged({ key, versionId, newestBefore });
    } catch (error) {
      const refused = error instanceof ProtocolError && error.reason !== "RESOURCE_UNAVAILABLE";
      if (refused) this.counts.refused += 1;
      else this.counts.unknown += 1;
      return false;
    }
    this.counts.acknowledged += 1;
    this.acknowledged.set(value, key);
    referee.reads.ended("write", { key, value, knownOffset: -1 });
    return true;
  }

  async #get(process: SimProcess): Promise<boolean> {
    const { referee } = this.#cluster;
    const key = this.#key(process.chance);
    const knownOffset = referee.reads.knownOffset(key);
    try {
      const value = await this.#ask(process, "read", async (node, replica) => {
        await replica.readBarrier(new AbortController().signal);
        const found = replica.get({
          key,
          includeValue: true,
          comparisonType: 0,
          secondaryIndexName: undefined,
        });
        const shown = found.value === undefined ? null : Buffer.from(found.value).toString();
        referee.answered({ kind: "read", node, key, value: shown });
        return shown;
      });
      this.counts.reads += 1;
      referee.reads.ended("read", { key, value, knownOffset });
      return true;
    } catch {
      return false;
    }
  }

  /**
   * Asks whoever answered last, as clients do; after a failure the recorded leader, or any node.
   */
  #ask<T>(
    process: SimProcess,
    label: string,
    act: (node: string, replica: ReplicaHandle) => Promise<T>,
  ): Promise<T> {
    const { network, nodes, record } = this.#cluster;
    const any = nodes[process.chance.below(nodes.length)]?.name ?? "";
    const named = process.chance.happens(0.9) ? (record?.leader?.node ?? any) : any;
    const to = this.#answering.get(process) ?? named;
    const { answer, cancel } = network.unary({
      from: process,
      to,
      label,
      serve: async (node) => {
        const [replica] = node.runtime?.replicas() ?? [];
        if (replica === undefined) throw new ProtocolError("SHARD_NOT_FOUND", "not here");
        return act(node.name, replica);
      },
    });
    return new Promise((resolve, reject) => {
      const timer = process.clock.timer(REQUEST_TIMEOUT_MS, () => {
        this.#answering.delete(process);
        cancel();
        reject(new Error("no answer"));
      });
      answer
        .then(
          (value) => {
            this.#answering.set(process, to);
            resolve(value);
          },
          (error: Error) => {
            this.#answering.delete(process);
            reject(error);
          },
        )
        .finally(() => timer.cancel());
    });
  }

  #key(chance: Chance): string {
    return `key-${chance.below(this.#cluster.options.keys)}`;
  }

  #process(name: string): SimProcess {
    return new SimProcess(name, this.#cluster.time, new Chance(this.#seed.below(2 ** 31)));
  }
}

async function pauseOf(process: SimProcess, delayMs: number): Promise<void> {
  await process.clock.sleep(delayMs, new AbortController().signal);
}
