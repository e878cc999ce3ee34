/** What kind of step an action is, for back-off and for how much care it takes. */
import type { Action } from "../core/plan.ts";
import type { ShardRecord } from "../core/record.ts";

/** An election. */
export type ElectAction = Extract<Action, { kind: "elect" }>;

/** Names a step for back-off: the same thing in another term, or for another uid, starts afresh. */
export function stepName(record: ShardRecord, action: Action): string {
  // Elections are one step whatever the term: a failed one must slow down the next.
  if (action.kind === "elect") return isVoluntary(action) ? "move leader" : "elect";
  const node = "node" in action ? ` ${action.node}` : "";
  const uid = "uid" in action ? ` ${action.uid}` : "newUid" in action ? ` ${action.newUid}` : "";
  return `${action.kind}${node}${uid} term ${record.term}`;
}

/** True for an election that ends the leadership of one that is there with all its data. */
export function leaderAnswers(action: ElectAction): boolean {
  return isVoluntary(action) || action.why === "LeaderIsolated";
}

/** True for an election that no loss of the leader calls for. */
function isVoluntary({ why }: ElectAction): boolean {
  return why === "Requested" || why === "LeaderLeaving" || why === "LeadersUneven";
}
