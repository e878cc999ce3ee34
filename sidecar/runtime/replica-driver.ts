import type { Replica } from "../core/replica.ts";
import type { Effect, Reply } from "../core/effect.ts";
import type { CoordinationInput, Input, RequestId } from "../core/input.ts";
import { assert } from "../lib/assert.ts";
import { everyStep } from "../lib/every-step.ts";
import { isFatal } from "../lib/ports/disk.ts";
import type { DuplexCall } from "../lib/ports/duplex-call.ts";
import { INVALID_OFFSET, type Offset } from "../protocol/entry.ts";
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
import { StateCorrupt } from "../state/record.ts";
import { WalCorrupt } from "../wal/errors.ts";
import { IncomingStreams } from "./incoming-streams.ts";
import { openCore } from "./open-core.ts";
import { OutgoingStreams } from "./outgoing-streams.ts";
import { PendingRequests, protocolError } from "./pending-requests.ts";
import type { ReplicaHandle } from "./ports.ts";
import { ReplicaLoop } from "./replica-loop.ts";
import type { NodeEnvironment } from "./replica-options.ts";
import { ChangeLog } from "./change-log.ts";
import {
  replicaStatus,
  sameSignature,
  type StatusSignature,
  statusSignature,
  votes,
} from "./replica-status.ts";
import { logDir, type ReplicaStorage } from "./replica-storage.ts";
import type { ReplicaIdentity } from "./replica-identity.ts";
import { formattedBefore } from "./shard-directories.ts";
import { SnapshotInstall } from "./snapshot-install.ts";
import { StorageOpening } from "./storage-opening.ts";
import { NO_SPACE_RETRY_MS, StorageWork } from "./storage-work.ts";
import { Ticker } from "./ticker.ts";

/**
 * One replica at work: feeds its core and performs the effects on log, state, streams and promises.
 * The order that safety needs is the core's; this only reports completions.
 */
export class ReplicaDriver implements ReplicaHandle {
  readonly namespace: string;
  readonly shard: number;
  readonly #env: NodeEnvironment;
  readonly #id: ReplicaIdentity;
  readonly #core: Replica;
  readonly #loop: ReplicaLoop;
  readonly #ticker: Ticker;
  readonly #pending: PendingRequests;
  readonly #incoming: IncomingStreams;
  readonly #outgoing: OutgoingStreams;
  readonly #install: SnapshotInstall;
  readonly #work: StorageWork;
  readonly #opening: StorageOpening;
  readonly #stop = new AbortController();
  readonly #tasks = new Set<Promise<void>>();
  #nextStreamId = 1;
  #fault = "";
  #signature: StatusSignature = [];
  readonly #changes: ChangeLog;

  constructor(env: NodeEnvironment, id: ReplicaIdentity) {
    this.#env = env;
    this.#id = id;
    this.namespace = id.namespace;
    this.shard = id.shard;
    const { heartbeatMs } = env.options;
    const { signal } = this.#stop;
    this.#core = openCore(env, id);
    this.#loop = new ReplicaLoop({
      core: this.#core,
      perform: (effect) => this.#perform(effect),
      afterDrain: () => this.#afterDrain(),
      failed: (error) => this.#fail(error),
      nowMs: () => env.clock.monotonicMs(),
    });
    const feed = (input: Input): void => this.#loop.feed(input);
    this.#ticker = new Ticker({ core: this.#core, clock: env.clock, heartbeatMs, signal, feed });
    this.#pending = new PendingRequests((id, what) => {
      if (what === "read" || !this.#loop.withdraw(id)) feed({ kind: "cancelled", id });
    });
    this.#incoming = new IncomingStreams(id.directories.uid, this.#loop, () => this.#work.admit());
    const fail = (error: unknown): void => this.#fail(error);
    id.meta.whenFull = (error) => this.#waitForSpace(error);
    this.#outgoing = new OutgoingStreams({ env, id, core: this.#core, feed, fail });
    this.#install = new SnapshotInstall({ env, id, core: this.#core, feed });
    this.#work = new StorageWork({
      env,
      core: this.#core,
      logDir: logDir(id.directories),
      stateDir: id.directories.stateDir,
      signal,
      feed,
      outcome: (offset, response) => this.#outcome(offset, response),
      transferFloor: () => this.#outgoing.transferFloor(),
      transferStateBytes: () => this.#outgoing.transferStateBytes(),
      dropTransfers: (reason) => this.#outgoing.dropTransfers(reason),
      reserve: id.meta.reserve,
      fail,
    });
    this.#opening = new StorageOpening({
      env,
      id,
      storage: () => this.#work.storage,
      start: (storage) => this.#startStorage(storage),
      signal,
    });
    if (id.storage !== null) this.#startStorage(id.storage);
    this.#changes = new ChangeLog(env.logger, this);
    this.#own(this.#ticker.run());
    this.#own(id.room.watch(env.clock, () => !votes(this.#core), signal));
    this.#signature = statusSignature(this.#core, id.meta.current, "");
  }

  async newTerm(request: NewTermRequest, signal: AbortSignal): Promise<NewTermResponse> {
    this.#refuseIfFaulty();
    await this.#opening.learn(request.options, signal);
    return this.#order("newTerm", (id) => ({ kind: "newTerm", id, request }), signal);
  }

  becomeLeader(request: BecomeLeaderRequest, signal: AbortSignal): Promise<BecomeLeaderResponse> {
    const nowMs = this.#env.clock.nowMs();
    return this.#order(
      "becomeLeader",
      (id) => ({ kind: "becomeLeader", id, request, nowMs }),
      signal,
    );
  }

  async addFollower(request: AddFollowerRequest, signal: AbortSignal): Promise<void> {
    await this.#order("done", (id) => ({ kind: "addFollower", id, request }), signal);
  }

  removeFollower(
    request: RemoveFollowerRequest,
    signal: AbortSignal,
  ): Promise<RemoveFollowerResponse> {
    const kind = "removeFollower";
    return this.#order(kind, (id) => ({ kind, id, request }), signal);
  }

  async promote(request: PromoteRequest, signal: AbortSignal): Promise<void> {
    await this.#order("done", (id) => ({ kind: "promote", id, request }), signal);
  }

  updateEnsemble(
    request: UpdateEnsembleRequest,
    signal: AbortSignal,
  ): Promise<UpdateEnsembleResponse> {
    const nowMs = this.#env.clock.nowMs();
    const kind = "updateEnsemble";
    return this.#order(kind, (id) => ({ kind, id, request, nowMs }), signal);
  }

  async enrol(request: EnrolRequest, signal: AbortSignal): Promise<EnrolResponse> {
    this.#refuseIfFaulty();
    await this.#opening.learn(request.options, signal);
    return this.#order("enrol", (id) => ({ kind: "enrol", id, request }), signal);
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
      storage: () => this.#work.storage,
      pause: () => this.#pauseStorage(),
      resume: (storage) => this.#startStorage(storage),
      exclusive: (job) => this.#loop.exclusive(job),
    });
  }

  write(_request: WriteRequest, raw: Uint8Array): Promise<WriteResponse> {
    this.#redirectIfFaulty();
    const full = this.#work.spaceRefusal;
    if (full !== null) return Promise.reject(full);
    const { clock } = this.#env;
    const value = wrapWriteRequest(raw);
    const nowMs = clock.nowMs();
    return this.#pending.write(value.length, clock.monotonicMs(), (id) => {
      this.#loop.feed({ kind: "propose", id, value, nowMs });
    });
  }

  async readBarrier(signal: AbortSignal): Promise<void> {
    this.#redirectIfFaulty();
    await this.#pending.read((id) => this.#loop.feed({ kind: "read", id }), signal);
  }

  get(request: GetRequest): GetResponse {
    try {
      return this.#open().state.get(request);
    } catch (error) {
      this.#noteCorruption(error);
      throw error;
    }
  }

  list(request: ListRequest): Iterable<readonly string[]> {
    return this.#watched(this.#open().state.list(request));
  }

  scan(request: RangeScanRequest): Iterable<readonly GetResponse[]> {
    return this.#watched(this.#open().state.scan(request));
  }

  /** Pages of a read, with an eye on damage found on the way. */
  *#watched<T>(pages: Iterable<T>): Generator<T, void, void> {
    try {
      yield* pages;
    } catch (error) {
      this.#noteCorruption(error);
      throw error;
    }
  }

  status(): ReplicaStatus {
    return replicaStatus(this.#core, {
      node: this.#env.node,
      namespace: this.namespace,
      shard: this.shard,
      meta: this.#id.meta.current,
      formattedBefore: formattedBefore(this.#id.directories, this.#id.meta.current),
      durableOffset: this.#work.storage?.state.durable.offset ?? INVALID_OFFSET,
      recovery: this.#install.progress(),
      fault: this.#fault,
      stalledMs: Math.max(this.#loop.blockedMs, this.#work.syncingMs),
      roomBytes: this.#id.room.bytes,
      stateBytes: this.#work.stateBytes,
      transfers: this.#outgoing.transfers,
    });
  }

  async checksum(atLeastOffset: number, signal: AbortSignal): Promise<ChecksumResponse> {
    const { state } = this.#open();
    if (state.applied.offset < atLeastOffset) await this.#work.untilApplied(atLeastOffset, signal);
    return this.#open().state.checksum(signal);
  }

  /** Drains and closes; syncs and makes a last checkpoint, unless all is to be `deleted`. */
  async close(options: { readonly deleted: boolean }): Promise<void> {
    const closing = new ProtocolError("RESOURCE_UNAVAILABLE", "this replica is closing");
    this.#stop.abort(closing);
    this.#incoming.closeAll();
    await everyStep([
      () => this.#outgoing.close(),
      () => this.#install.close(),
      () => this.#loop.stop().finally(() => this.#pending.close(closing)),
      () => this.#outgoing.dropPins(),
      () => this.#opening.close(),
      () => this.#work.close(options),
      () => Promise.all(this.#tasks),
    ]);
  }

  #perform(effect: Effect): Promise<void> | undefined {
    switch (effect.kind) {
      case "appendLog":
        this.#work.append(this.#open(), effect.entry);
        return undefined;
      case "truncateLog":
        return this.#work.truncate(this.#open(), effect.lastOffset);
      case "syncLog":
        this.#work.wantSync();
        return undefined;
      case "persistMeta":
        return this.#persist(effect);
      case "apply":
        this.#work.apply(effect.offset);
        return undefined;
      case "ack":
        this.#incoming.ack(effect);
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
        this.#own(this.#id.meta.update({ diverged: effect.message }));
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
        this.#work.applier?.whenApplied(effect.offset, () => {
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
    if (!setAside || this.#work.storage !== null) {
      this.#own(save());
      return undefined;
    }
    // The first Enrol of a replica whose old files still lie there: first of all they go aside.
    return this.#opening.setAsideAndOpen().then(() => this.#own(save()));
  }

  /** Nothing is answered that was not saved; ending the process would only begin it all again. */
  async #waitForSpace(error: Error): Promise<void> {
    const { clock, logger } = this.#env;
    logger.error("a promise cannot be saved, waiting for space", { reason: error.message });
    await clock.sleep(NO_SPACE_RETRY_MS, this.#stop.signal);
  }

  async #nowVotes(): Promise<void> {
    const { meta, directories } = this.#id;
    this.#install.finished();
    await this.#install.dropOldStates();
    await directories.dropSetAside();
    const { wipeReason, diverged } = meta.current;
    const isNoted = wipeReason !== 0 || diverged !== "";
    if (isNoted && this.#fault === "") await meta.update({ wipeReason: 0, diverged: "" });
    this.#id.changed();
  }

  #startStorage(storage: ReplicaStorage): void {
    this.#work.start(storage);
    this.#outgoing.useStorage(storage);
  }

  async #pauseStorage(): Promise<void> {
    await this.#outgoing.dropPins();
    await this.#work.pause();
  }

  #outcome(offset: Offset, response: WriteResponse | null): void {
    const startMs = this.#pending.applied(offset, response);
    if (startMs === null) return;
    const { clock, metrics } = this.#env;
    metrics.append((clock.monotonicMs() - startMs) / 1000);
  }

  /** After a batch of inputs: one sync for all of it, and word to the streams. */
  #afterDrain(): void {
    this.#ticker.notice();
    this.#outgoing.notify();
    this.#work.flush();
    const signature = statusSignature(this.#core, this.#id.meta.current, this.#fault);
    if (sameSignature(signature, this.#signature)) return;
    this.#signature = signature;
    this.#changes.log(this.#core, this.#fault);
    this.#id.changed();
  }

  async #order<K extends Reply["kind"]>(
    kind: K,
    input: (id: RequestId) => CoordinationInput,
    signal?: AbortSignal,
  ): Promise<Extract<Reply, { kind: K }> extends { response: infer R } ? R : void> {
    this.#refuseIfFaulty();
    const reply = await this.#pending.order((id) => this.#loop.feed(input(id)), signal);
    assert(reply.kind === kind, `a ${kind} order was answered with ${reply.kind}`);
    return ("response" in reply ? reply.response : undefined) as never;
  }

  #open(): ReplicaStorage {
    if (this.#work.storage !== null) return this.#work.storage;
    const metadata = { observedUid: this.#id.directories.uid };
    throw new ProtocolError("NODE_IS_NOT_MEMBER", "this replica holds no data yet", metadata);
  }

  /** Once it closes, nothing that is fed to the loop is answered any more. */
  #refuseIfFaulty(): void {
    this.#stop.signal.throwIfAborted();
    if (this.#fault !== "") throw new ProtocolError("INVALID_STATUS", this.#fault);
  }

  /** Clients go elsewhere: that this replica stopped is not the last word of its shard. */
  #redirectIfFaulty(): void {
    this.#stop.signal.throwIfAborted();
    if (this.#fault === "") return;
    throw new ProtocolError("NODE_IS_NOT_LEADER", `this replica stopped: ${this.#fault}`);
  }

  #countRejection(peer: Peer): void {
    const { promised, uid } = this.#core.state;
    if (!promised.member || peer.targetUid !== uid) this.#env.metrics.notMemberRejections.inc();
  }

  #fail(error: unknown): void {
    if (this.#stop.signal.aborted && !isFatal(error)) return;
    if (this.#noteCorruption(error)) return;
    this.#id.fatal(error instanceof Error ? error : new Error(String(error)));
  }

  /**
   * A damaged state is noted durably, so that the restart gives up the identity it belongs to
   * (R14).
   */
  #noteCorruption(error: unknown): boolean {
    if (!(error instanceof StateCorrupt) && !(error instanceof WalCorrupt)) return false;
    this.#fault = error.message;
    const { meta, fatal } = this.#id;
    meta.update({ fault: error.message }).then(
      () => fatal(error),
      () => fatal(error),
    );
    return true;
  }

  /** Background work that `close` waits for; its failure is the replica's. */
  #own(task: Promise<void>): void {
    const owned = task
      .catch((error: unknown) => this.#fail(error))
      .finally(() => this.#tasks.delete(owned));
    this.#tasks.add(owned);
  }
}
