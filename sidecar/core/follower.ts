import { chainCrc, INVALID_OFFSET, LOG_START } from "../protocol/entry.ts";
import type { LogPosition, Offset } from "../protocol/entry.ts";
import { ServingStatus } from "../protocol/status.ts";
import type { Append, LogEntry, Peer } from "../protocol/gen/resilver.ts";
import { isControlValue } from "../protocol/log-entry-value.ts";
import { notMember, refuseAddressee, refuseTerm } from "./admission.ts";
import type { Refusal } from "./effect.ts";
import { refusal } from "./replica-state.ts";
import type { ReplicaState } from "./replica-state.ts";

/**
 * The receiving side of replication: what a leader's stream and snapshot may do here. Invariants:
 * nothing at or below `commit` is ever cut (R9, I9); `matched` only covers what this term's leader
 * named with its crc; an ack never exceeds min(synced, matched) (R8, H1).
 */
export class Follower {
  readonly #state: ReplicaState;
  /** The one live stream of the leader; a newer one replaces it. */
  #streamId: number | null = null;
  /** The leader of the present term, once seen. */
  #leaderUid = "";
  /** Everything up to here equals the leader's log. */
  #matched: Offset = INVALID_OFFSET;
  #votes = false;
  /** An ack is owed up to `matched` once it is durable. */
  #ackOwed = false;
  /** Writes of this stream were left out for want of space: the leader has to begin anew. */
  #entriesRefused = false;
  /** The snapshot stream that is being installed. */
  #installId: number | null = null;
  #installAborting = false;

  constructor(state: ReplicaState) {
    this.#state = state;
  }

  get leaderUid(): string {
    return this.#leaderUid;
  }

  /** True once the leader of the present term said that it counts this replica. */
  get votes(): boolean {
    return this.#votes;
  }

  get installing(): boolean {
    return this.#installId !== null;
  }

  /** A new term (or a new enrolment): nothing of the old leader's streams goes on (R12, H16). */
  reset(why: Refusal | null): void {
    if (this.#streamId !== null) {
      this.#state.emit({ kind: "closeStream", streamId: this.#streamId, refusal: why });
    }
    if (this.#installId !== null && !this.#installAborting) {
      this.#installAborting = true;
      this.#state.emit({ kind: "abortInstall", streamId: this.#installId });
    }
    this.#streamId = null;
    this.#leaderUid = "";
    this.#votes = false;
    this.#matched = INVALID_OFFSET;
    this.#ackOwed = false;
  }

  streamOpened(streamId: number, peer: Peer, promising: boolean): void {
    const refused = this.#refusePeer(peer, promising);
    if (refused !== null) {
      this.#state.emit({ kind: "closeStream", streamId, refusal: refused });
      return;
    }
    if (this.#streamId !== null) {
      const why = refusal("RESOURCE_CONFLICT", "a newer stream of the leader took over");
      this.#state.emit({ kind: "closeStream", streamId: this.#streamId, refusal: why });
    }
    this.#streamId = streamId;
    this.#leaderUid = peer.leaderUid;
    this.#matched = INVALID_OFFSET;
    this.#ackOwed = false;
    this.#entriesRefused = false;
  }

  streamClosed(streamId: number): void {
    if (this.#streamId === streamId) this.#streamId = null;
  }

  append(streamId: number, append: Append): void {
    if (streamId !== this.#streamId) return;
    const refused = this.#refuseAppend(append);
    if (refused !== null) {
      this.#close(refused);
      return;
    }
    const previous = append.previous ?? LOG_START;
    if (this.#putsOff(append)) {
      this.#entriesRefused = true;
      this.#becomeFollower();
      this.#answer(append.round, null);
      return;
    }
    if (this.installing || !this.#state.log.contains(previous)) {
      this.#answer(append.round, this.#hint(previous));
      return;
    }
    this.#becomeFollower();
    if (append.targetVotes && !this.#votes) {
      this.#votes = true;
      this.#state.emit({ kind: "votes" });
    }
    if (append.entry === undefined) {
      this.#matched = Math.max(this.#matched, previous.offset);
      this.#takeCommit(append.commitOffset);
      this.#answer(append.round, null);
      return;
    }
    this.#takeEntry(append, append.entry, previous);
  }

  /**
   * Writes of the present term wait while the volume is nearly full: the stream goes on without
   * them, for heartbeats and reads (R15, R17). What a new leader needs before it serves is taken
   * for as long as there is any space: entries of earlier terms, and barriers (R7).
   */
  #putsOff(append: Append): boolean {
    const { entry } = append;
    if (entry === undefined || !this.#state.noSpace) return false;
    // Once one is left out, none behind it has its place.
    if (this.#entriesRefused) return true;
    return entry.term === append.term && !isControlValue(entry.value);
  }

  /** The log is durable further: the acks that waited for it go out. */
  ownSynced(): void {
    const { synced } = this.#state;
    if (this.#ackOwed && this.#streamId !== null) {
      this.#ackOwed = synced < this.#matched;
      this.#answer(0, null);
    }
    this.#state.applyCommitted();
  }

  installBegin(streamId: number, peer: Peer, promising: boolean): void {
    const refused =
      this.#refusePeer(peer, promising) ??
      // For now only: what goes on may be the same transfer, whose stream broke unnoticed here
      // (L4).
      (this.installing ? refusal("RESOURCE_UNAVAILABLE", "a snapshot is being installed") : null);
    if (refused !== null) {
      this.#state.emit({ kind: "closeStream", streamId, refusal: refused });
      return;
    }
    this.#installId = streamId;
    this.#installAborting = false;
    this.#state.emit({ kind: "acceptInstall", streamId });
  }

  /**
   * The snapshot is committed on disk: log, offsets and status change in this one step (part four
   * of the seed, R5), so that the next append is accepted.
   */
  installed(streamId: number, base: LogPosition): void {
    if (streamId !== this.#installId) return;
    const state = this.#state;
    this.#installId = null;
    this.#installAborting = false;
    state.log.reset(base);
    state.logEpoch += 1;
    state.synced = base.offset;
    state.commit = Math.max(state.commit, base.offset);
    state.applied = base.offset;
    state.applyRequested = base.offset;
    this.#matched = INVALID_OFFSET;
    this.#ackOwed = false;
    // A new term may have begun while the install was past its point of no return.
    if (state.status === ServingStatus.NOT_MEMBER || state.status === ServingStatus.FENCED) {
      const current = state.promised.enrolled !== null || this.#leaderUid !== "";
      state.status = current ? ServingStatus.FOLLOWER : ServingStatus.FENCED;
    }
  }

  installEnded(streamId: number): void {
    if (streamId !== this.#installId) return;
    this.#installId = null;
    this.#installAborting = false;
  }

  #refusePeer(peer: Peer, promising: boolean): Refusal | null {
    const state = this.#state;
    const { promised } = state;
    const refused = refuseAddressee(state, { storeId: peer.storeId, targetUid: peer.targetUid });
    if (refused !== null) return refused;
    // Part two of the seed: before any refusal about term or status.
    if (!promised.member) return notMember(state, peer.targetUid);
    const wrongTerm = refuseTerm(state, peer.term, true);
    if (wrongTerm !== null) return wrongTerm;
    if (promising) {
      return refusal("RESOURCE_UNAVAILABLE", "what this term asks for is not saved yet");
    }
    if (state.status === ServingStatus.LEADER) {
      return refusal("NODE_IS_NOT_FOLLOWER", "this replica leads the term");
    }
    const expected = promised.enrolled?.leaderUid ?? this.#leaderUid;
    if (expected !== "" && peer.leaderUid !== expected) {
      return refusal(
        "INVALID_TERM",
        `leader_uid ${peer.leaderUid}: term ${peer.term} is led by ${expected}`,
        {
          field: "leader_uid",
          value: peer.leaderUid,
          allowed: expected,
        },
      );
    }
    return null;
  }

  #refuseAppend(append: Append): Refusal | null {
    const wrongTerm = refuseTerm(this.#state, append.term, true);
    if (wrongTerm !== null) return wrongTerm;
    if (append.targetUid !== "" && append.targetUid !== this.#state.uid) {
      return notMember(this.#state, append.targetUid);
    }
    return null;
  }

  #takeEntry(append: Append, entry: LogEntry, previous: LogPosition): void {
    const state = this.#state;
    const { term, offset, timestamp, value } = entry;
    const crc = chainCrc(previous.crc, term, offset, timestamp, value);
    if (offset !== previous.offset + 1 || crc !== append.entryCrc || term < previous.term) {
      this.#close(
        refusal(
          "INVALID_ARGUMENT",
          `entry ${offset}: its bytes do not match its checksum or place`,
          {
            field: "entry_crc",
            value: append.entryCrc,
            allowed: crc,
          },
        ),
      );
      return;
    }
    const own = state.log.positionAt(offset);
    const duplicate = own !== null && own.term === term && own.crc === crc;
    if (own !== null && !duplicate && !this.#cut(previous)) return;
    if (!duplicate) {
      state.appendEntry({ term, offset, timestampMs: timestamp, value, crc });
    }
    this.#matched = Math.max(this.#matched, offset);
    this.#ackOwed = true;
    // A duplicate may still be unsynced (H1): ask for the sync; its completion gives the ack.
    state.syncLog();
    this.#takeCommit(append.commitOffset);
    if (append.round > 0) this.#answer(append.round, null);
  }

  /** Drops everything after `previous`, which conflicts with the leader's log (R9). */
  #cut(previous: LogPosition): boolean {
    const state = this.#state;
    if (previous.offset < state.commit) {
      state.emit({
        kind: "fault",
        message:
          `the leader's log differs from this replica's at offset ${previous.offset + 1}, ` +
          `which is committed here (commit offset ${state.commit}); nothing was cut (R9)`,
      });
      this.#close(refusal("INVALID_STATUS", "this replica stopped: its log is not the leader's"));
      return false;
    }
    state.log.truncate(previous.offset);
    state.logEpoch += 1;
    state.synced = Math.min(state.synced, previous.offset);
    const { logEpoch } = state;
    state.emit({ kind: "truncateLog", lastOffset: previous.offset, logEpoch });
    return true;
  }

  #takeCommit(leaderCommit: Offset): void {
    const commit = Math.min(leaderCommit, this.#matched);
    if (commit > this.#state.commit) this.#state.commit = commit;
    this.#state.applyCommitted();
  }

  #becomeFollower(): void {
    const state = this.#state;
    if (state.status !== ServingStatus.FOLLOWER) state.status = ServingStatus.FOLLOWER;
  }

  /** Where our log may agree with the leader's, given that it does not at `previous` (R9). */
  #hint(previous: LogPosition): LogPosition {
    const { log } = this.#state;
    // What is committed here is committed everywhere: no need to step back below it.
    const limit = Math.max(Math.min(previous.offset, log.last.offset), log.base.offset);
    const own = log.positionAt(limit);
    if (own !== null && own.offset < previous.offset) {
      return own.term <= previous.term ? own : log.highestAtMost(previous.term, limit);
    }
    return log.highestAtMost(previous.term, previous.offset - 1);
  }

  #answer(round: number, mismatch: LogPosition | null): void {
    if (this.#streamId === null) return;
    const offset = Math.min(this.#state.synced, this.#matched);
    if (!this.#state.noSpace) this.#entriesRefused = false;
    this.#state.emit({
      kind: "ack",
      streamId: this.#streamId,
      offset,
      round,
      synced: mismatch === null && offset > INVALID_OFFSET,
      mismatch,
      noSpace: this.#state.noSpace,
      entriesRefused: this.#entriesRefused,
    });
  }

  #close(why: Refusal): void {
    if (this.#streamId === null) return;
    this.#state.emit({ kind: "closeStream", streamId: this.#streamId, refusal: why });
    this.#streamId = null;
  }
}
