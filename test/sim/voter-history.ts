import { voterSets, type ShardRecord } from "../../operator/core/record.ts";

/** Who may be counted, by what the record said for some time of a term. */
interface Configuration {
  /** Node names; two sets while a change is joint (R13). */
  readonly sets: readonly (readonly string[])[];
  /** The identity that leads; "": none does. */
  readonly leader: string;
  /** By node: the identity that votes there. */
  readonly voters: Map<string, string>;
  /** Identities that lost their vote in the record, of which the leader may not know yet. */
  readonly untold: ReadonlySet<string>;
}

/**
 * What the record said of voters, term by term: the measure of who may be counted (R2, R13). A new
 * save under the same voter sets takes the place of the one before: a leader discards an identity
 * before the record names another. A vote alone is taken in the record first (R3), and its leader
 * goes on counting it until it is told: any majority of those who still vote meets what was
 * committed so.
 */
export class VoterHistory {
  readonly #configurations = new Map<number, Configuration[]>();

  recordSaved(record: ShardRecord): void {
    const sets = voterSets(record);
    const leader = record.leader?.uid ?? "";
    const voting = record.members.filter(({ role }) => role !== "learner");
    const voters = new Map(voting.map(({ node, replicaUid }) => [node, replicaUid]));
    const known = this.#configurations.get(record.term) ?? [];
    const last = known.at(-1);
    const counted = leader === "" || leader !== last?.leader ? null : last.voters;
    const untold = record.members.filter(
      ({ node, replicaUid, role, enrolTerm }) =>
        // Its leader is told before it is enrolled.
        role === "learner" && enrolTerm !== record.term && counted?.get(node) === replicaUid,
    );
    for (const { node, replicaUid } of untold) voters.set(node, replicaUid);
    const now = { sets, leader, voters, untold: new Set(untold.map((one) => one.replicaUid)) };
    const isSame = last !== undefined && JSON.stringify(last.sets) === JSON.stringify(sets);
    this.#configurations.set(record.term, [...(isSame ? known.slice(0, -1) : known), now]);
  }

  /** The leader of that term was told that this identity does not vote, under any voter sets. */
  discarded(term: number, uid: string): void {
    const known = this.#configurations.get(term) ?? [];
    if (!known.some(({ untold }) => untold.has(uid))) return;
    for (const { voters } of known) {
      for (const [node, voter] of voters) if (voter === uid) voters.delete(node);
    }
  }

  /**
   * True when under some configuration of the term a majority of each full set is made of voters
   * that `holds` is true for.
   */
  quorum(term: number, holds: (uid: string, node: string) => boolean): boolean {
    return (this.#configurations.get(term) ?? []).some(({ sets, voters }) => {
      const counts = (node: string): boolean => {
        const uid = voters.get(node);
        return uid !== undefined && holds(uid, node);
      };
      return sets.every((set) => set.filter(counts).length > Math.floor(set.length / 2));
    });
  }
}
