import { DiskError, type Disk, isFatal, madeFatal } from "../lib/ports/disk.ts";
import { type DuplexCall, TransportError } from "../lib/ports/duplex-call.ts";
import { makeDirDurable } from "../lib/sealed-file.ts";
import type { LogPosition, Offset, Term } from "../protocol/entry.ts";
import { ProtocolError } from "../protocol/errors.ts";
import {
  type SnapshotChunk,
  SnapshotFormat,
  type SnapshotResponse,
} from "../protocol/gen/resilver.ts";
import { type Manifest, checkManifest, refusal, sameManifest } from "./manifest.ts";
import { MessageReader } from "./message-reader.ts";
import { listStages, readProgress, removeStage, stagePath } from "./stage-files.ts";
import { type SnapshotWriter, type SnapshotWriters, Stage, WholeHashError } from "./stage.ts";
import { type StatePointer, nextStateDir, readPointer, writePointer } from "./state-pointer.ts";

/** What the receiver of a replica needs. */
export interface ReceiverOptions {
  readonly disk: Disk;
  /** The shard's state directory. */
  readonly stateDir: string;
  readonly uid: string;
  readonly writers: SnapshotWriters;
  /** Bytes between two durable progress records: what a crash costs at most. */
  readonly syncBytes: number;
  /** Bytes that must stay free after an install. */
  readonly reserveBytes: number;
  /** Frees what may be freed, when that gives the bytes: what was set aside, old states. */
  readonly makeRoom: (neededBytes: number) => Promise<void>;
}

/** One stream to serve. */
export interface ReceiveSession {
  readonly call: DuplexCall<SnapshotResponse, SnapshotChunk>;
  /** The term of the stream's peer: each message must be of it. */
  readonly term: Term;
  /** Ends the attempt at once, also inside a wait: a new term, a newer stream, shutdown. */
  readonly signal: AbortSignal;
  /** What must never go backwards (R12). */
  readonly localCommit: () => Offset;
  /** True when the replica's log holds this position: entries after it may count already (H11). */
  readonly holds: (base: LogPosition) => boolean;
  /**
   * Runs `job` while no other input of the replica is handled, so that no term or enrolment changes
   * between the last check, the commit and the core's install event.
   */
  readonly exclusive: (job: () => Promise<void>) => Promise<void>;
  /**
   * Throws the refusal when term or enrolment no longer want this snapshot; called last before the
   * commit.
   */
  readonly checkStillWanted: () => void;
  /**
   * Inside `exclusive`, after the commit: opens the new state, gives the core its install event.
   */
  readonly onInstalled: (installed: InstalledSnapshot) => Promise<void>;
  readonly onProgress: (progress: ReceiveProgress) => void;
}

/**
 * A snapshot that is now the replica's state, durably. The one event of an install (seed part 4).
 */
export interface InstalledSnapshot {
  readonly snapshotId: string;
  /** Head and commit of the replica (R5); the log is reset to go on after it. */
  readonly base: LogPosition;
  /** Name of the new state directory. */
  readonly dir: string;
  readonly records: number;
  readonly bytes: number;
}

/** How far a transfer is. */
export interface ReceiveProgress {
  readonly phase: "Transferring" | "Installing";
  readonly snapshotId: string;
  readonly bytesDone: number;
  /** An estimate unless the manifest has a chunk count. */
  readonly bytesTotal: number;
}

/** Parts in a hundred that a state of sorted records may need on disk more than its content. */
const RECORDS_EXTRA_PERCENT = 50;

/**
 * Receives the snapshots of one replica, one at a time: a newer stream ends an older one. The old
 * state stays whole until one pointer file is replaced (I13). A stage outlives a broken stream and,
 * as far as was recorded, the process; a transfer of any other snapshot removes it.
 */
export class SnapshotReceiver {
  readonly #options: ReceiverOptions;
  #stage: Stage | null = null;
  #running: Running | null = null;

  constructor(options: ReceiverOptions) {
    this.#options = options;
  }

  /**
   * Serves one stream to its end. On failure the call is failed with the error and the promise
   * rejects with it: a ProtocolError by name, TransportError when the stream ended early, the
   * signal's reason, or a DiskError, which is fatal if it says so (R14).
   */
  async receive(session: ReceiveSession): Promise<InstalledSnapshot> {
    while (this.#running !== null) await this.#supersede(this.#running);
    const stop = new AbortController();
    const onAbort = (): void => stop.abort(session.signal.reason);
    if (session.signal.aborted) onAbort();
    session.signal.addEventListener("abort", onAbort, { once: true });
    const work = this.#serve(session, stop.signal);
    const running = { stop, ended: work.catch(() => undefined) };
    this.#running = running;
    try {
      return await work;
    } finally {
      session.signal.removeEventListener("abort", onAbort);
      if (this.#running === running) this.#running = null;
    }
  }

  /** Ends the stream being served and closes the stage; its files stay for a later process. */
  async close(): Promise<void> {
    const closing = new ProtocolError("RESOURCE_UNAVAILABLE", "this replica is closing");
    this.#running?.stop.abort(closing);
    await this.#running?.ended;
    await this.#stage?.close();
    this.#stage = null;
  }

  /** Removes everything staged: the replica recovered another way. No stream may be running. */
  async discard(): Promise<void> {
    await this.#keepOnly(null);
  }

  async #supersede(running: Running): Promise<void> {
    running.stop.abort(new ProtocolError("RESOURCE_CONFLICT", "a newer snapshot stream came"));
    await running.ended;
    if (this.#running === running) this.#running = null;
  }

  async #serve(session: ReceiveSession, signal: AbortSignal): Promise<InstalledSnapshot> {
    const reader = new MessageReader(session.call.messages, signal);
    try {
      const manifest = await this.#negotiate(session, reader);
      const stage = await this.#stageFor(manifest);
      await this.#fill(session, reader, stage);
      session.onProgress(progressOf(stage, "Installing"));
      await stage.finish();
      signal.throwIfAborted();
      const installed = await this.#install(session, stage, signal);
      respond(session.call, {
        ackOffset: installed.base.offset,
        installed: true,
        bytesVerified: stage.bytes,
      });
      session.call.end();
      return installed;
    } catch (error) {
      // The sender hears of it before any clean-up, which may fail in its turn.
      const told = refusalOf(error as Error);
      session.call.fail(told);
      await this.#cleanUp(error as Error, signal);
      throw told;
    } finally {
      reader.close();
    }
  }

  /** Reads manifests until one can be taken here. */
  async #negotiate(
    session: ReceiveSession,
    reader: MessageReader<SnapshotChunk>,
  ): Promise<Manifest> {
    for (;;) {
      const message = await nextMessage(reader, session.term);
      if (message.manifest === undefined) {
        throw refusal("manifest", "missing", "set in the first message");
      }
      const manifest = checkManifest(message.manifest, session.term);
      if (message.snapshotId !== manifest.snapshotId) {
        throw refusal("snapshot_id", message.snapshotId, manifest.snapshotId);
      }
      this.#checkBase(session, manifest.base);
      if (this.#options.writers.accepts(manifest)) return manifest;
      if (manifest.format === SnapshotFormat.RECORDS) {
        throw refusal("format_detail", manifest.formatDetail, "a form of records known here");
      }
      respond(session.call, { wantRecords: true });
    }
  }

  /**
   * A snapshot from before what this replica knows to be committed would take it back (R12, I9).
   */
  #checkBase(session: ReceiveSession, base: LogPosition): void {
    const commit = session.localCommit();
    if (session.holds(base)) {
      throw new ProtocolError(
        "RESOURCE_CONFLICT",
        `snapshot: base.offset ${base.offset} is in this replica's log, which goes on from there`,
        { field: "base.offset", value: String(base.offset), allowed: "beyond the local log" },
      );
    }
    if (base.offset >= commit) return;
    throw new ProtocolError(
      "RESOURCE_CONFLICT",
      `snapshot: base.offset is ${base.offset}, allowed: at least the local commit offset ${commit}`,
      { field: "base.offset", value: String(base.offset), allowed: `>= ${commit}` },
    );
  }

  /** The stage to go on with: the one in memory, what an earlier process proved, or a new one. */
  async #stageFor(manifest: Manifest): Promise<Stage> {
    if (this.#stage !== null && sameManifest(this.#stage.manifest, manifest)) return this.#stage;
    await this.#keepOnly(manifest);
    const { disk, stateDir, uid, writers, syncBytes } = this.#options;
    const found = await readProgress(disk, stateDir, manifest.snapshotId);
    let progress = found?.uid === uid && sameManifest(found.manifest, manifest) ? found : null;
    await this.#checkSpace(manifest, progress?.bytes ?? 0);
    const dir = stagePath(stateDir, manifest.snapshotId);
    let writer: SnapshotWriter | null = null;
    if (progress !== null) writer = await writers.open(dir, manifest, progress.bytes);
    if (writer === null) {
      progress = null;
      await removeStage(disk, stateDir, manifest.snapshotId);
      await makeDirDurable(disk, dir);
      writer = await writers.open(dir, manifest, 0);
      if (writer === null) throw new Error(`no writer for an empty stage in ${dir}`);
    }
    const options = { disk, stateDir, uid, manifest, writer, progress, syncBytes };
    this.#stage = new Stage(options);
    return this.#stage;
  }

  /** Removes every stage but that of `manifest`. */
  async #keepOnly(manifest: Manifest | null): Promise<void> {
    const { disk, stateDir } = this.#options;
    const open = this.#stage;
    this.#stage = null;
    await open?.close();
    for (const id of await listStages(disk, stateDir)) {
      if (id !== manifest?.snapshotId) await removeStage(disk, stateDir, id);
    }
  }

  /** Refuses before anything is written when the snapshot cannot fit. */
  async #checkSpace(manifest: Manifest, staged: number): Promise<void> {
    const { disk, stateDir, reserveBytes, makeRoom } = this.#options;
    const extra =
      manifest.format === SnapshotFormat.RECORDS
        ? (manifest.bytes * RECORDS_EXTRA_PERCENT) / 100
        : 0;
    const needed = Math.ceil(manifest.bytes + extra) - staged + reserveBytes;
    if ((await disk.freeBytes(stateDir)) >= needed) return;
    await makeRoom(needed);
    const free = await disk.freeBytes(stateDir);
    if (free >= needed) return;
    throw new ProtocolError(
      "NO_SPACE",
      `snapshot ${manifest.snapshotId} needs ${needed} bytes in ${stateDir}, free: ${free}`,
      {
        field: "bytes",
        value: String(needed),
        allowed: `<= ${free}`,
        needed: String(needed),
        free: String(free),
      },
    );
  }

  async #fill(
    session: ReceiveSession,
    reader: MessageReader<SnapshotChunk>,
    stage: Stage,
  ): Promise<void> {
    respond(session.call, { resumeChunk: stage.chunks, bytesVerified: stage.bytes });
    let last = false;
    while (!last) {
      session.onProgress(progressOf(stage, "Transferring"));
      const message = await nextMessage(reader, session.term);
      last = message.wholeHash.length > 0;
      if (await stage.take(message)) respond(session.call, { bytesVerified: stage.bytes });
    }
  }

  /**
   * The commit: everything is durable before, one renamed file makes it the replica's state (R12).
   */
  async #install(
    session: ReceiveSession,
    stage: Stage,
    signal: AbortSignal,
  ): Promise<InstalledSnapshot> {
    const { disk, stateDir, uid } = this.#options;
    const { snapshotId, base, records } = stage.manifest;
    let installed: InstalledSnapshot | null = null;
    await session.exclusive(async () => {
      signal.throwIfAborted();
      session.checkStillWanted();
      this.#checkBase(session, base);
      const dir = await nextStateDir(disk, stateDir);
      this.#stage = null;
      await disk.rename(stage.dir, `${stateDir}/${dir}`);
      await disk.syncDir(stateDir);
      await this.#commit({ dir, base, snapshotId, uid });
      installed = { snapshotId, base, dir, records, bytes: stage.bytes };
      await session.onInstalled(installed);
    });
    if (installed === null) throw new Error("exclusive() did not run its job");
    return installed;
  }

  async #commit(pointer: StatePointer): Promise<void> {
    const { disk, stateDir } = this.#options;
    try {
      await writePointer(disk, stateDir, pointer);
    } catch (error) {
      if (!(error instanceof DiskError) || error.fatal) throw error;
      // Null: it cannot be read. Only where the old pointer is seen to stand may the replica go on
      // with the old state; the next process finds its way from either.
      const named = await readPointer(disk, stateDir).catch(() => null);
      if (named === null || named.dir === pointer.dir) throw madeFatal(error);
      // A full disk, say: the new state would only keep it full.
      await disk.remove(`${stateDir}/${pointer.dir}`);
      throw error;
    }
  }

  /**
   * Decides what stays of the stage. A refused message, a broken stream or an abort leave it: each
   * chunk in it is verified. Any failure of hash, writer or disk removes it, since what it holds is
   * in doubt; not after a fatal disk error, when nothing on this disk may be relied on until the
   * restart.
   */
  async #cleanUp(error: Error, signal: AbortSignal): Promise<void> {
    const aborted = signal.aborted && error === signal.reason;
    const verified = error instanceof ProtocolError || error instanceof TransportError;
    if (aborted || verified || isFatal(error)) return;
    try {
      await this.#keepOnly(null);
    } catch (failure) {
      // What is left is removed by the next transfer or open; only a lost sync matters now.
      if (isFatal(failure)) throw failure;
    }
  }
}

/** What the sender and the caller are told of a failure. */
function refusalOf(error: Error): Error {
  if (error instanceof WholeHashError) return refusal("whole_hash", error.value, error.allowed);
  if (error instanceof DiskError && error.code === "NO_SPACE" && !error.fatal) {
    return new ProtocolError("NO_SPACE", `snapshot: ${error.message}`, { path: error.path });
  }
  return error;
}

/** The stream being served, and how to end it. */
interface Running {
  readonly stop: AbortController;
  readonly ended: Promise<unknown>;
}

async function nextMessage(
  reader: MessageReader<SnapshotChunk>,
  term: Term,
): Promise<SnapshotChunk> {
  const message = await reader.next();
  if (message === null) throw new TransportError("the sender ended the snapshot stream early");
  if (message.term === term) return message;
  throw new ProtocolError("INVALID_TERM", `snapshot: term is ${message.term}, allowed: ${term}`, {
    field: "term",
    value: String(message.term),
    allowed: String(term),
    term: String(term),
  });
}

function respond(
  call: DuplexCall<SnapshotResponse, SnapshotChunk>,
  part: Partial<SnapshotResponse>,
): void {
  // A few small messages a transfer: they need no back-pressure.
  call.write({
    ackOffset: -1,
    resumeChunk: 0,
    bytesVerified: 0,
    installed: false,
    wantRecords: false,
    ...part,
  });
}

function progressOf(stage: Stage, phase: ReceiveProgress["phase"]): ReceiveProgress {
  const { snapshotId, bytes } = stage.manifest;
  return { phase, snapshotId, bytesDone: stage.bytes, bytesTotal: bytes };
}
