import { voterSets, type ShardRecord } from "../../operator/core/record.ts";

/** Who may be counted, by what the record said for some time of a term. */
interface Configuration {
  /** Node names; two sets while a change is joint (R13). */
  readonly sets: readonly (readonly string[])[];
  /** By node: the identity that votes there. */
  voters: ReadonlyMap<string, string>;
}

/**
 * What the record said of voters, term by term: the measure of who may be counted (R2, R13). A new
 * save under the same voter sets takes the place of the one before: a leader discards an identity
 * before the record names another.
 */
export class VoterHistory {
  readonly #configurations = new Map<number, Configuration[]>();

  recordSaved(record: ShardRecord): void {
    const sets = voterSets(record);
    const voting = record.members.filter(({ role }) => role !== "learner");
    const voters = new Map(voting.map(({ node, replicaUid }) => [node, replicaUid]));
    const known = this.#configurations.get(record.term) ?? [];
    const last = known.at(-1);
    if (last !== undefined && JSON.stringify(last.sets) === JSON.stringify(sets)) {
      last.voters = voters;
    } else known.push({ sets, voters });
    this.#configurations.set(record.term, known);
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
