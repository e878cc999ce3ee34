import { voterSets, type ShardRecord } from "../../operator/core/record.ts";

/** Who voted, by what the record said at one moment of a term. */
export interface Configuration {
  /** Node names; two sets while a change is joint (R13). */
  readonly sets: readonly (readonly string[])[];
}

/** What the record said of voters, term by term: the measure of who may be counted (R2, R13). */
export class VoterHistory {
  readonly #configurations = new Map<number, Configuration[]>();
  /** By term and node: the identities that voted there. */
  readonly #uids = new Map<string, Set<string>>();

  recordSaved(record: ShardRecord): void {
    const { term } = record;
    const sets = voterSets(record);
    const known = this.#configurations.get(term) ?? [];
    if (JSON.stringify(known.at(-1)?.sets) !== JSON.stringify(sets)) known.push({ sets });
    this.#configurations.set(term, known);
    for (const { node, replicaUid, role } of record.members) {
      if (role !== "voter") continue;
      const name = `${term} ${node}`;
      const uids = this.#uids.get(name) ?? new Set();
      this.#uids.set(name, uids.add(replicaUid));
    }
  }

  /** Every configuration of a term, oldest first. */
  of(term: number): readonly Configuration[] {
    return this.#configurations.get(term) ?? [];
  }

  /**
   * True when under some configuration of the term a majority of each full set is made of voters
   * that `holds` is true for.
   */
  quorum(term: number, holds: (uid: string, node: string) => boolean): boolean {
    const counts = (node: string): boolean =>
      [...(this.#uids.get(`${term} ${node}`) ?? [])].some((uid) => holds(uid, node));
    return this.of(term).some(({ sets }) =>
      sets.every((set) => set.filter(counts).length > Math.floor(set.length / 2)),
    );
  }
}
