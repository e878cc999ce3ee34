import type { Chance } from "../sim/chance.ts";
import type { Operation, Outcome } from "./history.ts";

/**
 * A way to spoil a history, tried at random places: the spoilt one, or null where it found no place
 * for it. `certain` ones leave no order whatever else the history holds.
 */
export interface Plant {
  readonly name: string;
  readonly certain: boolean;
  readonly into: (history: readonly Operation[], chance: Chance) => readonly Operation[] | null;
}

const TRIES = 200;

/** All ways there are. */
export const PLANTS: readonly Plant[] = [
  { name: "a read of what was overwritten", certain: true, into: staleRead },
  { name: "a read of what was not written yet", certain: true, into: earlyRead },
  { name: "a lost write", certain: true, into: lostWrite },
  { name: "a write under an older version", certain: true, into: overtakenVersion },
  { name: "two reads with each other's outcome", certain: false, into: swappedReads },
  { name: "a conditional delete with the other outcome", certain: false, into: otherAnswer },
];

interface Written {
  readonly operation: Operation;
  readonly value: string;
  readonly versionId: number;
}

function staleRead(history: readonly Operation[], chance: Chance): readonly Operation[] | null {
  return atSomeRead(history, chance, (read, key) => {
    const before = writes(history, key).filter(
      ({ operation }) => operation.returnedAt < read.calledAt,
    );
    const newest = before.at(-1);
    const stale = before.filter(({ versionId }) => versionId < (newest?.versionId ?? 0));
    return shown(stale[chance.below(stale.length)]);
  });
}

function earlyRead(history: readonly Operation[], chance: Chance): readonly Operation[] | null {
  return atSomeRead(history, chance, (read, key) =>
    shown(writes(history, key).find(({ operation }) => operation.calledAt > read.returnedAt)),
  );
}

function lostWrite(history: readonly Operation[], chance: Chance): readonly Operation[] | null {
  return atSomeRead(history, chance, (read, key) => {
    const write = writes(history, key).findLast(
      ({ operation }) => operation.returnedAt < read.calledAt,
    );
    const deleted = history.some(
      ({ call, calledAt, returnedAt }) =>
        call.kind === "delete" &&
        call.key === key &&
        returnedAt > (write?.operation.calledAt ?? 0) &&
        calledAt < read.returnedAt,
    );
    return write === undefined || deleted ? null : { kind: "absent" };
  });
}

/** Two writes of a key, one surely after the other, change versions; whoever saw them too. */
function overtakenVersion(
  history: readonly Operation[],
  chance: Chance,
): readonly Operation[] | null {
  for (let attempt = 0; attempt < TRIES; attempt += 1) {
    const one = history[chance.below(history.length)] as Operation;
    if (one.call.kind !== "put" || one.outcome.kind !== "written") continue;
    const { key } = one.call;
    const later = writes(history, key).find(({ operation }) => operation.calledAt > one.returnedAt);
    if (later === undefined) continue;
    const [first, second] = [one.outcome.versionId, later.versionId];
    const other = (version: number): number =>
      version === first ? second : version === second ? first : version;
    return history.map((operation) => withVersions(operation, key, other));
  }
  return null;
}

function withVersions(
  operation: Operation,
  key: string,
  change: (version: number) => number,
): Operation {
  const { call, outcome } = operation;
  if (call.kind === "scan" || call.key !== key) return operation;
  return {
    ...operation,
    call:
      "expected" in call && typeof call.expected === "number"
        ? { ...call, expected: change(call.expected) }
        : call,
    outcome:
      "versionId" in outcome ? { ...outcome, versionId: change(outcome.versionId) } : outcome,
  };
}

function swappedReads(history: readonly Operation[], chance: Chance): readonly Operation[] | null {
  for (let attempt = 0; attempt < TRIES; attempt += 1) {
    const at = chance.below(history.length);
    const one = history[at] as Operation;
    if (one.call.kind !== "get") continue;
    const { key } = one.call;
    const to = history.findIndex(
      ({ call, outcome }, index) =>
        index > at &&
        call.kind === "get" &&
        call.key === key &&
        JSON.stringify(outcome) !== JSON.stringify(one.outcome),
    );
    if (to === -1) continue;
    const other = history[to] as Operation;
    return history
      .with(at, { ...one, outcome: other.outcome })
      .with(to, { ...other, outcome: one.outcome });
  }
  return null;
}

function otherAnswer(history: readonly Operation[], chance: Chance): readonly Operation[] | null {
  for (let attempt = 0; attempt < TRIES; attempt += 1) {
    const at = chance.below(history.length);
    const one = history[at] as Operation;
    if (one.call.kind !== "delete" || one.call.expected === undefined) continue;
    if (one.outcome.kind === "unknown") continue;
    const kind = one.outcome.kind === "refused" ? "deleted" : "refused";
    return history.with(at, { ...one, outcome: { kind } });
  }
  return null;
}

/** Replaces the outcome of one get by what `outcomeOf` makes of it, where it is not null. */
function atSomeRead(
  history: readonly Operation[],
  chance: Chance,
  outcomeOf: (read: Operation, key: string) => Outcome | null,
): readonly Operation[] | null {
  for (let attempt = 0; attempt < TRIES; attempt += 1) {
    const at = chance.below(history.length);
    const read = history[at] as Operation;
    if (read.call.kind !== "get") continue;
    const outcome = outcomeOf(read, read.call.key);
    if (outcome !== null) return history.with(at, { ...read, outcome });
  }
  return null;
}

/** The writes of a key that were acknowledged, by version. */
function writes(history: readonly Operation[], key: string): readonly Written[] {
  return history
    .flatMap((operation): readonly Written[] => {
      const { call, outcome } = operation;
      if (call.kind !== "put" || call.key !== key || outcome.kind !== "written") return [];
      return [{ operation, value: call.value, versionId: outcome.versionId }];
    })
    .sort((a, b) => a.versionId - b.versionId);
}

function shown(write: Written | undefined): Outcome | null {
  if (write === undefined) return null;
  return { kind: "found", value: write.value, versionId: write.versionId };
}
