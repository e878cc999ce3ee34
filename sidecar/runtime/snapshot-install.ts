import type { Refusal } from "../core/effect.ts";
import type { Input } from "../core/input.ts";
import type { Replica } from "../core/replica.ts";
import { InvariantError } from "../lib/assert.ts";
import { isFatal } from "../lib/ports/disk.ts";
import type { DuplexCall } from "../lib/ports/duplex-call.ts";
import { LIMITS } from "../limits.ts";
import { ProtocolError } from "../protocol/errors.ts";
import type {
  Peer,
  RecoveryProgress,
  SnapshotChunk,
  SnapshotResponse,
} from "../protocol/gen/resilver.ts";
import { SnapshotReceiver } from "../snapshot/receiver.ts";
import type { InstalledSnapshot } from "../snapshot/receiver.ts";
import { dropOldStates } from "../snapshot/state-pointer.ts";
import { protocolError } from "./pending-requests.ts";
import type { ReplicaIdentity } from "./replica-identity.ts";
import { type NodeEnvironment, snapshotReserveBytes } from "./replica-options.ts";
import { openState } from "./replica-storage.ts";
import type { ReplicaStorage } from "./replica-storage.ts";
import { engineWriters } from "./snapshot-source.ts";

const ERRORS_KEPT = 3;

/** The replica that a snapshot is installed in. */
export interface InstallHost {
  storage(): ReplicaStorage | null;
  /** Ends background work on the storage. */
  pause(): Promise<void>;
  /** Goes on with the storage given. */
  resume(storage: ReplicaStorage): void;
  /** See ReplicaLoop.exclusive. */
  exclusive(job: (step: (input: Input) => void) => Promise<void>): Promise<void>;
}

interface Options {
  readonly env: NodeEnvironment;
  readonly id: ReplicaIdentity;
  readonly core: Replica;
  readonly feed: (input: Input) => void;
}

interface Session {
  readonly abort: AbortController;
  /** Settled when the core accepts or refuses. */
  readonly accepted: Promise<void>;
  readonly accept: () => void;
  readonly refuse: (error: Error) => void;
}

/** Snapshot streams that come in: asks the core, receives, commits, and tells the core (R12). */
export class SnapshotInstall {
  readonly #o: Options;
  readonly #receiver: SnapshotReceiver;
  readonly #sessions = new Map<number, Session>();
  readonly #serving = new Set<Promise<unknown>>();
  #progress: RecoveryProgress;
  #notifiedMs = 0;
  /** What was set aside is not needed by anybody, says the leader of the stream that is served. */
  #mayDropSetAside = false;

  constructor(options: Options) {
    this.#o = options;
    const { env, id } = options;
    const { directories } = id;
    this.#receiver = new SnapshotReceiver({
      disk: env.disk,
      stateDir: directories.stateDir,
      uid: directories.uid,
      writers: engineWriters(env.engine),
      syncBytes: LIMITS.snapshotDurableEveryBytes,
      reserveBytes: snapshotReserveBytes(env.options),
      makeRoom: (neededBytes) => this.#makeRoom(neededBytes),
    });
    this.#progress = {
      phase: "",
      snapshotId: "",
      bytesDone: 0,
      bytesTotal: 0,
      startedMs: env.clock.nowMs(),
      firstByteMs: 0,
      installedMs: 0,
      attempts: 0,
      lastErrors: [],
    };
  }

  /**
   * What was set aside may be the best copy there is: it goes only while a majority holds all
   * without it, and only if that is enough.
   */
  async #makeRoom(neededBytes: number): Promise<void> {
    const { env, id } = this.#o;
    const { directories } = id;
    await this.dropOldStates();
    if (!this.#mayDropSetAside) return;
    const bytes = await directories.dropSetAsideFor(neededBytes);
    const { namespace, shard } = id;
    if (bytes > 0) env.logger.warn("old files went for want of space", { namespace, shard, bytes });
  }

  progress(): RecoveryProgress {
    return this.#progress;
  }

  /** The replica votes: nothing is being rebuilt any more, and what failed on the way is over. */
  finished(): void {
    const { phase, lastErrors } = this.#progress;
    if (phase !== "" || lastErrors.length > 0) this.#now({ phase: "", lastErrors: [] });
  }

  /** Serves one stream to its end; the caller's call has been told of any failure. */
  async serve(
    streamId: number,
    peer: Peer,
    call: DuplexCall<SnapshotResponse, SnapshotChunk>,
    host: InstallHost,
  ): Promise<void> {
    const session = newSession();
    this.#sessions.set(streamId, session);
    const serving = this.#serve(streamId, peer, call, host, session);
    this.#serving.add(serving);
    try {
      await serving;
    } catch (error) {
      call.fail(error as Error);
      this.#failed(error as Error);
      // Damage is not this replica's here, but the snapshot's.
      if (isFatal(error) || error instanceof InvariantError) this.#o.id.fatal(error);
    } finally {
      this.#serving.delete(serving);
      this.#sessions.delete(streamId);
    }
  }

  accept(streamId: number): void {
    this.#sessions.get(streamId)?.accept();
  }

  refuse(streamId: number, refusal: Refusal | null): void {
    const error =
      refusal === null
        ? new ProtocolError("RESOURCE_UNAVAILABLE", "the stream was closed")
        : protocolError(refusal);
    this.#sessions.get(streamId)?.refuse(error);
  }

  /** A new term or enrolment: the transfer ends at once (H16). */
  abort(streamId: number): void {
    const why = new ProtocolError("INVALID_TERM", "a newer term began during the transfer");
    this.#sessions.get(streamId)?.abort.abort(why);
  }

  dropOldStates(): Promise<void> {
    const { env, id } = this.#o;
    return dropOldStates(env.disk, id.directories.stateDir);
  }

  async close(): Promise<void> {
    const closing = new ProtocolError("RESOURCE_UNAVAILABLE", "this replica is closing");
    for (const session of this.#sessions.values()) {
      session.refuse(closing);
      session.abort.abort(closing);
    }
    try {
      await this.#receiver.close();
    } finally {
      await Promise.allSettled([...this.#serving]);
    }
  }

  async #serve(
    streamId: number,
    peer: Peer,
    call: DuplexCall<SnapshotResponse, SnapshotChunk>,
    host: InstallHost,
    session: Session,
  ): Promise<void> {
    const { core, feed, env, id } = this.#o;
    const { diverged } = id.meta.current;
    if (diverged !== "") throw new ProtocolError("INVALID_STATUS", `no snapshot: ${diverged}`);
    feed({ kind: "installBegin", streamId, peer });
    await session.accepted;
    this.#mayDropSetAside = peer.majorityHolds;
    this.#progress = { ...this.#progress, attempts: this.#progress.attempts + 1 };
    let received = 0;
    let stepInstalled: ((base: InstalledSnapshot) => Promise<void>) | null = null;
    try {
      await this.#receiver.receive({
        call,
        term: peer.term,
        signal: session.abort.signal,
        localCommit: () => core.state.commit,
        holds: (base) => core.state.log.contains(base),
        exclusive: (job) =>
          host.exclusive(async (step) => {
            stepInstalled = async ({ base, dir }) => {
              await this.#swap(host, dir);
              step({ kind: "installed", streamId, base });
            };
            await job();
          }),
        checkStillWanted: () => {
          session.abort.signal.throwIfAborted();
          if (core.state.promised.term !== peer.term) throw termMoved(core.state.promised.term);
        },
        onInstalled: async (installed) => {
          try {
            await stepInstalled?.(installed);
          } catch (error) {
            // The pointer names the new state already: only a restart finds its way from here
            // (R12).
            this.#o.id.fatal(error as Error);
            throw error;
          }
          this.#now({ phase: "CatchingUp", installedMs: env.clock.nowMs() });
        },
        onProgress: ({ phase, snapshotId, bytesDone, bytesTotal }) => {
          env.metrics.snapshotBytes("received", Math.max(0, bytesDone - received));
          received = Math.max(received, bytesDone);
          const first = this.#progress.firstByteMs;
          const firstByteMs = first === 0 && bytesDone > 0 ? env.clock.nowMs() : first;
          this.#now({ phase, snapshotId, bytesDone, bytesTotal, firstByteMs });
        },
      });
    } finally {
      feed({ kind: "installEnded", streamId });
    }
  }

  /**
   * The pointer names the new state: log, state and cache follow before any other input is taken.
   */
  async #swap(host: InstallHost, dir: string): Promise<void> {
    const { env, id } = this.#o;
    const storage = host.storage();
    if (storage === null) throw new Error("an install without storage");
    await host.pause();
    await storage.state.close();
    const state = await openState(env, `${id.directories.stateDir}/${dir}`, id.meta.current);
    await storage.wal.reset(state.applied);
    storage.cache.clear();
    host.resume({ ...storage, state });
  }

  #now(change: Partial<RecoveryProgress>): void {
    const phaseChanged = change.phase !== undefined && change.phase !== this.#progress.phase;
    this.#progress = { ...this.#progress, ...change };
    const nowMs = this.#o.env.clock.monotonicMs();
    if (!phaseChanged && nowMs - this.#notifiedMs < 100) return;
    this.#notifiedMs = nowMs;
    this.#o.id.changed();
  }

  #failed(error: Error): void {
    const lastErrors = [...this.#progress.lastErrors, error.message].slice(-ERRORS_KEPT);
    this.#progress = { ...this.#progress, lastErrors };
    // Nothing else may change for long: a full disk is said only here.
    this.#o.id.changed();
  }
}

function termMoved(term: number): ProtocolError {
  return new ProtocolError("INVALID_TERM", `this replica is in term ${term} now`, {
    term: String(term),
  });
}

function newSession(): Session {
  let accept = (): void => {};
  let refuse = (error: Error): void => void error;
  const accepted = new Promise<void>((resolve, reject) => {
    accept = resolve;
    refuse = reject;
  });
  accepted.catch(() => undefined);
  return { abort: new AbortController(), accepted, accept, refuse };
}
