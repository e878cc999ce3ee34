import type { ShardRecord } from "../../../operator/core/record.ts";
import type { LogPosition } from "../../../sidecar/protocol/entry.ts";
import type { Ack, Append, Peer } from "../../../sidecar/protocol/gen/resilver.ts";
import type { CommittedLog, LogBook, ModelState } from "../log-book.ts";
import type { VoterHistory } from "../voter-history.ts";
import type { DurableClaims } from "./durable-claims.ts";
import type { SeenStatus } from "./seen-status.ts";

/** What checkers share: the knowledge of somebody who sees the whole cluster at once. */
export interface CheckContext {
  /** `namespace/shard`: whom all that follows is about. */
  readonly shard: string;
  /** By identity: the shard that it was first seen in. Shared with the checkers of other shards. */
  readonly identities: Map<string, string>;
  readonly book: LogBook;
  readonly committed: CommittedLog;
  readonly model: ModelState;
  readonly claims: DurableClaims;
  /** Who voted, term by term, by what the record said. */
  readonly voters: VoterHistory;
  /** Ends the run: an invariant does not hold. */
  readonly violate: (invariant: string, message: string) => void;
}

/** One replica right after an event of its process that changed something. */
export interface Sample {
  readonly node: string;
  readonly status: SeenStatus;
  /** The sample before, of the same process; null for the first one. */
  readonly before: SeenStatus | null;
}

/** A replica that was opened again after its process had ended. */
export interface Boot {
  readonly node: string;
  readonly status: SeenStatus;
  /** True when the disk lost something since: another identity is right. */
  readonly damaged: boolean;
  /** True when a directory, or the cookie in one, was taken away since: the same one is wrong. */
  readonly wiped: boolean;
}

/** What a replica's state machine holds at one moment. */
export interface StateSeen {
  readonly node: string;
  readonly appliedOffset: number;
  readonly checksum: string;
  readonly pairs: readonly (readonly [string, string])[];
}

/** A write or read that a leader answered. */
export interface Answered {
  readonly kind: "write" | "read";
  readonly node: string;
  readonly key: string;
  /** Written, or read; null: no such key. */
  readonly value: string | null;
}

/** Watches for one invariant. Every hook is called when all that an event caused has settled. */
export interface Checker {
  readonly invariant: string;
  sample?(sample: Sample): void;
  boot?(boot: Boot): void;
  appendSent?(peer: Peer, append: Append): void;
  ackSent?(node: string, ack: Ack): void;
  /** A call of the coordinator arrived at a node. */
  arrived?(name: string, node: string, request: object): void;
  /** A node answered a call of the coordinator. */
  called?(name: string, node: string, request: object, answer: object): void;
  /** A node took so long, in virtual time, to answer or refuse a call of the coordinator. */
  served?(name: string, node: string, tookMs: number): void;
  recordSaved?(record: ShardRecord): void;
  /** Right when a node told a leader that it took data: `what` is for people. */
  dataTaken?(node: string, peer: Peer, what: string): void;
  /** A leader on `node` opens a stream for a snapshot. */
  snapshotBegun?(node: string, peer: Peer): void;
  /** A stream for entries that its leader opened at this virtual time arrives at its follower. */
  streamArrived?(peer: Peer, openedAtMs: number): void;
  /** A byte of this record on the disk of `node`, written by `uid`, was changed. */
  recordDamaged?(node: string, uid: string, position: LogPosition): void;
  /** The disk of `node` is an older image of itself; `uid` is the replica that is lost by it. */
  diskSetBack?(node: string, uid: string): void;
  /** Something was done to the cluster: a fault, a boot, the end of one. */
  faultInjected?(): void;
  stateSeen?(seen: StateSeen): void;
  answered?(answered: Answered): void;
}
