import { chainCrc, INVALID_OFFSET } from "../protocol/entry.ts";
import type { LogEntry, LogPosition, Offset } from "../protocol/entry.ts";
import { ServingStatus } from "../protocol/status.ts";
import type { Reason } from "../protocol/errors.ts";
import type { Effect, PromisedState, Refusal } from "./effect.ts";
import type { RequestId } from "./input.ts";
import { LogIndex } from "./log-index.ts";

/** Bounds and periods of the core. All times in milliseconds. */
export interface CoreOptions {
  readonly heartbeatMs: number;
  /** Delays before a broken cursor is opened again. */
  readonly reconnectMinMs: number;
  readonly reconnectMaxMs: number;
  /** Delays before a snapshot that was refused is tried again. */
  readonly snapshotRetryMinMs: number;
  readonly snapshotRetryMaxMs: number;
  /**
   * An empty follower gets the tail, not a snapshot, when the leader committed at most this many
   * entries.
   */
  readonly tailEntriesMax: number;
  readonly pendingReadsMax: number;
  /**
   * Reads are answered by whoever believes to lead, without a round (R15): one that was deposed and
   * does not know it yet answers with older data. Absent: false.
   */
  readonly leaderReads?: boolean;
}

/** What a replica starts from, read back from its disk. */
export interface InitialState {
  /** The node this replica is on, as ensembles and members name it. */
  readonly node: string;
  readonly storeId: string;
  readonly uid: string;
  readonly bootCounter: number;
  /** False: this replica's directories held nothing when they were formatted (R11). */
  readonly formattedBefore: boolean;
  readonly promised: PromisedState;
  readonly log: LogIndex;
  /** Offset of the last durable checkpoint: certainly committed. */
  readonly applied: Offset;
  /** Highest offset that the log knows to be committed (I9); absent: it knows of none. */
  readonly commit?: Offset;
}

/**
 * The state that both roles share. Invariants: `applied <= min(commit, synced)` (I8);
 * `synced <= log.last.offset`; `promised.term` never decreases (I2).
 */
export class ReplicaState {
  readonly options: CoreOptions;
  readonly node: string;
  readonly storeId: string;
  readonly uid: string;
  readonly bootCounter: number;
  readonly formattedBefore: boolean;
  readonly log: LogIndex;
  promised: PromisedState;
  status: ServingStatus;
  /** Everything up to here is durable in the log (or in the installed snapshot). */
  synced: Offset;
  /** Highest offset known to be committed. */
  commit: Offset;
  applied: Offset;
  /** How far `apply` effects went. */
  applyRequested: Offset;
  /** The volume is nearly full: no entry of a client or a leader is taken (R17). */
  noSpace = false;
  /** Raised at each cut, so that a sync begun before it is not credited (H1). */
  logEpoch = 0;
  #metaToken = 0;
  #effects: Effect[] = [];

  constructor(initial: InitialState, options: CoreOptions) {
    this.options = options;
    this.node = initial.node;
    this.storeId = initial.storeId;
    this.uid = initial.uid;
    this.bootCounter = initial.bootCounter;
    this.formattedBefore = initial.formattedBefore;
    this.log = initial.log;
    this.promised = initial.promised;
    this.synced = initial.log.last.offset;
    this.applied = initial.applied;
    this.commit = Math.max(initial.applied, initial.commit ?? initial.applied);
    this.applyRequested = initial.applied;
    const empty = initial.log.last.offset === INVALID_OFFSET;
    const waits = initial.promised.enrolled !== null && empty;
    this.status =
      initial.promised.member && !waits ? ServingStatus.FENCED : ServingStatus.NOT_MEMBER;
  }

  emit(effect: Effect): void {
    this.#effects.push(effect);
  }

  takeEffects(): readonly Effect[] {
    const effects = this.#effects;
    this.#effects = [];
    return effects;
  }

  refuse(id: RequestId, refusal: Refusal): void {
    this.emit({ kind: "refuse", id, refusal });
  }

  /**
   * Saves a new promise; returns the token that `metaPersisted` will bear. What was promised last
   * is not saved again, or an order that is repeated while there is no room would be each time.
   */
  promise(promised: PromisedState, setAside = false): number {
    if (isSame(promised, this.promised)) return this.#metaToken;
    this.promised = promised;
    this.#metaToken += 1;
    this.emit({ kind: "persistMeta", promised, token: this.#metaToken, setAside });
    return this.#metaToken;
  }

  /**
   * Appends an entry of this replica's own making (leader). Its durability is reported by `synced`.
   */
  appendOwn(term: number, value: Uint8Array, nowMs: number): LogPosition {
    const previous = this.log.last;
    const offset = previous.offset + 1;
    const crc = chainCrc(previous.crc, term, offset, nowMs, value);
    this.appendEntry({ term, offset, timestampMs: nowMs, value, crc });
    return this.log.last;
  }

  appendEntry(entry: LogEntry): void {
    this.log.append({ term: entry.term, offset: entry.offset, crc: entry.crc });
    this.emit({ kind: "appendLog", entry });
  }

  syncLog(): void {
    this.emit({ kind: "syncLog", logEpoch: this.logEpoch });
  }

  /** Asks for the application of what is committed and durable here (I8). */
  applyCommitted(): void {
    const offset = Math.min(this.commit, this.synced);
    if (offset <= this.applyRequested) return;
    this.applyRequested = offset;
    this.emit({ kind: "apply", offset });
  }
}

function isSame(one: PromisedState, other: PromisedState): boolean {
  const { enrolled, ...rest } = one;
  const fields = Object.entries(rest) as [keyof PromisedState, unknown][];
  return (
    fields.every(([name, value]) => other[name] === value) &&
    enrolled?.term === other.enrolled?.term &&
    enrolled?.leaderUid === other.enrolled?.leaderUid
  );
}

/** Makes a refusal. */
export function refusal(
  reason: Reason,
  message: string,
  metadata: Readonly<Record<string, string | number>> = {},
): Refusal {
  const text = Object.fromEntries(Object.entries(metadata).map(([k, v]) => [k, String(v)]));
  return { reason, message, metadata: text };
}
