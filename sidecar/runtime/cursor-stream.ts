import type { CursorInput } from "../core/input.ts";
import { TransportError } from "../lib/ports/duplex-call.ts";
import type { DuplexCall } from "../lib/ports/duplex-call.ts";
import type { LogEntry, LogPosition, Offset } from "../protocol/entry.ts";
import { ProtocolError } from "../protocol/errors.ts";
import type { Ack, Append } from "../protocol/gen/resilver.ts";
import { WalCorrupt, WalTrimmed } from "../wal/errors.ts";
import type { LogReader } from "./log-reader.ts";

/** What one stream to a follower needs of its replica. */
export interface CursorStreamOptions {
  readonly cursorId: number;
  readonly term: number;
  readonly leaderUid: string;
  readonly targetUid: string;
  readonly reader: LogReader;
  readonly open: () => DuplexCall<Append, Ack>;
  readonly feed: (input: CursorInput) => void;
  /** The leader's own log is damaged (R14). */
  readonly damaged: (error: WalCorrupt) => void;
  readonly nowMs: () => number;
  readonly head: () => Offset;
  readonly commit: () => Offset;
  readonly positionAt: (offset: Offset) => LogPosition | null;
}

/** A heartbeat that the core asked for. */
export interface Heartbeat {
  readonly previous: LogPosition;
  readonly commitOffset: Offset;
  readonly round: number;
  readonly targetVotes: boolean;
}

/**
 * One Replicate stream from the leader to a follower: entries from where the core says, heartbeats
 * between them, acks back. It holds no queue: entries are read as the transport takes them, and of
 * heartbeats only the newest waits.
 */
export class CursorStream {
  readonly #options: CursorStreamOptions;
  readonly #call: DuplexCall<Append, Ack>;
  readonly #done: Promise<void>;
  #next: Offset | null = null;
  #pump: Promise<void> | null = null;
  #waitingHeartbeat: Heartbeat | null = null;
  #closed = false;

  constructor(options: CursorStreamOptions) {
    this.#options = options;
    this.#call = options.open();
    this.#done = this.#receive();
  }

  /** Sends entries from `next` on, as the log grows. */
  streamFrom(next: Offset): void {
    this.#next = next;
    this.notify();
  }

  /** Sends no entries until it is told again from where. */
  hold(): void {
    this.#next = null;
  }

  /** The log grew. */
  notify(): void {
    if (this.#pump !== null || this.#next === null || this.#closed) return;
    if (this.#next > this.#options.head()) return;
    this.#pump = this.#send().finally(() => {
      this.#pump = null;
      this.#flushHeartbeat();
      // Entries that came after the last look, before `#pump` was cleared.
      this.notify();
    });
  }

  heartbeat(heartbeat: Heartbeat): void {
    if (this.#closed) return;
    this.#waitingHeartbeat = heartbeat;
    if (this.#pump === null) this.#flushHeartbeat();
  }

  /** Ends the stream; nothing is reported afterwards. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#call.cancel();
    await this.#pump;
    await this.#done;
  }

  #flushHeartbeat(): void {
    const heartbeat = this.#waitingHeartbeat;
    if (heartbeat === null || this.#closed) return;
    this.#waitingHeartbeat = null;
    const { previous, commitOffset, round, targetVotes } = heartbeat;
    this.#call.write({ ...this.#frame(previous, commitOffset, round), targetVotes });
  }

  #frame(previous: LogPosition, commitOffset: Offset, round: number): Append {
    const { term, leaderUid, targetUid } = this.#options;
    return {
      term,
      entry: undefined,
      commitOffset,
      cumulativeAcksSupported: true,
      leaderUid,
      targetUid,
      previous,
      entryCrc: 0,
      round,
      targetVotes: false,
    };
  }

  async #send(): Promise<void> {
    const { reader, head } = this.#options;
    while (!this.#closed && this.#next !== null && this.#next <= head()) {
      const from: Offset = this.#next;
      const cached = reader.cached(from);
      const entries = cached === undefined ? await this.#read(from) : [cached];
      if (entries === null) return;
      for (const entry of entries) {
        // A new probe result may have moved the stream while this waited.
        if (this.#closed || this.#next !== entry.offset) break;
        if (!this.#sendEntry(entry)) await this.#call.drained();
        this.#flushHeartbeat();
      }
    }
  }

  /** Entries from the disk; null when the log no longer reaches back and the core was told. */
  async #read(from: Offset): Promise<readonly LogEntry[] | null> {
    try {
      return await this.#options.reader.read(from);
    } catch (error) {
      if (this.#closed) return null;
      this.#next = null;
      const { cursorId, nowMs, damaged } = this.#options;
      if (error instanceof WalCorrupt) damaged(error);
      if (error instanceof WalTrimmed) {
        this.#options.feed({ kind: "cursorBehind", cursorId });
      } else {
        const reason = `the log cannot be read at offset ${from}: ${String(error)}`;
        this.#report({ kind: "cursorClosed", cursorId, reason, observedUid: null, nowMs: nowMs() });
      }
      return null;
    }
  }

  #sendEntry(entry: LogEntry): boolean {
    const previous = this.#options.positionAt(entry.offset - 1);
    if (previous === null) {
      this.#next = null;
      this.#options.feed({ kind: "cursorBehind", cursorId: this.#options.cursorId });
      return true;
    }
    this.#next = entry.offset + 1;
    const { term, offset, timestampMs: timestamp, value, crc: entryCrc } = entry;
    return this.#call.write({
      ...this.#frame(previous, this.#options.commit(), 0),
      entry: { term, offset, timestamp, value },
      previousEntryCrc: previous.crc,
      entryCrc,
    });
  }

  async #receive(): Promise<void> {
    const { cursorId, feed, nowMs } = this.#options;
    let reason = "the follower ended the stream";
    let observedUid: string | null = null;
    try {
      for await (const ack of this.#call.messages) {
        if (this.#closed) return;
        const { offset: ackOffset, synced, round, noSpace, entriesRefused } = ack;
        const mismatch = ack.mismatch ?? null;
        const room = { noSpace, entriesRefused };
        feed({ kind: "cursorAck", cursorId, ackOffset, synced, round, mismatch, ...room });
      }
    } catch (error) {
      reason = error instanceof Error ? error.message : String(error);
      if (error instanceof ProtocolError && error.reason === "NODE_IS_NOT_MEMBER") {
        observedUid = error.metadata["observedUid"] ?? "";
      } else if (!(error instanceof ProtocolError) && !(error instanceof TransportError)) {
        reason = `unexpected: ${reason}`;
      }
    }
    this.#report({ kind: "cursorClosed", cursorId, reason, observedUid, nowMs: nowMs() });
  }

  /** Reports the end once. */
  #report(input: CursorInput): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#call.cancel();
    this.#options.feed(input);
  }
}
