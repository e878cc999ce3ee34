import { ServingStatus } from "../../../sidecar/protocol/status.ts";
import type { CheckContext, Checker } from "./checker.ts";

/** A process that led a term. */
interface Leading {
  readonly node: string;
  readonly replicaUid: string;
  readonly bootCounter: number;
}

/**
 * I1: one leader per term, and one process of it (R7: a restarted leader would lead the term
 * twice).
 */
export function oneLeaderPerTerm(context: CheckContext): Checker {
  const leaders = new Map<number, Leading>();
  return {
    invariant: "I1",
    sample({ node, status }) {
      const { status: role, term, replicaUid, bootCounter } = status;
      if (role !== ServingStatus.LEADER) return;
      const own = { node, replicaUid, bootCounter };
      const first = leaders.get(term);
      if (first === undefined) leaders.set(term, own);
      else if (!isSame(first, own)) {
        context.violate("I1", `term ${term} is led by ${text(first)} and ${text(own)}`);
      }
    },
  };
}

function isSame(one: Leading, other: Leading): boolean {
  return (
    one.node === other.node &&
    one.replicaUid === other.replicaUid &&
    one.bootCounter === other.bootCounter
  );
}

function text({ node, replicaUid, bootCounter }: Leading): string {
  return `${node} ${replicaUid} boot ${bootCounter}`;
}
