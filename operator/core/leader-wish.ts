/** A wish for another leader of a shard that has one. Pure. */
import { couldLeaveOut, type Observed } from "./observed.ts";
import type { Action } from "./plan.ts";
import type { ShardRecord } from "./record.ts";

/** Who is to lead; another than now will do if that one may not. */
export interface LeaderWish {
  readonly prefer: string;
  /** A person or a rollout asked for it, or its pod leads fewer shards than another. */
  readonly why: "Requested" | "LeadersUneven";
}

/**
 * The election that a wish comes to. Whoever leads is no candidate, if the others are enough: under
 * load its log is always the newest, so that it would be elected again and again.
 */
export function wishedElection(
  record: ShardRecord,
  observed: Observed,
  { prefer, why }: LeaderWish,
): Extract<Action, { kind: "elect" }> {
  const leader = record.leader?.node ?? null;
  const moves =
    leader !== null && prefer !== leader && couldLeaveOut(record, observed, new Set([leader]));
  return { kind: "elect", why, exclude: moves ? leader : null };
}
