import type { ReplicaStatus } from "../../../sidecar/protocol/gen/resilver.ts";
import type { CheckContext, Checker } from "./checker.ts";

/**
 * I2: a replica's term never decreases, not across restarts for what it answered; nor does the
 * record's.
 */
export function termsNeverDecrease(context: CheckContext): Checker {
  const answered = new Map<string, number>();
  let recordTerm = -1;
  let generation = -1;
  return {
    invariant: "I2",
    sample({ node, status, before }) {
      if (before === null || before.replicaUid !== status.replicaUid) return;
      if (status.term >= before.term) return;
      context.violate("I2", `${node} went from term ${before.term} to ${status.term}`);
    },
    boot({ node, status }) {
      const promised = answered.get(status.replicaUid) ?? -1;
      if (status.term >= promised) return;
      context.violate(
        "I2",
        `${node} had answered for term ${promised}, came back in ${status.term}`,
      );
    },
    called(name, _node, request) {
      if (name !== "newTerm" && name !== "enrol") return;
      const { targetUid, term } = request as Pick<ReplicaStatus, "term"> & { targetUid: string };
      answered.set(targetUid, Math.max(answered.get(targetUid) ?? -1, term));
    },
    diskSetBack(_node, uid) {
      answered.delete(uid);
    },
    recordSaved(record) {
      if (record.term < recordTerm || record.generation <= generation) {
        const before = `term ${recordTerm} generation ${generation}`;
        const now = `term ${record.term} generation ${record.generation}`;
        context.violate("I2", `the record went from ${before} to ${now}`);
      }
      recordTerm = record.term;
      generation = record.generation;
    },
  };
}
