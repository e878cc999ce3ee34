import type { Clock } from "../../sidecar/lib/ports/clock.ts";
import { ServingStatus } from "../../sidecar/protocol/status.ts";
import { followerAt, isFed, type ObservedNode } from "../core/observed.ts";
import { shardKeyText, type RecordMember, type ShardRecord } from "../core/record.ts";
import { Lasting } from "./lasting.ts";

/** A stream to a learner that only broke is back by then. */
const STUCK_MS = 5_000;

/** What is seen of a node, as far as one shard is concerned. */
type Seen = Pick<ObservedNode, "reach" | "replica">;

/** Nodes that are being rebuilt, for the RecoveryLimit gate. */
export class RecoveringNodes {
  readonly #clock: Clock;
  /** By shard and node: for how long no leader has fed the learner there. */
  readonly #unfed = new Map<string, Lasting>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /**
   * Those of one shard. Whoever is away keeps nobody else waiting; nor does one that is here while
   * no leader gets anything to it, which may last for ever.
   */
  of(record: ShardRecord, seen: (node: string) => Seen | undefined): readonly string[] {
    return record.members
      .filter((member) => {
        // One whose vote was taken and whose rebuild has not begun waits like any other.
        if (member.role !== "learner" || member.enrolTerm === undefined) return false;
        const unfedMs = this.#since(record, member, !feeds(record, member, seen));
        return seen(member.node)?.reach === "up" && unfedMs < STUCK_MS;
      })
      .map(({ node }) => node);
  }

  #since(record: ShardRecord, { node }: RecordMember, unfed: boolean): number {
    const name = `${shardKeyText(record)} ${node}`;
    const lasting = this.#unfed.get(name) ?? new Lasting();
    this.#unfed.set(name, lasting);
    return lasting.see(unfed, record.term, this.#clock.monotonicMs());
  }
}

/** True when the recorded leader reports that its stream to this learner works. */
function feeds(
  { leader, term }: ShardRecord,
  member: RecordMember,
  seen: (node: string) => Seen | undefined,
): boolean {
  const at = leader === null ? undefined : seen(leader.node);
  const report = at?.reach === "up" ? at.replica : null;
  if (report === null || report?.replicaUid !== leader?.uid) return false;
  if (report.status !== ServingStatus.LEADER || report.term !== term) return false;
  return isFed(followerAt(report, member));
}
