import type { LogPosition } from "../../../sidecar/protocol/entry.ts";
import type { RemoveFollowerResponse } from "../../../sidecar/protocol/gen/resilver.ts";
import { text } from "../log-book.ts";
import type { CheckContext, Checker } from "./checker.ts";

/**
 * R16: a learner's target is what its leader had appended when it discarded the identity before
 * it, and when the record makes a voter of it, it holds that durably.
 */
export function promotedHoldsItsTarget(context: CheckContext): Checker {
  /** By term and node: everything that leaders said they had appended. */
  const told = new Map<string, Set<string>>();
  /** By learner: the target it was enrolled with last. */
  const targets = new Map<string, LogPosition>();
  /** By identity: the offset of its durable state, which a snapshot brings along. */
  const durable = new Map<string, number>();
  const enrolled = (uid: string, node: string, term: number, target: LogPosition): void => {
    targets.set(uid, target);
    if (told.get(`${term} ${node}`)?.has(text(target)) === true) return;
    const what = `the target of ${node} (${uid}) in term ${term}`;
    context.violate("R16", `${what} is ${text(target)}, which no leader named`);
  };
  return {
    invariant: "R16",
    sample({ status }) {
      durable.set(status.replicaUid, status.durableOffset);
    },
    called(name, _leader, request, answer) {
      if (name !== "removeFollower") return;
      const { node, term } = request as { readonly node: string; readonly term: number };
      const { lastAppended } = answer as RemoveFollowerResponse;
      const answers = told.get(`${term} ${node}`) ?? new Set();
      if (lastAppended !== undefined) answers.add(text(lastAppended));
      told.set(`${term} ${node}`, answers);
    },
    recordSaved(record) {
      for (const { node, replicaUid, role, enrolTerm, target } of record.members) {
        if (role === "learner" && enrolTerm === record.term && target !== undefined) {
          enrolled(replicaUid, node, record.term, target);
          continue;
        }
        const wanted = targets.get(replicaUid);
        targets.delete(replicaUid);
        if (role !== "voter" || wanted === undefined || wanted.offset < 0) continue;
        if (context.claims.covers(replicaUid, wanted)) continue;
        if ((durable.get(replicaUid) ?? -1) >= wanted.offset) continue;
        const lacks = `it does not hold ${text(wanted)}`;
        context.violate("R16", `${node} (${replicaUid}) votes in term ${record.term}: ${lacks}`);
      }
    },
  };
}
