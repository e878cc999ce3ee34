import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { NodeClock } from "../../../sidecar/os/node-clock.ts";
import type { Disk } from "../../../sidecar/lib/ports/disk.ts";
import { createNodeDisk } from "../../../sidecar/os/node-disk.ts";
import {
  chainCrc,
  LOG_START,
  type LogEntry,
  type LogPosition,
} from "../../../sidecar/protocol/entry.ts";
import {
  type DeleteRequest,
  type GetRequest,
  type GetResponse,
  KeyComparisonType,
  type PutRequest,
  WriteRequest,
} from "../../../sidecar/protocol/gen/oxia-client.ts";
import { LogEntryValue } from "../../../sidecar/protocol/gen/resilver.ts";
import type { EngineFactory } from "../../../sidecar/state/engine.ts";
import type { KeySorting } from "../../../sidecar/state/key-order.ts";
import { lmdbEngineFactory } from "../../../sidecar/state/lmdb-engine.ts";
import { MemoryBudget } from "../../../sidecar/state/memory-budget.ts";
import { ShardState } from "../../../sidecar/state/shard-state.ts";

export const disk = createNodeDisk();
export const clock = new NodeClock();
export const engines = lmdbEngineFactory(disk);
export const NEVER: AbortSignal = new AbortController().signal;

/** A directory that is removed with everything in it. */
export async function withDir(work: (dir: string) => Promise<void>): Promise<void> {
  const dir = await mkdtemp(join(tmpdir(), "resilver-state-"));
  try {
    await work(dir);
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

export interface OpenOptions {
  readonly engine?: EngineFactory;
  /** Of all but the engine. */
  readonly disk?: Disk;
  readonly budget?: MemoryBudget;
  readonly keySorting?: KeySorting;
  readonly lossEpoch?: number;
}

export function openState(dir: string, options: OpenOptions = {}): Promise<ShardState> {
  return ShardState.open({
    dir,
    disk: options.disk ?? disk,
    clock,
    engine: options.engine ?? engines,
    budget: options.budget ?? new MemoryBudget(),
    keySorting: options.keySorting ?? "hierarchical",
    ...(options.lossEpoch === undefined ? {} : { lossEpoch: options.lossEpoch }),
  });
}

/** A log in memory: what the WAL and the leader do around a state. */
export class TestLog {
  readonly entries: LogEntry[] = [];
  #head: LogPosition = LOG_START;
  term = 1;

  append(value: Uint8Array, timestampMs = 1_000 + this.entries.length): LogEntry {
    const offset = this.#head.offset + 1;
    const crc = chainCrc(this.#head.crc, this.term, offset, timestampMs, value);
    const entry = { term: this.term, offset, crc, timestampMs, value };
    this.#head = entry;
    this.entries.push(entry);
    return entry;
  }

  write(request: Partial<WriteRequest>, timestampMs?: number): LogEntry {
    const write = WriteRequest.fromPartial(request);
    const value = LogEntryValue.encode({
      value: { $case: "requests", value: { writes: [write] } },
    }).finish();
    return this.append(value, timestampMs);
  }

  barrier(lossEpoch: number): LogEntry {
    return this.append(
      LogEntryValue.encode({
        value: {
          $case: "controlRequest",
          value: { request: { $case: "barrier", value: { lossEpoch } } },
        },
      }).finish(),
    );
  }
}

export function put(
  key: string,
  value: string | Uint8Array,
  more: Partial<PutRequest> = {},
): PutRequest {
  const bytes = typeof value === "string" ? Buffer.from(value) : value;
  return { key, value: bytes, sequenceKeyDelta: [], secondaryIndexes: [], ...more };
}

export function remove(key: string, expectedVersionId?: number): DeleteRequest {
  return expectedVersionId === undefined ? { key } : { key, expectedVersionId };
}

export function getRequest(
  key: string,
  comparisonType: KeyComparisonType = KeyComparisonType.EQUAL,
  includeValue = true,
): GetRequest {
  return { key, includeValue, comparisonType };
}

export function textOf(response: GetResponse): string | undefined {
  return response.value === undefined ? undefined : Buffer.from(response.value).toString();
}

export function listOf(
  state: ShardState,
  start = "",
  end = "",
  includeInternalKeys = false,
): string[] {
  const request = { startInclusive: start, endExclusive: end, includeInternalKeys };
  return [...state.list(request)].flat();
}
