import { INVALID_OFFSET } from "../protocol/entry.ts";
import type { LogPosition, Offset } from "../protocol/entry.ts";
import { MemberRole } from "../protocol/gen/resilver.ts";
import type { Member } from "../protocol/gen/resilver.ts";

/**
 * connecting: the stream is being opened. probe: looking for the last common position (R9).
 * stream: entries flow. noSpace: it left entries out, they wait. snapshot: a transfer is under way.
 * refused: it needs one and took none; heartbeats go on, the next try comes at `snapshotAtMs`.
 * notMember: answered 112, waits for the coordinator (R4). down: the stream broke, opens again at
 * `reopenAtMs`.
 */
export type CursorState =
  | "connecting"
  | "probe"
  | "stream"
  | "noSpace"
  | "snapshot"
  | "refused"
  | "notMember"
  | "down";

/**
 * The leader's view of one follower. Invariants: `ackOffset` only counts what matched under this
 * cursor and is durable at the follower with this uid; `lastPushed >= ackOffset` while streaming.
 */
export class FollowerCursor {
  readonly id: number;
  readonly node: string;
  readonly uid: string;
  readonly address: string;
  voter: boolean;
  /** What a learner must hold before it may vote (R16). */
  target: LogPosition | null;
  state: CursorState = "connecting";
  /** Durable at the follower and equal to ours; INVALID_OFFSET: unknown. */
  ackOffset: Offset = INVALID_OFFSET;
  /** Entries up to here were handed to the stream. */
  lastPushed: Offset = INVALID_OFFSET;
  /** The position asked about last while probing. */
  probe: LogPosition | null = null;
  observedUid: string | null = null;
  /** A position both logs hold, under this stream; what heartbeats name. */
  matched: LogPosition | null = null;
  /** Its volume is nearly full: it takes no writes (R17). */
  noSpace = false;
  /** True when the follower lost what it acknowledged to this leader (R3). */
  regressed = false;
  /** Base of the pinned snapshot: the log is held from here (R17). */
  snapshotOffset: Offset | null = null;
  reopenAtMs = 0;
  failures = 0;
  /** Transfers that failed one after the other. */
  snapshotFailures = 0;
  /** Transfers that were refused since entries flowed. */
  snapshotRefusals = 0;
  /** When the next one may begin after a refusal; null: at any time. */
  snapshotAtMs: number | null = null;
  /** Why nothing flows; "" while it does. */
  lastError = "";
  lastHeartbeatMs = 0;

  constructor(id: number, member: Member) {
    this.id = id;
    this.node = member.node;
    this.uid = member.replicaUid;
    this.address = member.internalAddress;
    this.voter = member.role === MemberRole.VOTER;
    this.target = member.target ?? null;
  }

  /** True when the learner durably holds its target under this cursor (R16). */
  get reachedTarget(): boolean {
    return this.target !== null && this.ackOffset >= this.target.offset;
  }

  /** Part three of the seed: on NODE_IS_NOT_MEMBER nothing known of the follower holds any more. */
  forget(): void {
    this.ackOffset = INVALID_OFFSET;
    this.lastPushed = INVALID_OFFSET;
    this.snapshotOffset = null;
    this.probe = null;
    this.matched = null;
    this.noSpace = false;
  }
}

/**
 * Whether a follower whose last common position is `match` must be sent a snapshot (part three of
 * the seed, R10).
 */
export function needsSnapshot(
  match: LogPosition | null,
  logBase: LogPosition,
  commit: Offset,
  tailEntriesMax: number,
): boolean {
  if (match === null || match.offset < logBase.offset) return true;
  // An empty follower can take the whole log, but beyond a few entries a snapshot is faster.
  return match.offset === INVALID_OFFSET && commit >= tailEntriesMax;
}
