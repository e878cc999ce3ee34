import { type Operation, operationText } from "../linearizability/history.ts";

/** Reads that showed less than what was acknowledged before they began. */
export interface Anomalies {
  /** Keys of which the last reads, after everything else, do not show what was acknowledged. */
  readonly lost: number;
  /** Earlier reads of that kind. */
  readonly staleReads: number;
  /** A few of them, for people. */
  readonly examples: readonly string[];
}

const EXAMPLES_MAX = 5;

interface Span {
  readonly calledAt: number;
  readonly returnedAt: number;
}

interface Written extends Span {
  readonly versionId: number;
}

/**
 * Counts what the check of the whole history only says yes or no to. Version ids of a key rise with
 * each write, so that a read that shows a lower one than was acknowledged before it began is stale,
 * and so is one that shows nothing though no delete can have come after that write. `lastFrom`:
 * where in the history the last reads begin.
 */
export function countAnomalies(history: readonly Operation[], lastFrom: number): Anomalies {
  const written = new Map<string, Written[]>();
  const deleted = new Map<string, Span[]>();
  for (const { call, outcome, calledAt, returnedAt } of history) {
    if (call.kind === "put" && outcome.kind === "written") {
      const { versionId } = outcome;
      note(written, call.key, { versionId, calledAt, returnedAt });
    }
    // One that was refused deleted nothing; one of which nothing is known ends at infinity.
    if (call.kind === "delete" && outcome.kind !== "refused") {
      note(deleted, call.key, { calledAt, returnedAt });
    }
  }
  const counts = { lost: 0, staleReads: 0 };
  const examples: string[] = [];
  for (const [index, operation] of history.entries()) {
    for (const [key, seen] of shown(operation, written.keys())) {
      const acknowledged = newest(written.get(key) ?? [], operation.calledAt);
      if (acknowledged === null) continue;
      const mayBeGone = (deleted.get(key) ?? []).some(
        (span) => span.returnedAt >= acknowledged.calledAt && span.calledAt <= operation.returnedAt,
      );
      if (seen === null ? mayBeGone : seen >= acknowledged.versionId) continue;
      counts[index >= lastFrom ? "lost" : "staleReads"] += 1;
      if (examples.length === EXAMPLES_MAX) continue;
      const what = `${key}: version ${acknowledged.versionId} was acknowledged before`;
      examples.push(`${what} ${operationText(operation)}`);
    }
  }
  return { ...counts, examples };
}

function note<T>(spans: Map<string, T[]>, key: string, span: T): void {
  const known = spans.get(key);
  if (known === undefined) spans.set(key, [span]);
  else known.push(span);
}

/** Keys and the versions that a read showed; null: not there. */
function shown(
  { call, outcome }: Operation,
  keys: Iterable<string>,
): readonly (readonly [string, number | null])[] {
  if (call.kind === "get") {
    if (outcome.kind === "found") return [[call.key, outcome.versionId]];
    return outcome.kind === "absent" ? [[call.key, null]] : [];
  }
  if (call.kind !== "scan" || outcome.kind !== "pairs") return [];
  const found = new Map(outcome.pairs.map(({ key, versionId }) => [key, versionId]));
  return [...keys]
    .filter((key) => key >= call.start && key < call.end)
    .map((key) => [key, found.get(key) ?? null]);
}

function newest(puts: readonly Written[], before: number): Written | null {
  let best: Written | null = null;
  for (const put of puts) {
    if (put.returnedAt >= before) continue;
    if (best === null || put.versionId > best.versionId) best = put;
  }
  return best;
}
