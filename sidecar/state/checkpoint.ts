/**
 * Decision: how a checkpoint becomes all or nothing. Replaying requests over a half-written
 * checkpoint gives other results, so an engine that a crash left between two slices must not be the
 * start of a replay. One LMDB transaction over the whole table was rejected: random keys dirty a 16
 * KiB page each, kept in anonymous memory until the commit (48 MiB of 1 KiB records: up to 700
 * MiB), and lmdb-js builds a transaction in one go. So a checkpoint of more than one slice first
 * writes its resolved effects to a redo journal and syncs it, then hands sorted slices to the
 * engine, each its own transaction on the engine's thread (measured: 0.13 us a put on the main
 * thread, 0.25 ms at most for a slice, about 1.5 us a put in all with an fdatasync per slice). The
 * first slice carries the journal's id, the last one removes it and writes the new description. An
 * opened engine that holds an id is finished from the journal before anything is replayed; effects
 * are final records, so redoing them is harmless. A checkpoint of one slice is one transaction and
 * needs no journal. LMDB runs with its default two-meta-page protocol and an fdatasync per commit
 * (no overlappingSync, noSync, noMetaSync, writemap): what is committed is durable, and power loss
 * cannot corrupt it.
 */
import type { Clock } from "../lib/ports/clock.ts";
import { assert } from "../lib/assert.ts";
import { DiskError } from "../lib/ports/disk.ts";
import { LIMITS } from "../limits.ts";
import { type CheckpointMeta, encodeMeta } from "./checkpoint-meta.ts";
import type { Engine, EngineBatch } from "./engine.ts";
import {
  type EncodedKey,
  keyBytes,
  META_KEY,
  REDO_KEY,
  RECORDS_FROM,
  RECORDS_TO,
} from "./key-order.ts";
import type { MemoryTable, TableEntry, TableOrder } from "./memory-table.ts";
import { MergeCursor, RunCursor } from "./merge.ts";
import { sealRecord, StateCorrupt } from "./record.ts";
import type { Pair } from "./record-stream.ts";
import type { RedoJournal } from "./redo-journal.ts";
import type { SlicePace } from "./slice-pace.ts";

/**
 * A frozen table on its way to the engine. Kept until it arrived, so that a failed attempt can be
 * repeated.
 */
export interface PendingCheckpoint {
  readonly table: MemoryTable;
  readonly meta: CheckpointMeta;
  /** The journal is complete: it must not be written again, the engine may need it. */
  journaled: boolean;
  /** Known once all of the table was gone over; null: not yet. */
  order: TableOrder | null;
}

/** Where a checkpoint is written. */
export interface CheckpointTarget {
  readonly engine: Engine;
  readonly journal: RedoJournal;
  readonly clock: Clock;
}

/** A target with a pace that suits the work beside it. */
interface PacedTarget extends CheckpointTarget {
  readonly pace: SlicePace;
}

/** Bounds of the next slice. */
interface SliceBounds {
  readonly keys: number;
  readonly bytes: number;
}

const JOURNAL_SLICE: SliceBounds = {
  keys: LIMITS.checkpointSliceKeys,
  bytes: 1024 * 1024,
};

const metaKey = keyBytes(META_KEY);
const redoKey = keyBytes(REDO_KEY);

/** The table's effects in key order, in slices; `bounds` is asked anew for each key. */
function* slicesOf(pending: PendingCheckpoint, bounds: SliceBounds): Generator<readonly Pair[]> {
  let slice: Pair[] = [];
  let bytes = 0;
  for (const pair of effectsOf(pending)) {
    slice.push(pair);
    bytes += pair[1]?.byteLength ?? 0;
    if (slice.length >= bounds.keys || bytes >= bounds.bytes) {
      yield slice;
      slice = [];
      bytes = 0;
    }
  }
  if (slice.length > 0) yield slice;
}

/**
 * Keys with sealed records. Sorting and sealing were a sixth of a busy leader's time when both the
 * journal and the engine had it done, so the first to get to the end leaves the order behind.
 */
function* effectsOf(pending: PendingCheckpoint): Generator<Pair> {
  const { table, order } = pending;
  if (order !== null) {
    assert(order.keys.length === table.size, "a table's order is not of all its keys");
    for (const [at, key] of order.keys.entries()) {
      yield [keyBytes(key), (order.entries[at] as TableEntry).record];
    }
    return;
  }
  const keys: EncodedKey[] = [];
  const entries: TableEntry[] = [];
  const runs = table.runs().map((run) => new RunCursor(run, RECORDS_FROM, RECORDS_TO, false));
  const cursor = new MergeCursor(runs, false);
  for (let key = cursor.current(); key !== undefined; key = cursor.current()) {
    const entry = table.get(key);
    assert(entry !== undefined, "a table's run names a key the table lacks");
    const stored = keyBytes(key);
    if (entry.record !== null) sealRecord(stored, entry.record);
    keys.push(key);
    entries.push(entry);
    yield [stored, entry.record];
    cursor.advance();
  }
  pending.order = { keys, entries };
}

function batchOf(slice: readonly Pair[]): {
  puts: [Uint8Array, Uint8Array][];
  deletes: Uint8Array[];
} {
  const puts: [Uint8Array, Uint8Array][] = [];
  const deletes: Uint8Array[] = [];
  for (const [key, value] of slice) {
    if (value === null) deletes.push(key);
    else puts.push([key, value]);
  }
  return { puts, deletes };
}

/**
 * Writes a frozen table to the engine; when it resolves, the checkpoint is durable. May be called
 * again after a failure.
 */
export async function writeCheckpoint(
  pending: PendingCheckpoint,
  target: PacedTarget,
): Promise<void> {
  const meta = encodeMeta(pending.meta);
  const { table } = pending;
  const { pace, engine } = target;
  if (table.size <= pace.keys && table.bytes <= pace.bytes) {
    const only = [...slicesOf(pending, pace)].flat();
    await pace.run(() => engine.write(lastBatch(only, meta)));
  } else {
    const id = pending.meta.position.offset;
    if (!pending.journaled) await writeJournal(pending, meta, id, target);
    pending.journaled = true;
    await writeSlices(pending, meta, id, target);
  }
  await target.engine.flushed();
}

async function writeJournal(
  pending: PendingCheckpoint,
  meta: Uint8Array,
  id: number,
  target: PacedTarget,
): Promise<void> {
  const writer = await target.journal.begin(id);
  for (const slice of slicesOf(pending, JOURNAL_SLICE)) {
    await target.pace.yieldAfter(() => writer.add(slice));
  }
  await writer.add([[metaKey, meta]]);
  await writer.finish();
}

async function writeSlices(
  pending: PendingCheckpoint,
  meta: Uint8Array,
  id: number,
  { engine, pace }: PacedTarget,
): Promise<void> {
  const mark = Buffer.alloc(8);
  mark.writeDoubleBE(id, 0);
  let held: readonly Pair[] = [[redoKey, mark]];
  // One slice late, so that the last one is known to be the last.
  for (const slice of slicesOf(pending, pace)) {
    const batch = batchOf(held);
    await pace.run(() => engine.write(batch));
    held = slice;
  }
  await pace.run(() => engine.write(lastBatch(held, meta)));
}

function lastBatch(slice: readonly Pair[], meta: Uint8Array): EngineBatch {
  const batch = batchOf(slice);
  batch.puts.push([metaKey, meta]);
  batch.deletes.push(redoKey);
  return batch;
}

/**
 * Finishes a checkpoint that a crash left half written. Throws {@link StateCorrupt} when its
 * journal is gone.
 */
export async function finishCheckpoint(target: CheckpointTarget): Promise<void> {
  const mark = target.engine.get(redoKey);
  if (mark === undefined) return;
  if (mark.byteLength !== 8) throw new StateCorrupt("the redo mark is not 8 bytes long");
  const id = new DataView(mark.buffer, mark.byteOffset, 8).getFloat64(0);
  let slice: Pair[] = [];
  let bytes = 0;
  let meta: Uint8Array | null = null;
  for await (const [key, value] of target.journal.read(id)) {
    if (key.byteLength === metaKey.byteLength && metaKey.equals(key)) {
      meta = value;
      continue;
    }
    slice.push([key, value]);
    bytes += value?.byteLength ?? 0;
    if (slice.length >= LIMITS.checkpointSliceKeys || bytes >= LIMITS.checkpointSliceBytes) {
      await redo(slice, target.engine);
      slice = [];
      bytes = 0;
    }
  }
  if (meta === null)
    throw new StateCorrupt(`the redo journal of checkpoint ${id} has no description`);
  await redo(slice, target.engine);
  await target.engine.write(lastBatch([], meta));
  await target.engine.flushed();
}

/**
 * In smaller slices when the volume has no room for one: the process that stopped may have filled
 * it, and a restart must not need more than what was running.
 */
async function redo(slice: readonly Pair[], engine: Engine): Promise<void> {
  if (slice.length === 0) return;
  try {
    await engine.write(batchOf(slice));
  } catch (error) {
    const full = error instanceof DiskError && error.code === "NO_SPACE" && !error.fatal;
    if (!full || slice.length === 1) throw error;
    const half = Math.ceil(slice.length / 2);
    await redo(slice.slice(0, half), engine);
    await redo(slice.slice(half), engine);
  }
}
