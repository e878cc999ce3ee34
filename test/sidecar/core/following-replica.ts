import type { Effect, PromisedState } from "../../../sidecar/core/effect.ts";
import { LogIndex } from "../../../sidecar/core/log-index.ts";
import { Replica } from "../../../sidecar/core/replica.ts";
import { chainCrc, LOG_START } from "../../../sidecar/protocol/entry.ts";
import type { LogPosition } from "../../../sidecar/protocol/entry.ts";
import type { Append, Peer } from "../../../sidecar/protocol/gen/resilver.ts";
import { CORE_OPTIONS } from "./core-options.ts";

/** What a follower starts from, beside a member's promise of term 2 and an empty log. */
export interface FollowingOptions {
  /** The terms of the entries that it holds, durable, from offset 0 on. */
  readonly terms?: readonly number[];
  readonly promised?: Partial<PromisedState>;
  /** Known to be committed. */
  readonly commit?: number;
  /** Where its log starts. */
  readonly base?: LogPosition;
}

/** Replica `b1`, which follows `a1` in term 2 once a stream is opened. */
export function followingReplica(options: FollowingOptions = {}): Replica {
  const log = new LogIndex(options.base);
  for (const term of options.terms ?? []) log.append(nextPosition(log.last, term));
  const promised: PromisedState = {
    term: 2,
    previousTerm: 1,
    rolledBack: false,
    generation: 3,
    lossEpoch: 0,
    member: true,
    enrolled: null,
    ...options.promised,
  };
  const names = { node: "b", storeId: "store", uid: "b1", bootCounter: 1, formattedBefore: true };
  const { commit = -1 } = options;
  return new Replica(
    { ...names, promised, log, applied: options.base?.offset ?? -1, commit },
    { ...CORE_OPTIONS, pendingReadsMax: 2 },
  );
}

/** The leader, as it names itself and whom it means. */
export function peer(change: Partial<Peer> = {}): Peer {
  return {
    namespace: "default",
    shard: 0,
    term: 2,
    leaderUid: "a1",
    targetUid: "b1",
    storeId: "store",
    generation: 3,
    majorityHolds: false,
    ...change,
  };
}

const VALUE = Uint8Array.of(10, 0);

/** The entry's own bytes, the same in every log, behind `previous`. */
export function nextPosition(previous: LogPosition, term: number): LogPosition {
  const offset = previous.offset + 1;
  return { term, offset, crc: chainCrc(previous.crc, term, offset, offset, VALUE) };
}

/** The last position of a log with entries of these terms. */
export function head(terms: readonly number[]): LogPosition {
  return terms.reduce<LogPosition>(nextPosition, LOG_START);
}

/** A heartbeat that names `previous`. */
export function heartbeat(previous: LogPosition, change: Partial<Append> = {}): Append {
  return {
    term: 2,
    entry: undefined,
    commitOffset: -1,
    cumulativeAcksSupported: true,
    leaderUid: "a1",
    targetUid: "",
    previous,
    entryCrc: 0,
    round: 0,
    targetVotes: false,
    ...change,
  };
}

/** The entry of `term` that follows `previous`. */
export function append(previous: LogPosition, term: number, change: Partial<Append> = {}): Append {
  const { offset, crc } = nextPosition(previous, term);
  const entry = { term, offset, timestamp: offset, value: VALUE };
  return heartbeat(previous, { entry, entryCrc: crc, ...change });
}

/** The only effect of a kind; fails when there is none or more. */
export function only<K extends Effect["kind"]>(
  effects: readonly Effect[],
  kind: K,
): Effect & { readonly kind: K } {
  const found = effects.filter((effect) => effect.kind === kind);
  if (found.length !== 1) {
    throw new Error(`${found.length} of ${kind} in ${JSON.stringify(effects)}`);
  }
  return found[0] as Effect & { readonly kind: K };
}

/** The kinds of effects, in order. */
export function kinds(effects: readonly Effect[]): readonly string[] {
  return effects.map(({ kind }) => kind);
}
