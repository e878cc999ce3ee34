import { Chance } from "../sim/chance.ts";
import type { Call, Expected, Operation, Outcome, SeenPair } from "./history.ts";

/** What a random history is like. */
export interface HistoryOptions {
  readonly seed: number;
  readonly operations: number;
  readonly clients: number;
  readonly keys: number;
  /** One outcome is replaced by another one that may be wrong. */
  readonly spoil: boolean;
  /** Default true. */
  readonly scans?: boolean;
  /** Share of writes whose outcome is unknown. */
  readonly lost: number;
}

interface Pair {
  readonly value: string;
  readonly versionId: number;
}

/**
 * A history that one copy of a store went through: each operation takes effect at a moment drawn
 * between its call and its return, or not at all when its outcome is unknown.
 */
export function generateHistory(options: HistoryOptions): readonly Operation[] {
  const chance = new Chance(options.seed);
  const drafts = schedule(options, chance);
  const state = new Map<string, Pair>();
  const shown: number[] = [];
  let version = 0;
  const done = drafts
    .toSorted((a, b) => a.effectAt - b.effectAt)
    .map((draft, index): Operation => {
      const call = drawCall(options, chance, index, shown);
      const lost = call.kind !== "get" && call.kind !== "scan" && chance.happens(options.lost);
      const skipped = lost && chance.happens(0.5);
      const outcome: Outcome = skipped ? { kind: "unknown" } : effect(state, call, () => version++);
      // Of a lost write nobody knows the version: no client can expect it.
      const told = !lost && (outcome.kind === "written" || outcome.kind === "found");
      if (told) shown.push(outcome.versionId);
      const { client, calledAt, returnedAt } = draft;
      if (lost)
        return {
          client,
          call,
          outcome: { kind: "unknown" },
          calledAt,
          returnedAt: Number.POSITIVE_INFINITY,
        };
      return { client, call, outcome, calledAt, returnedAt };
    });
  return options.spoil ? spoil(done, chance) : done;
}

interface Draft {
  readonly client: string;
  readonly calledAt: number;
  readonly effectAt: number;
  readonly returnedAt: number;
}

function schedule({ operations, clients }: HistoryOptions, chance: Chance): readonly Draft[] {
  const free = Array.from({ length: clients }, () => 0);
  return Array.from({ length: operations }, (_, index): Draft => {
    const client = index % clients;
    const calledAt = (free[client] ?? 0) + chance.unit();
    const effectAt = calledAt + chance.unit() * 2;
    const returnedAt = effectAt + chance.unit() * 2;
    free[client] = returnedAt;
    return { client: `c${client}`, calledAt, effectAt, returnedAt };
  });
}

function drawCall(
  options: HistoryOptions,
  chance: Chance,
  index: number,
  shown: readonly number[],
): Call {
  const key = `k${chance.below(options.keys)}`;
  const kind = chance.unit();
  const known = shown.at(-1 - chance.below(3)) ?? null;
  const expected: Expected = chance.happens(0.6) ? undefined : chance.happens(0.3) ? null : known;
  if (kind < 0.45) return { kind: "put", key, value: `v${index}`, expected };
  if (kind < 0.55) return { kind: "delete", key, expected };
  // Few: each ties the keys that it covers together.
  if (kind < 0.6 && options.scans !== false && options.operations < 1_000) {
    return { kind: "scan", start: "k0", end: "k1~" };
  }
  return { kind: "get", key };
}

function effect(state: Map<string, Pair>, call: Call, nextVersion: () => number): Outcome {
  if (call.kind === "scan") {
    const pairs = [...state]
      .filter(([key]) => key >= call.start && key < call.end)
      .map(([key, pair]): SeenPair => ({ key, ...pair }));
    return { kind: "pairs", pairs };
  }
  const there = state.get(call.key);
  if (call.kind === "get")
    return there === undefined ? { kind: "absent" } : { kind: "found", ...there };
  const { expected } = call;
  if (expected !== undefined && expected !== (there?.versionId ?? null)) return { kind: "refused" };
  if (call.kind === "delete") {
    if (there === undefined) return { kind: "absent" };
    state.delete(call.key);
    return { kind: "deleted" };
  }
  const versionId = nextVersion();
  state.set(call.key, { value: call.value, versionId });
  return { kind: "written", versionId };
}

/** Another outcome for one operation: of a read, or of a write that was refused or was not. */
function spoil(history: readonly Operation[], chance: Chance): readonly Operation[] {
  const at = chance.below(history.length);
  const spoilt = history[at] as Operation;
  const other = history.findLast(({ outcome }) => outcome.kind === "written");
  const { call } = spoilt;
  let outcome: Outcome = { kind: "absent" };
  if (call.kind === "put") outcome = { kind: "refused" };
  else if (call.kind === "scan") outcome = { kind: "pairs", pairs: [] };
  else if (call.kind === "get" && other?.call.kind === "put" && other.outcome.kind === "written") {
    outcome = { kind: "found", value: other.call.value, versionId: other.outcome.versionId };
  }
  if (!Number.isFinite(spoilt.returnedAt)) return history;
  return history.with(at, { ...spoilt, outcome });
}
