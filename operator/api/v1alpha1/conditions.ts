/** Conditions of a status, changed the way Kubernetes expects. Pure. */
import type { StatusCondition } from "./metadata.ts";

/** What is to be said now. */
export interface NewCondition {
  readonly type: string;
  readonly status: boolean | "Unknown";
  readonly reason: string;
  readonly message: string;
}

/**
 * The conditions after `next` was seen at `now` (RFC 3339): the time of transition moves only when
 * the status does. Those of other types stay, those of the same type are replaced.
 */
export function withConditions(
  before: readonly StatusCondition[],
  next: readonly NewCondition[],
  observedGeneration: number,
  now: string,
): readonly StatusCondition[] {
  const told = next.map(({ type, status, reason, message }): StatusCondition => {
    const word = status === "Unknown" ? status : status ? "True" : "False";
    const old = before.find((condition) => condition.type === type);
    const lastTransitionTime = old?.status === word ? old.lastTransitionTime : now;
    return { type, status: word, observedGeneration, lastTransitionTime, reason, message };
  });
  const kept = before.filter((condition) => !told.some(({ type }) => type === condition.type));
  return [...kept, ...told].toSorted((a, b) => (a.type < b.type ? -1 : 1));
}
