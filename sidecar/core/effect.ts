import type { LogEntry, LogPosition, Offset } from "../protocol/entry.ts";
import type { Reason } from "../protocol/errors.ts";
import type {
  BecomeLeaderResponse,
  EnrolResponse,
  NewTermResponse,
  RemoveFollowerResponse,
  TruncateResponse,
  UpdateEnsembleResponse,
} from "../protocol/gen/resilver.ts";
import type { RequestId } from "./input.ts";

/** What a replica durably promised; kept outside everything a snapshot replaces (R12). */
export interface PromisedState {
  readonly term: number;
  /** The term persisted before `term`; stays where it is while `rolledBack` (R3). */
  readonly previousTerm: number;
  /** The disk was set back below a promise that the record knows; only Enrol ends it (R3). */
  readonly rolledBack: boolean;
  /** Highest record generation seen (R18). */
  readonly generation: number;
  readonly lossEpoch: number;
  /** False: formatted and not yet named by the coordinator: NOT_MEMBER. */
  readonly member: boolean;
  /** Set while this replica recovers: it listens to this term's leader only (R4). */
  readonly enrolled: { readonly term: number; readonly leaderUid: string } | null;
}

/** A refusal as a value; the driver makes a ProtocolError of it. */
export interface Refusal {
  readonly reason: Reason;
  readonly message: string;
  readonly metadata: Readonly<Record<string, string>>;
}

/** The answer to an order, by the order's kind. */
export type Reply =
  | { readonly kind: "newTerm"; readonly response: NewTermResponse }
  | { readonly kind: "becomeLeader"; readonly response: BecomeLeaderResponse }
  | { readonly kind: "removeFollower"; readonly response: RemoveFollowerResponse }
  | { readonly kind: "updateEnsemble"; readonly response: UpdateEnsembleResponse }
  | { readonly kind: "enrol"; readonly response: EnrolResponse }
  | { readonly kind: "truncate"; readonly response: TruncateResponse }
  | { readonly kind: "done" };

/** What the driver must do, in order. Effects of one step are performed before the next step. */
export type Effect =
  /** Buffer the entry in the WAL; a sync that covers it must follow. */
  | { readonly kind: "appendLog"; readonly entry: LogEntry }
  /**
   * Cut the log, durably, before anything appended later; syncs started earlier bear an older
   * epoch.
   */
  | { readonly kind: "truncateLog"; readonly lastOffset: Offset; readonly logEpoch: number }
  /** Make everything appended so far durable, then input `synced` with this epoch. */
  | { readonly kind: "syncLog"; readonly logEpoch: number }
  | {
      readonly kind: "persistMeta";
      readonly promised: PromisedState;
      readonly token: number;
      readonly setAside: boolean;
    }
  | { readonly kind: "reply"; readonly id: RequestId; readonly reply: Reply }
  | { readonly kind: "refuse"; readonly id: RequestId; readonly refusal: Refusal }
  /** The proposal got this offset; its answer comes when the entry is applied. */
  | { readonly kind: "proposed"; readonly id: RequestId; readonly offset: Offset }
  /** No longer leader: proposals under way have an unknown outcome, reads are refused (R15). */
  | { readonly kind: "stepDown" }
  /** Apply committed, durable entries up to and including `offset` (I8). */
  | { readonly kind: "apply"; readonly offset: Offset }
  /** The reads may be served once `offset` is applied. */
  | {
      readonly kind: "releaseReads";
      readonly requestIds: readonly RequestId[];
      readonly offset: Offset;
    }
  | {
      readonly kind: "openCursor";
      readonly cursorId: number;
      readonly node: string;
      readonly uid: string;
      readonly address: string;
    }
  | { readonly kind: "closeCursor"; readonly cursorId: number }
  /** Send every entry from `next` on, as the log grows; `previous` is the position before it. */
  | { readonly kind: "streamFrom"; readonly cursorId: number; readonly next: Offset }
  /** Send no entries until the next `streamFrom`; heartbeats go on. */
  | { readonly kind: "holdStream"; readonly cursorId: number }
  | {
      readonly kind: "heartbeat";
      readonly cursorId: number;
      readonly previous: LogPosition;
      readonly commitOffset: Offset;
      readonly round: number;
      readonly targetVotes: boolean;
    }
  | { readonly kind: "startSnapshot"; readonly cursorId: number }
  | {
      readonly kind: "ack";
      readonly streamId: number;
      readonly offset: Offset;
      readonly round: number;
      readonly synced: boolean;
      readonly mismatch: LogPosition | null;
      readonly noSpace: boolean;
      /** Entries of this stream were left out. */
      readonly entriesRefused: boolean;
    }
  /** End an incoming stream: with the refusal, or quietly. */
  | { readonly kind: "closeStream"; readonly streamId: number; readonly refusal: Refusal | null }
  /** Accept the snapshot stream; answered with `installed` or `installEnded`. */
  | { readonly kind: "acceptInstall"; readonly streamId: number }
  | { readonly kind: "abortInstall"; readonly streamId: number }
  /** The leader counts this replica: what was set aside may go. */
  | { readonly kind: "votes" }
  /** This replica must stop: going on would lose data (R9, R14). */
  | { readonly kind: "fault"; readonly message: string };
