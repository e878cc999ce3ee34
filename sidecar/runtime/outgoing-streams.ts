import type { Effect } from "../core/effect.ts";
import type { Input } from "../core/input.ts";
import type { Replica } from "../core/replica.ts";
import type { Offset } from "../protocol/entry.ts";
import type { Peer } from "../protocol/gen/resilver.ts";
import type { HeldSnapshot } from "../snapshot/pins.ts";
import { RateLimiter } from "../snapshot/rate-limiter.ts";
import { sendSnapshot } from "../snapshot/sender.ts";
import { CursorStream } from "./cursor-stream.ts";
import { endsReplica } from "./final-error.ts";
import type { ReplicaIdentity } from "./replica-identity.ts";
import type { NodeEnvironment } from "./replica-options.ts";
import type { TransferBytes } from "./replica-status.ts";
import type { ReplicaStorage } from "./replica-storage.ts";
import { pinnedSource } from "./snapshot-source.ts";
import { TransferDropped, transferEnd } from "./transfer-end.ts";

/** What the leader's side of replication works on. */
interface OutgoingOptions {
  readonly env: NodeEnvironment;
  readonly id: ReplicaIdentity;
  readonly core: Replica;
  readonly feed: (input: Input) => void;
  readonly fail: (error: unknown) => void;
}

/** One follower's streams: entries always, a snapshot at times. */
interface Outgoing {
  stream: CursorStream | null;
  node: string;
  uid: string;
  address: string;
  transfer: { readonly stop: AbortController; readonly done: Promise<void> } | null;
}

/** The leader's streams to its followers, by cursor id. */
export class OutgoingStreams {
  readonly #o: OutgoingOptions;
  readonly #cursors = new Map<number, Outgoing>();
  readonly #closing = new Set<Promise<void>>();
  /** Targets whose pinned snapshot may still be kept for a transfer to be gone on with. */
  readonly #pinned = new Set<string>();
  readonly transfers = new Map<number, TransferBytes>();
  #storage: ReplicaStorage | null = null;

  constructor(options: OutgoingOptions) {
    this.#o = options;
  }

  useStorage(storage: ReplicaStorage): void {
    this.#storage = storage;
  }

  perform(effect: Effect): void {
    switch (effect.kind) {
      case "openCursor":
        this.#open(effect);
        break;
      case "closeCursor":
        this.#close(effect.cursorId);
        break;
      case "streamFrom":
        this.#cursors.get(effect.cursorId)?.stream?.streamFrom(effect.next);
        break;
      case "holdStream":
        this.#cursors.get(effect.cursorId)?.stream?.hold();
        break;
      case "heartbeat":
        this.#cursors.get(effect.cursorId)?.stream?.heartbeat(effect);
        break;
      case "startSnapshot":
        this.#startSnapshot(effect.cursorId);
        break;
      default:
        break;
    }
  }

  /** The log may have grown. */
  notify(): void {
    for (const { stream } of this.#cursors.values()) stream?.notify();
  }

  /** Entries up to here need not be kept for a transfer, under way or to be resumed (R17). */
  transferFloor(): Offset {
    const { core } = this.#o;
    const floor = core.leader?.transferFloor() ?? core.state.log.last.offset;
    // Also while the cursor is down, to be opened again in a moment.
    return Math.min(floor, ...this.#held().map(({ offset }) => offset));
  }

  /**
   * How large the state was when the oldest snapshot that is held was pinned: what it grew by since
   * may be pages that are kept for it (R17). Null: none is held.
   */
  transferStateBytes(): number | null {
    const held = this.#held();
    return held.length === 0 ? null : Math.min(...held.map(({ stateBytes }) => stateBytes));
  }

  #held(): readonly HeldSnapshot[] {
    const held: HeldSnapshot[] = [];
    for (const target of this.#pinned) {
      const snapshot = this.#o.env.pins.held(target);
      if (snapshot === null) this.#pinned.delete(target);
      else held.push(snapshot);
    }
    return held;
  }

  /**
   * Ends all transfers and forgets their snapshots, so that neither log nor pages of the state need
   * be kept for them. The followers are told why, and begin anew.
   */
  async dropTransfers(reason: string): Promise<void> {
    const { env, id } = this.#o;
    const { namespace, shard } = id;
    env.logger.error("snapshot transfers are dropped", { namespace, shard, reason });
    const ending: Promise<void>[] = [];
    for (const { transfer } of this.#cursors.values()) {
      if (transfer === null) continue;
      transfer.stop.abort(new TransferDropped(reason));
      ending.push(transfer.done);
    }
    await Promise.all([...ending, ...this.#closing]);
    // Those in use again by now are new.
    for (const target of this.#pinned) await env.pins.drop(target);
  }

  async close(): Promise<void> {
    for (const cursorId of [...this.#cursors.keys()]) this.#close(cursorId);
    await Promise.all(this.#closing);
  }

  /** Before the state is closed or swapped: a kept snapshot is a view of it. */
  async dropPins(): Promise<void> {
    await Promise.all(this.#closing);
    for (const target of this.#pinned) await this.#o.env.pins.drop(target);
    this.#pinned.clear();
  }

  #open(effect: Effect & { kind: "openCursor" }): void {
    const { cursorId, node, uid, address } = effect;
    const storage = this.#storage;
    if (storage === null) return;
    this.#close(cursorId);
    const { env, core, feed } = this.#o;
    const { state } = core;
    const cursor: Outgoing = { stream: null, node, uid, address, transfer: null };
    this.#cursors.set(cursorId, cursor);
    const opened = new CursorStream({
      cursorId,
      term: state.promised.term,
      leaderUid: state.uid,
      targetUid: uid,
      reader: storage.reader,
      open: () => env.transport.replicate(address, this.#peer(uid)),
      // Only the present stream of the cursor may speak for it.
      feed: (input) => {
        if (cursor.stream === opened) feed(input);
      },
      damaged: this.#o.fail,
      nowMs: () => env.clock.monotonicMs(),
      head: () => state.log.last.offset,
      commit: () => state.commit,
      positionAt: (offset) => state.log.positionAt(offset),
    });
    cursor.stream = opened;
    feed({ kind: "cursorOpened", cursorId });
  }

  #close(cursorId: number): void {
    const cursor = this.#cursors.get(cursorId);
    if (cursor === undefined) return;
    this.#cursors.delete(cursorId);
    this.transfers.delete(cursorId);
    cursor.transfer?.stop.abort(new Error("the cursor was closed"));
    const closing = Promise.all([cursor.stream?.close(), cursor.transfer?.done])
      .then(() => undefined)
      .finally(() => this.#closing.delete(closing));
    this.#closing.add(closing);
  }

  #startSnapshot(cursorId: number): void {
    const cursor = this.#cursors.get(cursorId);
    const storage = this.#storage;
    if (cursor === undefined || storage === null) return;
    cursor.transfer?.stop.abort(new Error("a new transfer begins"));
    const stop = new AbortController();
    const done = this.#transfer(cursorId, cursor, storage, stop.signal);
    cursor.transfer = { stop, done };
  }

  /** Sends one snapshot; never rejects: the core hears how it went. */
  async #transfer(
    cursorId: number,
    cursor: Outgoing,
    storage: ReplicaStorage,
    signal: AbortSignal,
  ): Promise<void> {
    const { env, id, core, feed } = this.#o;
    const { clock, options, snapshotBytesPerSecond, logger, metrics } = env;
    const term = core.state.promised.term;
    const target = this.#target(cursor.uid);
    const fields = { namespace: id.namespace, shard: id.shard, to: cursor.node, uid: cursor.uid };
    let lease: Awaited<ReturnType<typeof env.pins.acquire>> | null = null;
    let keep = false;
    let bytesVerified = 0;
    try {
      // Kept from an earlier leadership, where the log no longer goes on: it would take the
      // follower back.
      const kept = env.pins.held(target);
      if (kept !== null && kept.offset < core.state.log.base.offset) await env.pins.drop(target);
      lease = await env.pins.acquire(target, () => pinnedSource(storage.state), signal);
      this.#pinned.add(target);
      const { source, snapshotId } = lease;
      feed({ kind: "snapshotPinned", cursorId, offset: source.position.offset });
      logger.info("snapshot transfer begins", { ...fields, snapshotId, records: source.records });
      let counted = 0;
      const base = await sendSnapshot({
        source,
        snapshotId,
        call: env.transport.sendSnapshot(cursor.address, this.#peer(cursor.uid)),
        term,
        chunkBytes: options.snapshotChunkBytes,
        rateLimiter: new RateLimiter(clock, snapshotBytesPerSecond),
        clock,
        signal,
        onProgress: (progress) => {
          const { bytesSent, bytesTotal } = progress;
          metrics.snapshotBytes("sent", Math.max(0, bytesSent - counted));
          counted = Math.max(counted, bytesSent);
          bytesVerified = progress.bytesVerified;
          this.transfers.set(cursorId, { done: bytesVerified, total: bytesTotal });
        },
      });
      logger.info("snapshot transfer is done", { ...fields, snapshotId, offset: base.offset });
      if (!signal.aborted) feed({ kind: "snapshotDone", cursorId, base });
    } catch (error) {
      const end = transferEnd(error, signal, lease !== null);
      keep = end.keep;
      const reason = this.#transferFailed(cursorId, error, end.refused, signal);
      logger.warn("snapshot transfer failed", { ...fields, reason });
    } finally {
      this.transfers.delete(cursorId);
      await lease?.release({ keep, bytesVerified });
    }
  }

  /** Tells the core, unless the cursor is closed or has another transfer; returns the reason. */
  #transferFailed(cursorId: number, error: unknown, refused: boolean, signal: AbortSignal): string {
    const { env, feed, fail } = this.#o;
    const dropped = signal.reason instanceof TransferDropped ? signal.reason : null;
    // Aborted or not: tried again, a failed sync seems to succeed, and the log would be trimmed on
    // the strength of it.
    if (endsReplica(error)) fail(error);
    const why = dropped ?? error;
    const reason = why instanceof Error ? why.message : String(why);
    const present = this.#cursors.get(cursorId)?.transfer?.stop.signal === signal;
    if (!signal.aborted || (dropped !== null && present)) {
      const nowMs = env.clock.monotonicMs();
      feed({ kind: "snapshotFailed", cursorId, reason, refused, nowMs });
    }
    return reason;
  }

  #target(uid: string): string {
    return `${this.#o.id.namespace}/${this.#o.id.shard}/${uid}`;
  }

  #peer(targetUid: string): Peer {
    const { id, core } = this.#o;
    const { promised, uid } = core.state;
    return {
      namespace: id.namespace,
      shard: id.shard,
      term: promised.term,
      leaderUid: uid,
      targetUid,
      storeId: id.storeId,
      generation: promised.generation,
      majorityHolds: core.leader?.majorityHolds() ?? false,
    };
  }
}
