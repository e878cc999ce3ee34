import { Replica } from "../core/replica.ts";
import type { Effect, Reply } from "../core/effect.ts";
import type { CoordinationInput, Input, RequestId } from "../core/input.ts";
import { LogIndex } from "../core/log-index.ts";
import { assert } from "../lib/assert.ts";
import { DiskError } from "../lib/ports/disk.ts";
import type { DuplexCall } from "../lib/ports/duplex-call.ts";
import { INVALID_OFFSET } from "../protocol/entry.ts";
import { ProtocolError } from "../protocol/errors.ts";
import type {
  GetRequest,
  GetResponse,
  ListRequest,
  RangeScanRequest,
  WriteRequest,
  WriteResponse,
} from "../protocol/gen/oxia-client.ts";
import type {
  Ack,
  AddFollowerRequest,
  Append,
  BecomeLeaderRequest,
  BecomeLeaderResponse,
  ChecksumResponse,
  EnrolRequest,
  EnrolResponse,
  NewTermRequest,
  NewTermResponse,
  Peer,
  PromoteRequest,
  RemoveFollowerRequest,
  RemoveFollowerResponse,
  ReplicaStatus,
  SnapshotChunk,
  SnapshotResponse,
  TruncateRequest,
  TruncateResponse,
  UpdateEnsembleRequest,
  UpdateEnsembleResponse,
} from "../protocol/gen/resilver.ts";
import { wrapWriteRequest } from "../protocol/log-entry-value.ts";
import { statusName } from "../protocol/status.ts";
import { Applier } from "./applier.ts";
import { IncomingStreams } from "./incoming-streams.ts";
import { LogKeeper } from "./log-keeper.ts";
import { OutgoingStreams } from "./outgoing-streams.ts";
import { PendingRequests, protocolError } from "./pending-requests.ts";
import type { ReplicaHandle } from "./ports.ts";
import { ReplicaLoop } from "./replica-loop.ts";
import type { ReplicaMetaStore } from "./replica-meta.ts";
import type { NodeEnvironment } from "./replica-options.ts";
import { replicaStatus, statusSignature } from "./replica-status.ts";
import { logDir, openStorage } from "./replica-storage.ts";
import type { ReplicaStorage } from "./replica-storage.ts";
import { formattedBefore } from "./shard-directories.ts";
import type { ShardDirectories } from "./shard-directories.ts";
import { SnapshotInstall } from "./snapshot-install.ts";

/** Log bytes of a follower that are buffered and not durable before its stream waits. */
const UNSYNCED_BYTES_MAX = 32 * 1024 * 1024;
/** Milliseconds between two ticks of the core. */
const TICK_MS = 20;
const NO_SPACE_RETRY_MS = 500;
/** Beyond this the last checkpoint would not fit into the time of a clean shutdown. */
const LAST_CHECKPOINT_BYTES_MAX = 16 * 1024 * 1024;

/** Which replica to open, and who hears of it. */
export interface ReplicaIdentity {
  readonly storeId: string;
  readonly namespace: string;
  readonly shard: number;
  readonly directories: ShardDirectories;
  readonly meta: ReplicaMetaStore;
  /** Null while files of an older identity wait to be set aside. */
  readonly storage: ReplicaStorage | null;
  /** Something that watchers must learn at once changed. */
  readonly changed: () => void;
  /** The process must end (R14). */
  readonly fatal: (error: Error) => void;
}

/**
 * One replica at work: feeds its core and performs the effects on log, state, streams and promises. The
 * order that safety needs is the core's; this only reports completions.
 */
export class ReplicaDriver implements ReplicaHandle {
  readonly namespace: string;
  readonly shard: number;
  readonly #env: NodeEnvironment;
  readonly #id: ReplicaIdentity;
  readonly #core: Replica;
  readonly #loop: ReplicaLoop;
  readonly #pending = new PendingRequests();
  readonly #incoming: IncomingStreams;
  readonly #outgoing: OutgoingStreams;
  readonly #install: SnapshotInstall;
  readonly #stop = new AbortController();
  readonly #tasks = new Set<Promise<void>>();
  #storage: ReplicaStorage | null;
  #applier: Applier | null = null;
  #keeper: LogKeeper | null = null;
  #keeping: Promise<void> = Promise.resolve();
  #storageStop = new AbortController();
  #syncWanted = false;
  #syncing: Promise<void> | null = null;
  #unsyncedBytes = 0;
  #nextStreamId = 1;
  #fault = "";
  #signature = "";

  constructor(env: NodeEnvironment, id: ReplicaIdentity) {
    this.#env = env;
    this.#id = id;
    this.namespace = id.namespace;
    this.shard = id.shard;
    const meta = id.meta.current;
    this.#core = new Replica(
      {
        node: env.node,
        storeId: id.storeId,
        uid: id.directories.uid,
        bootCounter: meta.bootCounter,
        formattedBefore: formattedBefore(id.directories, meta),
        promised: meta,
        log: id.storage?.log ?? new LogIndex(),
        applied: id.storage?.state.applied.offset ?? INVALID_OFFSET,
      },
      {
        heartbeatMs: env.options.heartbeatMs,
        reconnectMinMs: 20,
        reconnectMaxMs: 500,
        tailEntriesMax: env.options.tailEntriesMax,
        pendingReadsMax: 50_000,
      },
    );
    this.#storage = id.storage;
    this.#loop = new ReplicaLoop({
      core: this.#core,
      perform: (effect) => this.#perform(effect),
      afterDrain: () => this.#afterDrain(),
      failed: (error) => this.#fail(error),
    });
    const feed = (input: Input): void => this.#loop.feed(input);
    this.#incoming = new IncomingStreams(id.directories.uid, feed, () => this.#admit());
    this.#outgoing = new OutgoingStreams({ env, id, core: this.#core, feed });
    this.#install = new SnapshotInstall({ env, id, core: this.#core, feed });
    if (this.#storage !== null) this.#startStorage(this.#storage);
    this.#own(this.#tick());
    this.#signature = statusSignature(this.#core, "");
  }

  newTerm(request: NewTermRequest): Promise<NewTermResponse> {
    return this.#order("newTerm", (id) => ({ kind: "newTerm", id, request }));
  }

  becomeLeader(request: BecomeLeaderRequest, signal: AbortSignal): Promise<BecomeLeaderResponse> {
    const nowMs = this.#env.clock.nowMs();
    return this.#order("becomeLeader", (id) => ({ kind: "becomeLeader", id, request, nowMs }), signal);
  }

  async addFollower(request: AddFollowerRequest): Promise<void> {
    await this.#order("done", (id) => ({ kind: "addFollower", id, request }));
  }

  removeFollower(request: RemoveFollowerRequest): Promise<RemoveFollowerResponse> {
    return this.#order("removeFollower", (id) => ({ kind: "removeFollower", id, request }));
  }

  async promote(request: PromoteRequest): Promise<void> {
    await this.#order("done", (id) => ({ kind: "promote", id, request }));
  }

  updateEnsemble(
    request: UpdateEnsembleRequest,
    signal: AbortSignal,
  ): Promise<UpdateEnsembleResponse> {
    const nowMs = this.#env.clock.nowMs();
    const input = (id: RequestId): Input => ({ kind: "updateEnsemble", id, request, nowMs });
    return this.#order("updateEnsemble", input as never, signal);
  }

  enrol(request: EnrolRequest): Promise<EnrolResponse> {
    return this.#order("enrol", (id) => ({ kind: "enrol", id, request }));
  }

  truncate(request: TruncateRequest): Promise<TruncateResponse> {
    return this.#order("truncate", (id) => ({ kind: "truncate", id, request }));
  }

  async serveReplicate(peer: Peer, call: DuplexCall<Ack, Append>): Promise<void> {
    this.#refuseIfFaulty();
    this.#countRejection(peer);
    await this.#incoming.serve(this.#nextStreamId++, peer, call);
  }

  async serveSnapshot(
    peer: Peer,
    call: DuplexCall<SnapshotResponse, SnapshotChunk>,
  ): Promise<void> {
    this.#refuseIfFaulty();
    await this.#install.serve(this.#nextStreamId++, peer, call, {
      storage: () => this.#storage,
      pause: () => this.#pauseStorage(),
      resume: (storage) => this.#startStorage(storage),
      exclusive: (job) => this.#loop.exclusive(job),
    });
  }

  write(request: WriteRequest, raw: Uint8Array): Promise<WriteResponse> {
    void request;
    this.#refuseIfFaulty();
    const noSpace = this.#keeper?.noSpace ?? null;
    if (noSpace !== null) {
      const { path, freeBytes } = noSpace;
      const allowed = `>= ${this.#env.options.freeBytesMin}`;
      const text = `the volume of ${path} has ${freeBytes} bytes free, writes need ${allowed}`;
      const metadata = { field: "free bytes", value: String(freeBytes), allowed };
      return Promise.reject(new ProtocolError("NO_SPACE", text, metadata));
    }
    const { clock } = this.#env;
    const value = wrapWriteRequest(raw);
    const nowMs = clock.nowMs();
    return this.#pending.write(value.length, clock.monotonicMs(), (id) => {
      this.#loop.feed({ kind: "propose", id, value, nowMs });
    });
  }

  async readBarrier(): Promise<void> {
    this.#refuseIfFaulty();
    await this.#pending.read((id) => this.#loop.feed({ kind: "read", id }));
  }

  get(request: GetRequest): GetResponse {
    return this.#open().state.get(request);
  }

  list(request: ListRequest): Iterable<readonly string[]> {
    return this.#open().state.list(request);
  }

  scan(request: RangeScanRequest): Iterable<readonly GetResponse[]> {
    return this.#open().state.scan(request);
  }

  status(): ReplicaStatus {
    return replicaStatus(this.#core, {
      node: this.#env.node,
      namespace: this.namespace,
      shard: this.shard,
      meta: this.#id.meta.current,
      formattedBefore: formattedBefore(this.#id.directories, this.#id.meta.current),
      durableOffset: this.#storage?.state.durable.offset ?? INVALID_OFFSET,
      recovery: this.#install.progress(),
      fault: this.#fault,
      transfers: this.#outgoing.transfers,
    });
  }

  async checksum(atLeastOffset: number, signal: AbortSignal): Promise<ChecksumResponse> {
    const { state } = this.#open();
    if (state.applied.offset < atLeastOffset) {
      await new Promise<void>((resolve, reject) => {
        const aborted = (): void => reject(signal.reason as Error);
        signal.addEventListener("abort", aborted, { once: true });
        this.#applier?.whenApplied(atLeastOffset, () => {
          signal.removeEventListener("abort", aborted);
          resolve();
        });
      });
    }
    return this.#open().state.checksum(signal);
  }

  /** Drains, syncs, makes a last checkpoint, and closes. */
  async close(): Promise<void> {
    const closing = new ProtocolError("RESOURCE_UNAVAILABLE", "this replica is closing");
    this.#stop.abort(closing);
    this.#incoming.closeAll();
    await this.#outgoing.close();
    await this.#install.close();
    await this.#loop.stop();
    this.#pending.close(closing);
    const storage = this.#storage;
    if (storage !== null) {
      await this.#pauseStorage();
      await storage.wal.sync();
      // Only saves the next start a replay; the log is durable already.
      if (storage.state.stats.tableBytes < LAST_CHECKPOINT_BYTES_MAX) {
        await storage.state.checkpoint();
      }
      await storage.state.close();
      await storage.wal.close();
    }
    await Promise.all(this.#tasks);
  }

  #perform(effect: Effect): Promise<void> | undefined {
    switch (effect.kind) {
      case "appendLog": {
        const { wal, cache } = this.#open();
        wal.append([effect.entry]);
        cache.add(effect.entry);
        this.#unsyncedBytes += effect.entry.value.length;
        return undefined;
      }
      case "truncateLog":
        this.#open().cache.truncate(effect.lastOffset);
        return this.#open().wal.truncate(effect.lastOffset);
      case "syncLog":
        this.#syncWanted = true;
        return undefined;
      case "persistMeta":
        return this.#persist(effect);
      case "apply":
        this.#applier?.advance(effect.offset, (error) => this.#fail(error));
        return undefined;
      case "ack":
        this.#incoming.ack(effect.streamId, effect);
        return undefined;
      case "closeStream":
        this.#incoming.close(effect.streamId, effect.refusal);
        this.#install.refuse(effect.streamId, effect.refusal);
        return undefined;
      case "acceptInstall":
        this.#install.accept(effect.streamId);
        return undefined;
      case "abortInstall":
        this.#install.abort(effect.streamId);
        return undefined;
      case "votes":
        this.#own(this.#nowVotes());
        return undefined;
      case "fault":
        this.#fault = effect.message;
        this.#env.logger.error("replica stopped", { fault: effect.message });
        return undefined;
      default:
        return this.#performForCallers(effect);
    }
  }

  #performForCallers(effect: Effect): undefined {
    switch (effect.kind) {
      case "reply":
        this.#pending.replied(effect.id, effect.reply);
        return;
      case "refuse":
        this.#pending.refused(effect.id, protocolError(effect.refusal));
        return;
      case "proposed":
        this.#pending.proposed(effect.id, effect.offset);
        return;
      case "stepDown":
        this.#pending.steppedDown();
        return;
      case "releaseReads":
        this.#applier?.whenApplied(effect.offset, () => {
          for (const id of effect.requestIds) this.#pending.released(id);
        });
        return;
      default:
        this.#outgoing.perform(effect);
    }
  }

  /** Promises are saved in order; the answer that waits for one is the core's business. */
  #persist(effect: Effect & { kind: "persistMeta" }): Promise<void> | undefined {
    const { promised, token, setAside } = effect;
    const save = async (): Promise<void> => {
      await this.#id.meta.update({ ...promised });
      this.#loop.feed({ kind: "metaPersisted", token });
    };
    if (!setAside || this.#storage !== null) {
      this.#own(save());
      return undefined;
    }
    // The first Enrol of a replica whose old files still lie there: they go aside before anything else.
    return (async () => {
      const { directories, meta } = this.#id;
      await directories.setAsideOldFiles();
      this.#startStorage(await openStorage(this.#env, directories, meta.current));
      this.#own(save());
    })();
  }

  async #nowVotes(): Promise<void> {
    const { meta, directories } = this.#id;
    await this.#install.dropOldStates();
    await directories.dropSetAside();
    if (meta.current.wipeReason !== 0) await meta.update({ wipeReason: 0 });
    this.#id.changed();
  }

  #startStorage(storage: ReplicaStorage): void {
    this.#storage = storage;
    this.#storageStop = new AbortController();
    const { signal } = this.#storageStop;
    const { clock, budget, disk, logger, options, metrics } = this.#env;
    const { state, reader, wal } = storage;
    this.#applier = new Applier({
      state,
      reader,
      budget,
      clock,
      signal,
      applied: (offset) => this.#loop.feed({ kind: "applied", offset }),
      outcome: (offset, response) => {
        const startMs = this.#pending.applied(offset, response);
        if (startMs !== null) metrics.append((clock.monotonicMs() - startMs) / 1000);
      },
    }, this.#applier);
    this.#keeper = new LogKeeper({
      wal,
      dir: logDir(this.#id.directories),
      state,
      disk,
      clock,
      budget,
      logger,
      options,
      signal,
      transferFloor: () => this.#outgoing.transferFloor(),
      trimmed: (offset) => this.#loop.feed({ kind: "trimmed", offset }),
    });
    this.#outgoing.useStorage(storage);
    this.#keeping = this.#keeper.run();
    this.#own(this.#keeping);
  }

  /** Ends all background work on log and state, so that they can be swapped or closed. */
  async #pauseStorage(): Promise<void> {
    this.#storageStop.abort(new Error("storage pauses"));
    await this.#outgoing.dropPins();
    await this.#applier?.idle();
    await this.#syncing;
    await this.#keeping;
  }

  /** After a batch of inputs: one sync for all of it, and word to the streams. */
  #afterDrain(): void {
    this.#outgoing.notify();
    if (this.#syncWanted && this.#syncing === null) {
      this.#syncing = this.#sync().finally(() => {
        this.#syncing = null;
        if (this.#syncWanted) this.#afterDrain();
      });
    }
    const signature = statusSignature(this.#core, this.#fault);
    if (signature === this.#signature) return;
    this.#signature = signature;
    this.#env.logger.info("replica changed", {
      namespace: this.namespace,
      shard: this.shard,
      term: this.#core.state.promised.term,
      status: statusName(this.#core.state.status),
    });
    this.#id.changed();
  }

  async #sync(): Promise<void> {
    const storage = this.#storage;
    this.#syncWanted = false;
    if (storage === null) {
      // Nothing can have been appended yet.
      this.#loop.feed({ kind: "synced", offset: INVALID_OFFSET, logEpoch: this.#core.state.logEpoch });
      return;
    }
    const { logEpoch } = this.#core.state;
    const bytes = this.#unsyncedBytes;
    try {
      const { offset } = await storage.wal.sync();
      this.#unsyncedBytes = Math.max(0, this.#unsyncedBytes - bytes);
      this.#loop.feed({ kind: "synced", offset, logEpoch });
    } catch (error) {
      if (!(error instanceof DiskError) || error.fatal || error.code !== "NO_SPACE") {
        this.#fail(error);
        return;
      }
      await this.#waitForSpace(error);
    }
  }

  /** A full disk: what was appended stays pending and is tried again; nothing is acknowledged meanwhile. */
  async #waitForSpace(error: DiskError): Promise<void> {
    this.#env.logger.error("log cannot be written, waiting for space", { reason: error.message });
    await this.#env.clock.sleep(NO_SPACE_RETRY_MS, this.#stop.signal).catch(() => undefined);
    this.#syncWanted = !this.#stop.signal.aborted;
  }

  #admit(): Promise<void> | undefined {
    if (this.#unsyncedBytes < UNSYNCED_BYTES_MAX) return undefined;
    return this.#syncing ?? undefined;
  }

  async #tick(): Promise<void> {
    const { clock } = this.#env;
    for (;;) {
      try {
        await clock.sleep(TICK_MS, this.#stop.signal);
      } catch {
        return;
      }
      this.#loop.feed({ kind: "tick", nowMs: clock.monotonicMs() });
    }
  }

  async #order<K extends Reply["kind"]>(
    kind: K,
    input: (id: RequestId) => CoordinationInput,
    signal?: AbortSignal,
  ): Promise<Extract<Reply, { kind: K }> extends { response: infer R } ? R : void> {
    this.#refuseIfFaulty();
    this.#stop.signal.throwIfAborted();
    const reply = await this.#pending.order((id) => this.#loop.feed(input(id)), signal);
    assert(reply.kind === kind, `a ${kind} order was answered with ${reply.kind}`);
    return ("response" in reply ? reply.response : undefined) as never;
  }

  #open(): ReplicaStorage {
    if (this.#storage !== null) return this.#storage;
    const metadata = { observedUid: this.#id.directories.uid };
    throw new ProtocolError("NODE_IS_NOT_MEMBER", "this replica holds no data yet", metadata);
  }

  #refuseIfFaulty(): void {
    if (this.#fault !== "") throw new ProtocolError("INVALID_STATUS", this.#fault);
  }

  #countRejection(peer: Peer): void {
    const { promised, uid } = this.#core.state;
    if (!promised.member || peer.targetUid !== uid) this.#env.metrics.notMemberRejections.inc();
  }

  #fail(error: unknown): void {
    if (this.#stop.signal.aborted) return;
    this.#id.fatal(error instanceof Error ? error : new Error(String(error)));
  }

  /** Background work that `close` waits for; its failure is the replica's. */
  #own(task: Promise<void>): void {
    const owned = task
      .catch((error: unknown) => this.#fail(error))
      .finally(() => this.#tasks.delete(owned));
    this.#tasks.add(owned);
  }
}
