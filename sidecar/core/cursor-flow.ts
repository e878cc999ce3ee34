import { INVALID_OFFSET, LOG_START } from "../protocol/entry.ts";
import type { LogPosition, Offset } from "../protocol/entry.ts";
import type { CursorInput } from "./input.ts";
import { needsSnapshot } from "./follower-cursor.ts";
import type { FollowerCursor } from "./follower-cursor.ts";
import type { Leader } from "./leader.ts";

/**
 * Moves the leader's cursors through probe, stream and snapshot. The bytes are the driver's
 * business: this decides from where they flow and what an answer means.
 */
export class CursorFlow {
  readonly #leader: Leader;

  constructor(leader: Leader) {
    this.#leader = leader;
  }

  open(cursor: FollowerCursor): void {
    cursor.state = "connecting";
    cursor.observedUid = null;
    const { id: cursorId, node, uid, address } = cursor;
    this.#leader.state.emit({ kind: "openCursor", cursorId, node, uid, address });
  }

  step(input: CursorInput): void {
    const cursor = this.#leader.cursorById(input.cursorId);
    if (cursor === null) return;
    switch (input.kind) {
      case "cursorOpened":
        cursor.forget();
        this.#probe(cursor, this.#leader.state.log.last);
        break;
      case "cursorAck":
        this.#ack(cursor, input);
        break;
      case "cursorClosed":
        this.#closed(cursor, input.reason, input.observedUid, input.nowMs);
        break;
      case "cursorBehind":
        if (cursor.state === "stream") this.#startSnapshot(cursor);
        break;
      case "snapshotPinned":
        if (cursor.state === "snapshot") cursor.snapshotOffset = input.offset;
        break;
      case "snapshotDone":
        this.#snapshotDone(cursor, input.base);
        break;
      case "snapshotFailed":
        this.#snapshotFailed(cursor, input);
        break;
    }
  }

  /** New entries exist: streams that are caught up go on. */
  pushAll(): void {
    const head = this.#leader.state.log.last.offset;
    for (const cursor of this.#leader.cursors.values()) {
      if (cursor.state === "stream") cursor.lastPushed = head;
    }
  }

  /**
   * Asks for a sign of life, carries the commit offset, the read round and a position to compare.
   */
  heartbeat(cursor: FollowerCursor): void {
    const { state, reads } = this.#leader;
    if (cursor.state === "connecting" || cursor.state === "down") return;
    if (cursor.state === "notMember") return;
    const previous = cursor.state === "probe" ? cursor.probe : cursor.matched;
    state.emit({
      kind: "heartbeat",
      cursorId: cursor.id,
      previous: previous ?? state.log.last,
      commitOffset: state.commit,
      round: reads.round,
      targetVotes: cursor.voter,
    });
  }

  tick(cursor: FollowerCursor, nowMs: number): void {
    const { heartbeatMs } = this.#leader.state.options;
    if (cursor.state === "down") {
      if (nowMs >= cursor.reopenAtMs) this.open(cursor);
      return;
    }
    if (cursor.snapshotAtMs !== null && nowMs >= cursor.snapshotAtMs) {
      cursor.snapshotAtMs = null;
      // What it holds may have changed meanwhile: it is asked first.
      if (cursor.state === "refused") this.#probe(cursor, this.#leader.state.log.last);
    }
    if (nowMs - cursor.lastHeartbeatMs < heartbeatMs) return;
    cursor.lastHeartbeatMs = nowMs;
    this.heartbeat(cursor);
  }

  #probe(cursor: FollowerCursor, position: LogPosition): void {
    cursor.state = "probe";
    cursor.probe = position;
    this.heartbeat(cursor);
  }

  #ack(cursor: FollowerCursor, input: CursorInput & { kind: "cursorAck" }): void {
    if (cursor.state === "connecting" || cursor.state === "down") return;
    cursor.failures = 0;
    if (input.round > 0) this.#leader.confirmed(cursor.node, input.round);
    if (cursor.state === "snapshot") return;
    cursor.noSpace = input.noSpace;
    if (cursor.state === "refused") return;
    if (input.noSpace && input.entriesRefused) {
      this.#hold(cursor);
      if (input.synced) this.#durable(cursor, input.ackOffset);
      return;
    }
    if (cursor.state === "noSpace") {
      // What was on its way when the volume filled up was left out: look where to go on.
      this.#probe(cursor, this.#leader.state.log.last);
      return;
    }
    if (input.mismatch !== null) {
      this.#mismatch(cursor, input.mismatch);
      return;
    }
    if (cursor.state === "probe" && cursor.probe !== null) this.#stream(cursor, cursor.probe);
    if (input.synced) this.#durable(cursor, input.ackOffset);
  }

  /**
   * Why writes cannot be committed now: the voters without room that a quorum would need, as text;
   * null when there is room enough. A write that is begun anyway could only time out (R17).
   */
  withoutSpace(): string | null {
    const { cursors, tracker } = this.#leader;
    let full = 0;
    for (const { noSpace } of cursors.values()) if (noSpace) full += 1;
    if (full === 0) return null;
    const roomy = (node: string): boolean => cursors.get(node)?.noSpace !== true;
    if (tracker.hasQuorum(roomy)) return null;
    return [...cursors.keys()].filter((node) => !roomy(node)).join(", ");
  }

  /** The follower's volume is nearly full: heartbeats go on, entries wait until it has room. */
  #hold(cursor: FollowerCursor): void {
    if (cursor.state === "noSpace") return;
    cursor.state = "noSpace";
    cursor.probe = null;
    this.#leader.state.emit({ kind: "holdStream", cursorId: cursor.id });
  }

  #durable(cursor: FollowerCursor, offset: Offset): void {
    // An ack beyond our own head cannot be about our log.
    if (offset > this.#leader.state.log.last.offset || offset <= cursor.ackOffset) return;
    cursor.ackOffset = offset;
    // Trimmed already where the follower is far behind; it may have trimmed the one before too.
    const own = this.#leader.state.log.positionAt(offset);
    if (own !== null && offset > (cursor.matched?.offset ?? INVALID_OFFSET)) cursor.matched = own;
    if (!cursor.voter) return;
    this.#leader.tracker.ack(cursor.node, offset);
    this.#leader.advanceCommit();
  }

  /** The follower does not hold what was named before: step back until the logs agree (R9). */
  #mismatch(cursor: FollowerCursor, hint: LogPosition): void {
    const { log, commit, options } = this.#leader.state;
    if (this.#regressed(cursor, hint)) return;
    if (hint.offset === INVALID_OFFSET || hint.offset < log.base.offset) {
      const reachesStart = log.base.offset === INVALID_OFFSET;
      const match = reachesStart ? LOG_START : null;
      if (needsSnapshot(match, log.base, commit, options.tailEntriesMax)) {
        this.#startSnapshot(cursor);
      } else this.#stream(cursor, LOG_START);
      return;
    }
    if (log.contains(hint)) {
      this.#stream(cursor, hint);
      return;
    }
    // Strictly lower than the hint, so that this ends.
    const lower = log.highestAtMost(hint.term, hint.offset - 1);
    if (lower.offset !== cursor.probe?.offset) {
      this.#probe(cursor, lower);
      return;
    }
    // Either this answers an earlier question, or the follower's log begins with what this one does
    // not hold; no follower of ours has such a log (R9). The next heartbeat asks the same again:
    // asking at once would go on for ever, as fast as the network goes.
    cursor.lastError = `it holds ${hint.term}:${hint.offset}, the leader does not`;
  }

  /**
   * A voter that no longer holds what it acknowledged to this leader lost data: it stops counting
   * (R3, H19). True: the answer is dealt with.
   */
  #regressed(cursor: FollowerCursor, hint: LogPosition): boolean {
    const { tracker, reads } = this.#leader;
    const acked = tracker.ackedBy(cursor.node);
    if (acked === null || hint.offset >= acked) return false;
    if (cursor.matched !== null) {
      // It may answer an earlier question, about what it acknowledged and trimmed since. Only on
      // another stream is no such answer on its way: there the head is asked about first.
      cursor.state = "down";
      cursor.reopenAtMs = 0;
      this.#leader.state.emit({ kind: "closeCursor", cursorId: cursor.id });
      return true;
    }
    cursor.regressed = true;
    cursor.observedUid = cursor.uid;
    cursor.state = "notMember";
    cursor.forget();
    tracker.removeVoter(cursor.node);
    reads.forget(cursor.node);
    this.#leader.state.emit({ kind: "closeCursor", cursorId: cursor.id });
    return true;
  }

  #stream(cursor: FollowerCursor, match: LogPosition): void {
    cursor.state = "stream";
    cursor.probe = null;
    cursor.matched = match;
    cursor.lastError = "";
    cursor.snapshotFailures = 0;
    cursor.snapshotRefusals = 0;
    cursor.snapshotAtMs = null;
    cursor.lastPushed = this.#leader.state.log.last.offset;
    this.#leader.state.emit({ kind: "streamFrom", cursorId: cursor.id, next: match.offset + 1 });
  }

  #startSnapshot(cursor: FollowerCursor): void {
    cursor.forget();
    if (cursor.snapshotAtMs !== null) {
      // Its stream broke meanwhile; that alone changes nothing.
      cursor.state = "refused";
      return;
    }
    cursor.state = "snapshot";
    this.#leader.state.emit({ kind: "startSnapshot", cursorId: cursor.id });
  }

  #snapshotDone(cursor: FollowerCursor, base: LogPosition): void {
    if (cursor.state !== "snapshot") return;
    cursor.ackOffset = base.offset;
    cursor.snapshotOffset = null;
    cursor.snapshotFailures = 0;
    this.#probe(cursor, base);
  }

  #snapshotFailed(cursor: FollowerCursor, input: CursorInput & { kind: "snapshotFailed" }): void {
    cursor.lastError = input.reason;
    if (input.refused) {
      const { snapshotRetryMinMs, snapshotRetryMaxMs } = this.#leader.state.options;
      const delayMs = snapshotRetryMinMs * 2 ** Math.min(cursor.snapshotRefusals, 16);
      cursor.snapshotRefusals += 1;
      cursor.snapshotAtMs = input.nowMs + Math.min(snapshotRetryMaxMs, delayMs);
      // It may vote, and what it confirms is needed: its stream stays.
      if (cursor.state === "snapshot") cursor.state = "refused";
      cursor.snapshotOffset = null;
      return;
    }
    // Heartbeats are answered all the while: they say nothing about the next transfer.
    cursor.failures = Math.max(cursor.failures, cursor.snapshotFailures);
    cursor.snapshotFailures += 1;
    this.#back(cursor, input.nowMs);
  }

  #closed(cursor: FollowerCursor, reason: string, uid: string | null, nowMs: number): void {
    cursor.lastError = reason;
    if (uid === null) {
      this.#back(cursor, nowMs);
      return;
    }
    cursor.forget();
    cursor.observedUid = uid;
    if (uid !== cursor.uid) {
      // Another replica answers for this node: what the old one acknowledged or confirmed is void
      // (R4, H12).
      cursor.state = "notMember";
      this.#leader.tracker.removeVoter(cursor.node);
      this.#leader.reads.forget(cursor.node);
      return;
    }
    this.#back(cursor, nowMs);
  }

  #back(cursor: FollowerCursor, nowMs: number): void {
    const { reconnectMinMs, reconnectMaxMs } = this.#leader.state.options;
    const delayMs = Math.min(reconnectMaxMs, reconnectMinMs * 2 ** Math.min(cursor.failures, 16));
    cursor.failures += 1;
    cursor.state = "down";
    cursor.snapshotOffset = null;
    cursor.reopenAtMs = nowMs + delayMs;
    this.#leader.state.emit({ kind: "closeCursor", cursorId: cursor.id });
  }
}
