import type {
  AddFollowerRequest,
  Append,
  BecomeLeaderRequest,
  EnrolRequest,
  NewTermRequest,
  Peer,
  PromoteRequest,
  RemoveFollowerRequest,
  TruncateRequest,
  UpdateEnsembleRequest,
} from "../protocol/gen/resilver.ts";
import type { LogPosition, Offset } from "../protocol/entry.ts";

/** Names a request that waits for a `reply` or `refuse` effect. */
export type RequestId = number;

/** Requests of the coordinator. Each is answered exactly once. */
export type CoordinationInput =
  | { readonly kind: "newTerm"; readonly id: RequestId; readonly request: NewTermRequest }
  | {
      readonly kind: "becomeLeader";
      readonly id: RequestId;
      readonly request: BecomeLeaderRequest;
      readonly nowMs: number;
    }
  | { readonly kind: "addFollower"; readonly id: RequestId; readonly request: AddFollowerRequest }
  | {
      readonly kind: "removeFollower";
      readonly id: RequestId;
      readonly request: RemoveFollowerRequest;
    }
  | { readonly kind: "promote"; readonly id: RequestId; readonly request: PromoteRequest }
  | {
      readonly kind: "updateEnsemble";
      readonly id: RequestId;
      readonly request: UpdateEnsembleRequest;
      readonly nowMs: number;
    }
  | { readonly kind: "enrol"; readonly id: RequestId; readonly request: EnrolRequest }
  | { readonly kind: "truncate"; readonly id: RequestId; readonly request: TruncateRequest };

/**
 * What the leader's streams to its followers report. `cursorId` is stale after the cursor was
 * closed.
 */
export type CursorInput =
  | { readonly kind: "cursorOpened"; readonly cursorId: number }
  | {
      readonly kind: "cursorAck";
      readonly cursorId: number;
      readonly ackOffset: Offset;
      readonly synced: boolean;
      readonly round: number;
      readonly mismatch: LogPosition | null;
      readonly noSpace: boolean;
      readonly entriesRefused: boolean;
    }
  | {
      readonly kind: "cursorClosed";
      readonly cursorId: number;
      readonly reason: string;
      readonly observedUid: string | null;
      readonly nowMs: number;
    }
  | { readonly kind: "cursorBehind"; readonly cursorId: number }
  | { readonly kind: "snapshotPinned"; readonly cursorId: number; readonly offset: Offset }
  | { readonly kind: "snapshotDone"; readonly cursorId: number; readonly base: LogPosition }
  | {
      readonly kind: "snapshotFailed";
      readonly cursorId: number;
      readonly reason: string;
      /** Another try soon would end the same way, and cost another snapshot. */
      readonly refused: boolean;
      readonly nowMs: number;
    };

/** What a leader sends to this replica. */
export type FollowerInput =
  | { readonly kind: "streamOpened"; readonly streamId: number; readonly peer: Peer }
  | { readonly kind: "append"; readonly streamId: number; readonly append: Append }
  | { readonly kind: "streamClosed"; readonly streamId: number }
  | { readonly kind: "installBegin"; readonly streamId: number; readonly peer: Peer }
  | { readonly kind: "installed"; readonly streamId: number; readonly base: LogPosition }
  | { readonly kind: "installEnded"; readonly streamId: number };

/** Clients and completions. An ack is an effect of `synced` only (R8, I5). */
export type LocalInput =
  | {
      readonly kind: "propose";
      readonly id: RequestId;
      readonly value: Uint8Array;
      readonly nowMs: number;
    }
  | { readonly kind: "read"; readonly id: RequestId }
  /** Whoever waits for the answer to this read, BecomeLeader or UpdateEnsemble has gone. */
  | { readonly kind: "cancelled"; readonly id: RequestId }
  | { readonly kind: "synced"; readonly offset: Offset; readonly logEpoch: number }
  | { readonly kind: "metaPersisted"; readonly token: number }
  | { readonly kind: "applied"; readonly offset: Offset }
  | { readonly kind: "trimmed"; readonly offset: Offset }
  /** What was appended cannot be made durable for want of space; it is tried again. */
  | { readonly kind: "logFull" }
  /** The volume of the log is nearly full, or no longer so (R17). */
  | { readonly kind: "space"; readonly short: boolean }
  | { readonly kind: "tick"; readonly nowMs: number };

/** Everything that can happen to a replica. */
export type Input = CoordinationInput | CursorInput | FollowerInput | LocalInput;
