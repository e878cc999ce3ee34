import { voterSetsText } from "../../../operator/core/quorum.ts";
import { voterSets, type ShardRecord } from "../../../operator/core/record.ts";
import type { VoterSet } from "../../../sidecar/protocol/gen/resilver.ts";
import type { CheckContext, Checker } from "./checker.ts";

type Sets = readonly (readonly string[])[];

/**
 * I17: quorums of two configurations that follow each other intersect (R13): a set changes by one
 * replica and through a joint state, which is left only after the leader of the term committed an
 * entry under it. A forced quorum is the exception that a person answers for.
 */
export function configurationsOverlap(context: CheckContext): Checker {
  let before: Sets | null = null;
  let lossEpoch = 0;
  /** Joint sets under which a leader reported a committed entry, by term. */
  const committedUnder = new Set<string>();
  const note = (term: number, sets: readonly VoterSet[]): void => {
    committedUnder.add(`${term} ${voterSetsText(sets.map(({ nodes }) => nodes))}`);
  };
  const leftJoint = (record: ShardRecord, from: Sets, to: Sets): string | null => {
    if (to.length !== 1 || voterSetsText(to) !== voterSetsText(from.slice(1))) {
      return "a joint state may only be left for its second set";
    }
    if (committedUnder.has(`${record.term} ${voterSetsText(from)}`)) return null;
    return `no leader of term ${record.term} committed anything under it`;
  };
  const enteredJoint = (from: Sets, to: Sets): string | null => {
    const [old = [], next = []] = to;
    if (to.length !== 2 || voterSetsText([old]) !== voterSetsText(from)) {
      return "a set may only change through a joint state that begins with it";
    }
    const added = next.filter((node) => !old.includes(node)).length;
    const removed = old.filter((node) => !next.includes(node)).length;
    return added <= 1 && removed <= 1 ? null : "more than one replica changes";
  };
  return {
    invariant: "I17",
    called(name, _node, request) {
      if (name !== "updateEnsemble" && name !== "becomeLeader") return;
      const { term, voterSets: told } = request as {
        readonly term: number;
        readonly voterSets: readonly VoterSet[];
      };
      note(term, told);
    },
    recordSaved(record) {
      const sets = voterSets(record);
      const from = before;
      const forced = record.lossEpoch > lossEpoch;
      before = sets;
      lossEpoch = record.lossEpoch;
      if (forced || from === null || voterSetsText(from) === voterSetsText(sets)) return;
      const wrong = from.length === 2 ? leftJoint(record, from, sets) : enteredJoint(from, sets);
      if (wrong === null) return;
      const change = `${voterSetsText(from)} -> ${voterSetsText(sets)}`;
      context.violate("I17", `the record's voter sets changed, ${change}: ${wrong}`);
    },
  };
}
