import { LogEntryValue, MemberRole } from "../protocol/gen/resilver.ts";
import type { BecomeLeaderRequest, Member, VoterSet } from "../protocol/gen/resilver.ts";
import type { LogPosition, Offset } from "../protocol/entry.ts";
import type { Refusal } from "./effect.ts";
import { FollowerCursor } from "./follower-cursor.ts";
import { CursorFlow } from "./cursor-flow.ts";
import type { RequestId } from "./input.ts";
import { QuorumAckTracker } from "./quorum-ack-tracker.ts";
import { ReadRounds } from "./read-rounds.ts";
import { refusal } from "./replica-state.ts";
import type { ReplicaState } from "./replica-state.ts";

/** A control entry whose commitment a request waits for. */
interface Waiter {
  readonly id: RequestId;
  readonly position: LogPosition;
  readonly kind: "becomeLeader" | "updateEnsemble";
}

const NODES_OF = (sets: readonly VoterSet[]): readonly (readonly string[])[] =>
  sets.map((set) => set.nodes);

/** The bytes of the entry that opens a term or an ensemble change (R7, R13). */
function barrierValue(lossEpoch: number): Uint8Array {
  return LogEntryValue.encode({
    value: {
      $case: "controlRequest",
      value: { request: { $case: "barrier", value: { lossEpoch } } },
    },
  }).finish();
}

/**
 * One leadership: from an accepted BecomeLeader to the next term. It commits an entry of its own
 * term before it serves (R7), counts only voters (R2, I11) and confirms reads by rounds (R15).
 */
export class Leader {
  readonly state: ReplicaState;
  readonly node: string;
  readonly term: number;
  readonly tracker: QuorumAckTracker;
  readonly cursors = new Map<string, FollowerCursor>();
  readonly flow: CursorFlow;
  readonly reads = new ReadRounds();
  /** The barrier of this term; reads and writes wait until it is committed (R7). */
  readonly barrier: LogPosition;
  serving = false;
  #waiters: Waiter[] = [];
  #nextCursorId: () => number;

  constructor(
    state: ReplicaState,
    id: RequestId,
    request: BecomeLeaderRequest,
    nowMs: number,
    nextCursorId: () => number,
  ) {
    this.state = state;
    this.term = request.term;
    this.#nextCursorId = nextCursorId;
    // Not whoever `members` leaves out: it names only those that were fenced so far.
    this.node = state.node;
    this.tracker = new QuorumAckTracker(NODES_OF(request.voterSets));
    this.tracker.addVoter(this.node, state.synced);
    this.flow = new CursorFlow(this);
    this.barrier = state.appendOwn(this.term, barrierValue(request.lossEpoch), nowMs);
    this.#waiters.push({ id, position: this.barrier, kind: "becomeLeader" });
    for (const member of request.members) this.attach(member);
    state.syncLog();
    this.flow.pushAll();
  }

  /** Starts (or replaces, for another uid: R4, R10) the cursor of a member. */
  attach(member: Member): void {
    const before = this.cursors.get(member.node);
    // Recorded as a learner again: it must not be counted before it holds its new target (R2, R16).
    const demoted = before?.voter === true && member.role === MemberRole.LEARNER;
    // Another replica answered for it: its vote was struck out, and it must begin anew to get it
    // back.
    const struck = before?.state === "notMember" && !before.regressed;
    if (before?.uid === member.replicaUid && !demoted && !struck) {
      this.#updateRole(before, member);
      return;
    }
    if (before !== undefined) this.detach(before);
    const cursor = new FollowerCursor(this.#nextCursorId(), member);
    this.cursors.set(member.node, cursor);
    if (cursor.voter) this.tracker.addVoter(cursor.node, -1);
    this.flow.open(cursor);
  }

  /** Ends a cursor; its acks and confirmations die with it (R4, H12). */
  detach(cursor: FollowerCursor): void {
    this.cursors.delete(cursor.node);
    this.tracker.removeVoter(cursor.node);
    this.reads.forget(cursor.node);
    this.state.emit({ kind: "closeCursor", cursorId: cursor.id });
  }

  /** Counts a learner from now on (R16); the coordinator recorded it before. */
  promote(node: string, uid: string): Refusal | null {
    const cursor = this.cursors.get(node);
    if (cursor === undefined || cursor.uid !== uid) {
      return refusal("INVALID_STATUS", `no cursor for replica ${uid} of ${node}`, { node, uid });
    }
    if (cursor.voter) return null;
    if (!cursor.reachedTarget) {
      return refusal("INVALID_STATUS", `replica ${uid} does not hold its target yet`, {
        ackOffset: cursor.ackOffset,
        target: cursor.target?.offset ?? "none",
      });
    }
    cursor.voter = true;
    this.tracker.addVoter(node, cursor.ackOffset);
    this.advanceCommit();
    return null;
  }

  /** Takes the (joint) ensembles and commits an entry under them (R13). */
  updateEnsemble(id: RequestId, sets: readonly VoterSet[], lossEpoch: number, nowMs: number): void {
    this.tracker.setEnsembles(NODES_OF(sets));
    const position = this.state.appendOwn(this.term, barrierValue(lossEpoch), nowMs);
    this.#waiters.push({ id, position, kind: "updateEnsemble" });
    this.state.syncLog();
    this.flow.pushAll();
  }

  propose(id: RequestId, value: Uint8Array, nowMs: number): void {
    const position = this.state.appendOwn(this.term, value, nowMs);
    this.state.emit({ kind: "proposed", id, offset: position.offset });
    this.state.syncLog();
    this.flow.pushAll();
  }

  read(id: RequestId): void {
    if (this.state.options.leaderReads === true && this.serving) {
      const { commit } = this.state;
      this.state.emit({ kind: "releaseReads", requestIds: [id], offset: commit });
      return;
    }
    this.reads.add(id);
    this.#startReadRound();
  }

  /** Forgets who waited; what was begun for it goes on. */
  cancel(id: RequestId): void {
    this.reads.cancel(id);
    this.#waiters = this.#waiters.filter((waiter) => waiter.id !== id);
  }

  ownSynced(): void {
    this.tracker.ack(this.node, this.state.synced);
    this.advanceCommit();
    this.state.applyCommitted();
  }

  /** The quorum moved: commit what a quorum holds, if it is of this term (R7, H2). */
  advanceCommit(): void {
    const offset = this.tracker.quorumOffset();
    if (offset <= this.state.commit) return;
    const position = this.state.log.positionAt(offset);
    if (position !== null && position.term !== this.term) return;
    this.state.commit = offset;
    this.state.applyCommitted();
    this.#answerWaiters();
  }

  confirmed(node: string, round: number): void {
    this.reads.confirm(node, round);
    this.#finishReadRound();
  }

  /** A majority of each ensemble votes, this replica among it, and holds all that is committed. */
  majorityHolds(): boolean {
    const { commit } = this.state;
    return this.tracker.hasQuorum((node) => {
      if (node === this.node) return true;
      const cursor = this.cursors.get(node);
      return cursor?.state === "stream" && cursor.ackOffset >= commit;
    });
  }

  tick(nowMs: number): void {
    for (const cursor of this.cursors.values()) this.flow.tick(cursor, nowMs);
  }

  /** Ends the leadership (a newer term): everything that waits is told. */
  stop(): void {
    for (const cursor of this.cursors.values()) {
      this.state.emit({ kind: "closeCursor", cursorId: cursor.id });
    }
    for (const waiter of this.#waiters) {
      this.state.refuse(waiter.id, refusal("INVALID_TERM", "a newer term began", {}));
    }
    this.#waiters = [];
    this.state.emit({ kind: "stepDown" });
  }

  cursorById(id: number): FollowerCursor | null {
    for (const cursor of this.cursors.values()) if (cursor.id === id) return cursor;
    return null;
  }

  /** Entries up to here need not be kept for a transfer in progress (R17). */
  transferFloor(): Offset {
    let floor = this.state.log.last.offset;
    for (const { snapshotOffset } of this.cursors.values()) {
      if (snapshotOffset !== null) floor = Math.min(floor, snapshotOffset);
    }
    return floor;
  }

  #updateRole(cursor: FollowerCursor, member: Member): void {
    if (member.target !== undefined) cursor.target = member.target;
    if (member.role === MemberRole.VOTER && !cursor.voter) {
      cursor.voter = true;
      this.tracker.addVoter(cursor.node, cursor.ackOffset);
    }
    if (cursor.state === "notMember" || cursor.state === "down") this.flow.open(cursor);
  }

  #startReadRound(): void {
    if (!this.reads.start(this.state.commit)) return;
    for (const cursor of this.cursors.values()) {
      if (this.tracker.isVoter(cursor.node)) this.flow.heartbeat(cursor);
    }
    this.#finishReadRound();
  }

  #finishReadRound(): void {
    if (this.reads.idle) return;
    const confirmed = (node: string): boolean =>
      node === this.node || this.reads.hasConfirmed(node);
    if (!this.serving || !this.tracker.hasQuorum(confirmed)) return;
    const released = this.reads.finish();
    if (released !== null) {
      const { requestIds, offset } = released;
      this.state.emit({ kind: "releaseReads", requestIds, offset });
    }
    if (this.reads.pending > 0) this.#startReadRound();
  }

  #answerWaiters(): void {
    const { commit } = this.state;
    if (!this.serving && commit >= this.barrier.offset) {
      this.serving = true;
      this.#finishReadRound();
    }
    const done = this.#waiters.filter((waiter) => waiter.position.offset <= commit);
    this.#waiters = this.#waiters.filter((waiter) => waiter.position.offset > commit);
    for (const { id, kind, position } of done) {
      const reply =
        kind === "becomeLeader"
          ? ({ kind, response: { barrier: position } } as const)
          : ({ kind, response: { committed: position } } as const);
      this.state.emit({ kind: "reply", id, reply });
    }
  }
}
