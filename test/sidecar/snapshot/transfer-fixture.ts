import assert from "node:assert/strict";
import type { Clock } from "../../../sidecar/lib/ports/clock.ts";
import type { Disk, DiskFile } from "../../../sidecar/lib/ports/disk.ts";
import { makeDirDurable } from "../../../sidecar/lib/sealed-file.ts";
import type { LogPosition } from "../../../sidecar/protocol/entry.ts";
import { ProtocolError } from "../../../sidecar/protocol/errors.ts";
import {
  type SnapshotChunk,
  SnapshotFormat,
  type SnapshotResponse,
} from "../../../sidecar/protocol/gen/resilver.ts";
import type { Manifest } from "../../../sidecar/snapshot/manifest.ts";
import { RateLimiter } from "../../../sidecar/snapshot/rate-limiter.ts";
import {
  type InstalledSnapshot,
  type ReceiveSession,
  SnapshotReceiver,
} from "../../../sidecar/snapshot/receiver.ts";
import { type SendOptions, sendSnapshot } from "../../../sidecar/snapshot/sender.ts";
import type { SnapshotForm, SnapshotSource } from "../../../sidecar/snapshot/source.ts";
import type { SnapshotWriter, SnapshotWriters } from "../../../sidecar/snapshot/stage.ts";
import { openCurrent, readPointer } from "../../../sidecar/snapshot/state-pointer.ts";
import { CrashDisk } from "../../support/crash-disk.ts";
import {
  type MemoryCallOptions,
  type MemoryCallPair,
  memoryCall,
} from "../../support/memory-call.ts";

export const STATE = "/data/state/default/0";
export const CHUNK = 100;
export const TERM = 4;
export const BASE: LogPosition = { term: 3, offset: 41, crc: 0xabcdef01 };

/** Time that passes only when somebody sleeps. */
export class TestClock implements Clock {
  now = 0;
  yields = 0;
  readonly timers: { at: number; fire: () => void }[] = [];
  nowMs(): number {
    return this.now;
  }
  monotonicMs(): number {
    return this.now;
  }
  async sleep(delayMs: number, signal: AbortSignal): Promise<void> {
    await this.yield();
    signal.throwIfAborted();
    this.advance(delayMs);
  }
  timer(delayMs: number, fire: () => void): { cancel(): void } {
    const timer = { at: this.now + delayMs, fire };
    this.timers.push(timer);
    return { cancel: () => this.#drop(timer) };
  }
  async yield(): Promise<void> {
    this.yields++;
    await new Promise<void>((resolve) => setImmediate(resolve));
  }
  advance(delayMs: number): void {
    this.now += delayMs;
    for (const timer of this.timers.filter(({ at }) => at <= this.now)) {
      this.#drop(timer);
      timer.fire();
    }
  }
  #drop(timer: { at: number; fire: () => void }): void {
    const at = this.timers.indexOf(timer);
    if (at >= 0) this.timers.splice(at, 1);
  }
}

/** `bytes` bytes that look like nothing repeats. */
export function contentOf(bytes: number, seed = 1): Uint8Array {
  let at = seed;
  return Uint8Array.from({ length: bytes }, () => {
    at = (Math.imul(at, 1103515245) + 12345) >>> 0;
    return at >>> 16;
  });
}

/** A pinned state whose pages are `content`, given in pieces of `pieceBytes`. */
export function sourceOf(
  content: Uint8Array,
  options: { readonly pieceBytes?: number; readonly forms?: readonly SnapshotForm[] } = {},
): SnapshotSource & { reads: number } {
  const { pieceBytes = 70 } = options;
  const pages = { format: SnapshotFormat.PAGES, formatDetail: "pages-1", exact: true };
  const records = { format: SnapshotFormat.RECORDS, formatDetail: "records-1", exact: false };
  const forms = options.forms ?? [
    { ...pages, bytes: content.length },
    { ...records, bytes: content.length + 7 },
  ];
  return {
    position: BASE,
    records: 9,
    forms,
    reads: 0,
    async *chunks() {
      this.reads++;
      for (let at = 0; at < content.length; at += pieceBytes) {
        yield content.slice(at, at + pieceBytes);
      }
    },
  };
}

/** An engine whose state is one file with the content. */
export class FileWriters implements SnapshotWriters {
  readonly #disk: Disk;
  accepted: readonly SnapshotFormat[] = [SnapshotFormat.PAGES, SnapshotFormat.RECORDS];
  /** False: what an earlier process staged cannot be continued. */
  resumes = true;
  failAppendAt = -1;
  opened: { readonly resumeBytes: number }[] = [];
  appended = 0;

  constructor(disk: Disk) {
    this.#disk = disk;
  }

  accepts(manifest: Manifest): boolean {
    return this.accepted.includes(manifest.format);
  }

  async open(dir: string, manifest: Manifest, resumeBytes: number): Promise<SnapshotWriter | null> {
    if (resumeBytes > 0 && (!this.resumes || manifest.format === SnapshotFormat.RECORDS))
      return null;
    this.opened.push({ resumeBytes });
    if (resumeBytes === 0) assert.deepEqual(await this.#disk.list(dir), []);
    const file = await this.#disk.open(`${dir}/data`, { create: true });
    await file.truncate(resumeBytes);
    return this.#writer(file, resumeBytes);
  }

  #writer(file: DiskFile, from: number): SnapshotWriter {
    let at = from;
    let closed = false;
    return {
      append: async (content) => {
        if (this.appended === this.failAppendAt) throw new Error("the engine is broken");
        this.appended++;
        assert.equal(closed, false, "append after close");
        await file.write([content], at);
        at += content.length;
      },
      sync: () => file.sync(),
      finish: () => file.sync(),
      abort: async () => {
        closed = true;
        await file.close();
      },
    };
  }
}

/** A receiving replica: its disk, receiver and what happened to it. */
export class Target<D extends Disk = CrashDisk> {
  readonly disk: D;
  readonly writers: FileWriters;
  receiver: SnapshotReceiver;
  commit = -1;
  /** Its log holds the base of what is sent. */
  holdsBase = false;
  madeRoom = 0;
  makeRoom: () => void = () => undefined;
  installed: InstalledSnapshot[] = [];
  progress: number[] = [];
  checkStillWanted: () => void = () => undefined;
  syncBytes = 250;

  private constructor(disk: D) {
    this.disk = disk;
    this.writers = new FileWriters(disk);
    this.receiver = this.#newReceiver();
  }

  /** A replica u1 with the old state "old". */
  static async prepared(): Promise<Target> {
    return Target.on(await preparedDisk());
  }

  /** The process that runs on this disk now. */
  static on<D extends Disk>(disk: D): Target<D> {
    return new Target(disk);
  }

  /** Another process starts on this disk. */
  async restart(): Promise<void> {
    await openCurrent(this.disk, STATE, "u1", { dropOld: false });
    this.receiver = this.#newReceiver();
  }

  session(pair: Pair, more: Partial<ReceiveSession> = {}): ReceiveSession {
    return {
      call: pair.server,
      term: TERM,
      signal: new AbortController().signal,
      localCommit: () => this.commit,
      holds: () => this.holdsBase,
      exclusive: (job) => job(),
      checkStillWanted: () => this.checkStillWanted(),
      onInstalled: async (installed) => {
        this.installed.push(installed);
      },
      onProgress: ({ bytesDone }) => this.progress.push(bytesDone),
      ...more,
    };
  }

  /** What the replica would open now: "old", or the content of what was installed. */
  async state(): Promise<Uint8Array | null> {
    const pointer = await readPointer(this.disk, STATE);
    return this.disk.readFile(`${STATE}/${pointer?.dir}/data`);
  }

  #newReceiver(): SnapshotReceiver {
    return new SnapshotReceiver({
      disk: this.disk,
      stateDir: STATE,
      uid: "u1",
      writers: this.writers,
      syncBytes: this.syncBytes,
      reserveBytes: 1000,
      makeRoom: async () => {
        this.madeRoom++;
        this.makeRoom();
      },
    });
  }
}

export const OLD = new TextEncoder().encode("old");

/** A disk with the first state of replica u1, which holds "old". */
export async function preparedDisk(): Promise<CrashDisk> {
  const disk = new CrashDisk();
  await prepare(disk);
  disk.reboot("everything");
  return disk;
}

/** Makes the first state of replica u1 on a disk. */
export async function prepare(disk: Disk): Promise<void> {
  await makeDirDurable(disk, STATE);
  const pointer = await openCurrent(disk, STATE, "u1", { dropOld: false });
  const file = await disk.open(`${STATE}/${pointer.dir}/data`, { create: true });
  await file.write([OLD], 0);
  await file.sync();
  await disk.syncDir(`${STATE}/${pointer.dir}`);
}

export type Pair = MemoryCallPair<SnapshotChunk, SnapshotResponse>;

/** What both ends of one attempt came to: a value or an error each. */
export interface Outcome {
  readonly sent: LogPosition | Error;
  readonly received: InstalledSnapshot | Error;
}

/** Runs one attempt over an in-memory stream. */
export async function attempt(
  target: Target<Disk>,
  source: SnapshotSource,
  options: {
    readonly wire?: MemoryCallOptions<SnapshotChunk, SnapshotResponse>;
    readonly send?: Partial<SendOptions>;
    readonly session?: Partial<ReceiveSession>;
    readonly onPair?: (pair: Pair) => void;
  } = {},
): Promise<Outcome> {
  const pair: Pair = memoryCall(options.wire);
  options.onPair?.(pair);
  const clock = new TestClock();
  const sending = sendSnapshot({
    source,
    snapshotId: "snap-1",
    call: pair.client,
    term: TERM,
    chunkBytes: CHUNK,
    rateLimiter: new RateLimiter(clock, 0),
    clock,
    signal: new AbortController().signal,
    onProgress: () => undefined,
    ...options.send,
  });
  const receiving = target.receiver.receive(target.session(pair, options.session));
  const [sent, received] = await Promise.all([caught(sending), caught(receiving)]);
  return { sent, received };
}

/** The value, or the error as a value. */
export async function caught<T>(work: Promise<T>): Promise<T | Error> {
  try {
    return await work;
  } catch (error) {
    return error as Error;
  }
}

/** Alters what arrives: `alter` gets each chunk message, not the manifest. */
export function onChunks(alter: (chunk: SnapshotChunk) => readonly SnapshotChunk[]) {
  return { up: (m: SnapshotChunk) => (m.manifest === undefined ? alter(m) : [m]) };
}

/** Asserts INVALID_ARGUMENT for this field, with what is allowed. */
export function refused(error: unknown, field: string): void {
  assert.ok(error instanceof ProtocolError, String(error));
  assert.equal(error.reason, "INVALID_ARGUMENT");
  assert.equal(error.metadata["field"], field);
  assert.ok(error.metadata["allowed"]);
}

/** A copy with one bit changed. */
export function flipped(bytes: Uint8Array): Uint8Array {
  const copy = bytes.slice();
  copy[0] = (copy[0] ?? 0) ^ 1;
  return copy;
}
