import assert from "node:assert/strict";
import {
  chainCrc,
  LOG_START,
  type LogEntry,
  type LogPosition,
} from "../../../sidecar/protocol/entry.ts";
import type { Wal } from "../../../sidecar/wal/wal.ts";
import type { Clock } from "../../../sidecar/lib/ports/clock.ts";

/** Builds entries that continue a log. */
export class EntryMaker {
  last: LogPosition;
  term = 1;
  nowMs = 1_000;

  constructor(last: LogPosition = LOG_START) {
    this.last = last;
  }

  next(value: Uint8Array): LogEntry {
    const { term, nowMs } = this;
    const offset = this.last.offset + 1;
    const crc = chainCrc(this.last.crc, term, offset, nowMs, value);
    this.last = { term, offset, crc };
    return { term, offset, timestampMs: nowMs, value, crc };
  }

  /** `count` entries whose values have `bytes` bytes (their offset as text, repeated). */
  batch(count: number, bytes = 20): LogEntry[] {
    return Array.from({ length: count }, () => this.next(valueOf(this.last.offset + 1, bytes)));
  }
}

export function valueOf(offset: number, bytes: number): Uint8Array {
  const text = `value-${offset}.`;
  return new TextEncoder().encode(text.repeat(Math.ceil(bytes / text.length)).slice(0, bytes));
}

/** A clock that stands still unless it is moved. */
export class StillClock implements Clock {
  at = 0;
  nowMs(): number {
    return this.at;
  }
  monotonicMs(): number {
    return this.at;
  }
  sleep(): Promise<void> {
    return Promise.resolve();
  }
  timer(): { cancel(): void } {
    return { cancel: () => undefined };
  }
  yield(): Promise<void> {
    return Promise.resolve();
  }
}

/** Reads the whole log in small steps and compares. */
export async function assertHolds(wal: Wal, expected: readonly LogEntry[]): Promise<void> {
  assert.equal(wal.last.offset, wal.base.offset + expected.length);
  const found: LogEntry[] = [];
  while (found.length < expected.length) {
    const entries = await wal.read(wal.first + found.length, 1000);
    assert.ok(entries.length > 0);
    found.push(...entries);
  }
  for (const [index, entry] of found.entries()) {
    const wanted = expected[index];
    assert.ok(wanted !== undefined && Buffer.compare(entry.value, wanted.value) === 0);
    assert.deepEqual({ ...entry, value: null }, { ...wanted, value: null });
  }
}
