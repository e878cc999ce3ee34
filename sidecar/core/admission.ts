import { ServingStatus } from "../protocol/status.ts";
import type { Refusal } from "./effect.ts";
import { refusal } from "./replica-state.ts";
import type { ReplicaState } from "./replica-state.ts";

/** What every request names about its addressee (R4, R18). Empty strings and 0 mean "not named". */
export interface Addressee {
  readonly storeId?: string;
  readonly targetUid: string;
  readonly generation?: number;
}

/** 112: this is not the replica that the sender means, or it is no member yet (R1, R4). */
export function notMember(state: ReplicaState, expectedUid: string): Refusal {
  const meant = expectedUid === "" || expectedUid === state.uid;
  const message = meant
    ? `replica ${state.uid} is not a member`
    : `the request is for replica ${expectedUid}; the one here is ${state.uid}`;
  return refusal("NODE_IS_NOT_MEMBER", message, {
    observedUid: state.uid,
    expectedUid,
    term: state.promised.term,
  });
}

/**
 * Checks whom a request is meant for. NODE_IS_NOT_MEMBER comes before any refusal about status or
 * term (part one of the seed), a foreign store before everything.
 */
export function refuseAddressee(state: ReplicaState, to: Addressee): Refusal | null {
  if (to.storeId !== undefined && to.storeId !== "" && to.storeId !== state.storeId) {
    return refusal(
      "WRONG_STORE",
      `store_id ${to.storeId}: this replica belongs to ${state.storeId}`,
      {
        field: "store_id",
        value: to.storeId,
        allowed: state.storeId,
      },
    );
  }
  if (to.targetUid !== state.uid) return notMember(state, to.targetUid);
  if (to.generation !== undefined && to.generation < state.promised.generation) {
    return refusal(
      "STALE_GENERATION",
      `generation ${to.generation}: an order of generation ${state.promised.generation} was seen; ` +
        "the record is older than this replica, it may have been restored from a backup",
      { field: "generation", value: to.generation, allowed: `>= ${state.promised.generation}` },
    );
  }
  return null;
}

/** Refuses an order for an older (or, when `exact`, any other) term. */
export function refuseTerm(state: ReplicaState, term: number, exact: boolean): Refusal | null {
  const own = state.promised.term;
  if (exact ? term === own : term >= own) return null;
  return refusal("INVALID_TERM", `term ${term}: this replica is in term ${own}`, {
    field: "term",
    value: term,
    allowed: exact ? own : `>= ${own}`,
    term: own,
  });
}

/** Refuses unless the replica leads `term`. */
export function refuseUnlessLeader(state: ReplicaState, term: number): Refusal | null {
  if (state.status !== ServingStatus.LEADER) {
    return refusal("INVALID_STATUS", "this replica does not lead", { term: state.promised.term });
  }
  return refuseTerm(state, term, true);
}

/** Keeps the highest generation seen; true when it rose and must be persisted (R18). */
export function raisesGeneration(state: ReplicaState, generation: number): boolean {
  return generation > state.promised.generation;
}
