import type { ShardRecord } from "../../operator/core/record.ts";
import { ServingStatus } from "../../sidecar/protocol/status.ts";
import { LOG_START, type LogPosition } from "../../sidecar/protocol/entry.ts";
import type {
  Ack,
  Append,
  Peer,
  RemoveFollowerRequest,
  ReplicaStatus,
  SnapshotResponse,
} from "../../sidecar/protocol/gen/resilver.ts";
import type { ReplicaHandle } from "../../sidecar/runtime/ports.ts";
import type { Answered, Boot, CheckContext, Checker } from "./checkers/checker.ts";
import { appliedIsCommitted } from "./checkers/i8-applied-is-committed.ts";
import { boundedEffort } from "./checkers/i20-bounded-effort.ts";
import { committedIsNeverCut } from "./checkers/i9-committed-is-never-cut.ts";
import { configurationsOverlap } from "./checkers/i17-configurations-overlap.ts";
import { damagedLogsDoNotVote } from "./checkers/i19-damaged-logs-do-not-vote.ts";
import { floorIsHeldByLeaders } from "./checkers/i15-floor-is-held-by-leaders.ts";
import { noDataFromAnOlderLeader } from "./checkers/i12-no-data-from-an-older-leader.ts";
import { trimmedIsInTheState } from "./checkers/i14-trimmed-is-in-the-state.ts";
import { VersionsIncrease } from "./checkers/i16-versions-increase.ts";
import { DurableClaims } from "./checkers/durable-claims.ts";
import { sameStatus, type SeenStatus } from "./checkers/seen-status.ts";
import { fencingCompletes } from "./checkers/l5-fencing-completes.ts";
import { fencedHeadIsDurable } from "./checkers/i10-fenced-head-is-durable.ts";
import { honestAck } from "./checkers/i5-honest-ack.ts";
import { installIsAtomic } from "./checkers/i13-install-is-atomic.ts";
import { leaderCompleteness } from "./checkers/i4-leader-completeness.ts";
import { logMatching } from "./checkers/i3-log-matching.ts";
import { dataOnlyAfterWelcome } from "./checkers/r4-data-only-after-welcome.ts";
import { newIdentityAfterAWipe } from "./checkers/r1-new-identity-after-a-wipe.ts";
import { oneShardOfAnIdentity } from "./checkers/r1-one-shard-of-an-identity.ts";
import { nothingExposedDisappears } from "./checkers/i7-nothing-exposed-disappears.ts";
import { oneLeaderPerTerm } from "./checkers/i1-one-leader-per-term.ts";
import { onlyVotersCount } from "./checkers/i11-only-voters-count.ts";
import { promotedHoldsItsTarget } from "./checkers/r16-promoted-holds-its-target.ts";
import { stateMachineSafety } from "./checkers/i6-state-machine-safety.ts";
import { termsNeverDecrease } from "./checkers/i2-terms-never-decrease.ts";
import { CommittedLog, LogBook, ModelState } from "./log-book.ts";
import { VoterHistory } from "./voter-history.ts";

/** What happened to a disk since a process looked at it. */
export type DiskHarm = Pick<Boot, "damaged" | "wiped">;

/** What a referee of one shard shares with those of the others. */
export interface ShardRefereeOptions {
  readonly shard: string;
  /** By identity: the shard that it was first seen in. */
  readonly identities: Map<string, string>;
  /** An invariant does not hold. */
  readonly violate: (invariant: string, message: string) => void;
}

/**
 * Sees everything of one shard, holds the truth, asks every checker. What is noted while an event
 * runs is judged when all it caused has settled, since the order within one event means nothing.
 */
export class ShardReferee {
  readonly book = new LogBook();
  readonly committed = new CommittedLog(this.book);
  readonly model = new ModelState();
  readonly versions: VersionsIncrease;
  /** An invariant does not hold for this shard. */
  readonly violate: (invariant: string, message: string) => void;
  readonly #claims = new DurableClaims(this.committed);
  readonly #voters = new VoterHistory();
  readonly #checkers: readonly Checker[];
  /** Of what happens often: who wants to know. */
  readonly #asked: {
    readonly [H in "sample" | "appendSent" | "ackSent" | "dataTaken"]: readonly Having<H>[];
  };
  /** The last look at each node's running process. */
  readonly #last = new Map<string, SeenStatus>();
  /** By node: what its process was when its state was compared last. */
  readonly #inspected = new Map<string, SeenStatus>();
  readonly #acks: { readonly node: string; readonly ack: Ack }[] = [];
  readonly #answered: Answered[] = [];

  constructor({ shard, identities, violate }: ShardRefereeOptions) {
    this.violate = violate;
    const context: CheckContext = {
      shard,
      identities,
      book: this.book,
      committed: this.committed,
      model: this.model,
      claims: this.#claims,
      voters: this.#voters,
      violate,
    };
    this.committed.onEntry = (entry) => this.model.apply(entry);
    this.versions = new VersionsIncrease(context);
    this.#checkers = [
      oneLeaderPerTerm(context),
      termsNeverDecrease(context),
      logMatching(context),
      leaderCompleteness(context),
      onlyVotersCount(context),
      nothingExposedDisappears(context),
      honestAck(context),
      stateMachineSafety(context),
      fencedHeadIsDurable(context),
      installIsAtomic(context),
      appliedIsCommitted(context),
      committedIsNeverCut(context),
      noDataFromAnOlderLeader(context),
      trimmedIsInTheState(context),
      floorIsHeldByLeaders(context),
      configurationsOverlap(context),
      damagedLogsDoNotVote(context),
      boundedEffort(context),
      fencingCompletes(context),
      promotedHoldsItsTarget(context),
      newIdentityAfterAWipe(context),
      oneShardOfAnIdentity(context),
      dataOnlyAfterWelcome(context),
    ];
    this.#asked = {
      sample: having(this.#checkers, "sample"),
      appendSent: having(this.#checkers, "appendSent"),
      ackSent: having(this.#checkers, "ackSent"),
      dataTaken: having(this.#checkers, "dataTaken"),
    };
  }

  /** What its checkers watch for. */
  get invariants(): readonly string[] {
    return this.#checkers.map(({ invariant }) => invariant);
  }

  appendSent(peer: Peer, append: Append): void {
    this.book.add(append);
    for (const checker of this.#asked.appendSent) checker.appendSent(peer, append);
  }

  ackSent(node: string, peer: Peer, ack: Ack): void {
    this.#acks.push({ node, ack });
    if (ack.synced) this.#dataTaken(node, peer, `entries up to ${ack.offset}`);
  }

  snapshotAnswered(node: string, peer: Peer, response: SnapshotResponse): void {
    if (response.installed) this.#dataTaken(node, peer, `a snapshot of ${response.ackOffset}`);
  }

  snapshotBegun(node: string, peer: Peer): void {
    for (const checker of this.#checkers) checker.snapshotBegun?.(node, peer);
  }

  streamArrived(peer: Peer, openedAtMs: number): void {
    for (const checker of this.#checkers) checker.streamArrived?.(peer, openedAtMs);
  }

  arrived(name: string, node: string, request: object): void {
    for (const checker of this.#checkers) checker.arrived?.(name, node, request);
  }

  recordDamaged(node: string, uid: string, position: LogPosition): void {
    for (const checker of this.#checkers) checker.recordDamaged?.(node, uid, position);
  }

  diskSetBack(node: string, uid: string): void {
    this.#claims.setBack(uid);
    for (const checker of this.#checkers) checker.diskSetBack?.(node, uid);
  }

  faultInjected(): void {
    for (const checker of this.#checkers) checker.faultInjected?.();
  }

  answered(answered: Answered): void {
    this.#answered.push(answered);
  }

  called(name: string, node: string, request: object, answer: object): void {
    if (name === "removeFollower") {
      const { term, replicaUid } = request as RemoveFollowerRequest;
      this.#voters.discarded(term, replicaUid);
    }
    for (const checker of this.#checkers) checker.called?.(name, node, request, answer);
  }

  served(name: string, node: string, tookMs: number): void {
    for (const checker of this.#checkers) checker.served?.(name, node, tookMs);
  }

  recordSaved(record: ShardRecord): void {
    this.#voters.recordSaved(record);
    for (const checker of this.#checkers) checker.recordSaved?.(record);
  }

  /**
   * After an event of a node's process, with what it says now; null: nothing. `harm`: what happened
   * to its disk since the last one. True when it is the first look at this process.
   */
  settle(node: string, status: ReplicaStatus | null, harm: DiskHarm): boolean {
    const first = status !== null && !this.#last.has(node);
    if (status !== null) this.#look(node, status, harm);
    if (this.#acks.length > 0) {
      for (const { node: from, ack } of this.#acks.splice(0)) this.#acked(from, ack);
    }
    if (this.#answered.length > 0) {
      for (const answered of this.#answered.splice(0)) {
        for (const checker of this.#checkers) checker.answered?.(answered);
      }
    }
    return first;
  }

  /** The process on a node ended. */
  ended(node: string): void {
    this.#last.delete(node);
    this.#inspected.delete(node);
  }

  /**
   * True when the state may differ from what {@link inspect} saw of this process last: something
   * was applied, made durable or installed since.
   */
  isNews(node: string): boolean {
    const now = this.#last.get(node);
    const then = this.#inspected.get(node);
    return then === undefined || now === undefined || !sameState(now, then);
  }

  /** Compares a state machine with the others and with the committed log. */
  async inspect(node: string, replica: ReplicaHandle): Promise<void> {
    let seen: Awaited<ReturnType<typeof readState>>;
    try {
      seen = await readState(replica);
    } catch {
      return; // Not open just now: it is empty, or an install swaps it.
    }
    if (seen.appliedOffset > this.committed.tip.offset) {
      this.violate("I6", `${node} applied ${seen.appliedOffset}, which nobody says is committed`);
    }
    const status = this.#last.get(node);
    if (status !== undefined) this.#inspected.set(node, status);
    for (const checker of this.#checkers) checker.stateSeen?.({ node, ...seen });
  }

  #look(node: string, status: ReplicaStatus, harm: DiskHarm): void {
    const last = this.#last.get(node) ?? null;
    // Most events change nothing of what is looked at.
    if (last !== null && sameStatus(last, status)) return;
    this.#last.set(node, status);
    const { head } = status;
    if (last?.head !== undefined && head !== undefined && status.status === ServingStatus.LEADER) {
      this.book.addBarrier(head, last.head);
    }
    if (last === null) {
      for (const checker of this.#checkers) checker.boot?.({ node, status, ...harm });
    }
    const sample = { node, status, before: last };
    for (const checker of this.#asked.sample) checker.sample(sample);
    // Only now, or a cut would look like a claim that was never made.
    if (last !== null) this.#claims.look(status);
  }

  #dataTaken(node: string, peer: Peer, what: string): void {
    for (const checker of this.#asked.dataTaken) checker.dataTaken(node, peer, what);
  }

  #acked(node: string, ack: Ack): void {
    const status = this.#last.get(node);
    if (status !== undefined && ack.synced && ack.offset > LOG_START.offset) {
      this.#claims.claim(status, ack.offset);
    }
    for (const checker of this.#asked.ackSent) checker.ackSent(node, ack);
  }
}

/** A checker with this hook. */
type Having<H extends keyof Checker> = Checker & Required<Pick<Checker, H>>;

function having<H extends keyof Checker>(
  checkers: readonly Checker[],
  hook: H,
): readonly Having<H>[] {
  return checkers.filter((checker): checker is Having<H> => checker[hook] !== undefined);
}

function sameState(one: SeenStatus, other: SeenStatus): boolean {
  return (
    one.replicaUid === other.replicaUid &&
    one.appliedOffset === other.appliedOffset &&
    one.durableOffset === other.durableOffset &&
    one.recovery?.phase === other.recovery?.phase
  );
}

const EVERYTHING = {
  shard: undefined,
  startInclusive: "",
  endExclusive: "",
  secondaryIndexName: undefined,
  includeInternalKeys: false,
};

async function readState(replica: ReplicaHandle): Promise<{
  readonly appliedOffset: number;
  readonly checksum: string;
  readonly pairs: readonly (readonly [string, string])[];
}> {
  const { appliedOffset, checksum } = await replica.checksum(-1, new AbortController().signal);
  const pairs: [string, string][] = [];
  for (const page of replica.scan(EVERYTHING)) {
    for (const { key = "", value } of page) {
      pairs.push([key, value === undefined ? "" : textOf(value)]);
    }
  }
  return { appliedOffset, checksum, pairs };
}

function textOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString();
}

/** Not open for want of space: it says who it is, and nothing of what it holds. */
export function isUnopened({ noSpace, fault, head, durableOffset }: ReplicaStatus): boolean {
  return noSpace && fault !== "" && (head?.offset ?? -1) === -1 && durableOffset === -1;
}
