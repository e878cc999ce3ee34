/**
 * Which pod is made anew next, one at a time: those that do not serve anyway first, then followers,
 * leaders last, after their shards have been handed over. Pure.
 */
import { majority } from "./quorum.ts";
import { shardKeyText } from "./record.ts";
import type { ShardView } from "./status.ts";
import { distrustsRecord } from "./stops.ts";

/** A pod, as far as a rollout cares. */
export interface RolloutPod {
  readonly name: string;
  /** It is as it ought to be. */
  readonly updated: boolean;
  readonly ready: boolean;
  /** Why it does not start, in the platform's words; empty or absent: nothing is said. */
  readonly waiting?: string;
  /** Its process may run: what it holds may count. */
  readonly running: boolean;
  readonly terminating: boolean;
  /** A claim of it is being deleted, or gone: its data goes with the pod. */
  readonly claimTerminating: boolean;
}

/** A shard, as far as a rollout cares. */
export interface RolloutShard {
  readonly name: string;
  readonly ensemble: readonly string[];
  /** Nodes that vote right now. */
  readonly voting: readonly string[];
  readonly leader: string | null;
  /** Entries that each voting node lacks; null: they do not flow to it. Absent: not known. */
  readonly lacks?: ReadonlyMap<string, number | null>;
  /** False: nothing was ever written to it, so that it holds nobody back. */
  readonly initialized?: boolean;
  /** Why its record, and so all of the above, is not to be believed; absent: it is. */
  readonly distrusted?: string;
}

/**
 * A voter that lacks more would have to catch up first, and nothing would be committed meanwhile.
 */
export const LACKS_ENTRIES_MAX = 10_000;

/** A shard as a rollout looks at it. */
export function rolloutShard(view: ShardView): RolloutShard {
  const voting = view.replicas.filter((replica) => replica.voting);
  const { stop } = view;
  return {
    name: shardKeyText(view),
    ensemble: view.ensemble,
    voting: voting.map(({ node }) => node),
    leader: view.leader,
    lacks: new Map(voting.map(({ node, lacksEntries }) => [node, lacksEntries])),
    initialized: view.initialized,
    ...(stop !== null && distrustsRecord(stop) ? { distrusted: stop.reason } : {}),
  };
}

/** What to do next. */
export type RolloutStep =
  /** Every pod is as it ought to be. */
  | { readonly kind: "done" }
  | { readonly kind: "wait"; readonly why: string }
  /** Have these shards led by somebody else, then ask again. */
  | {
      readonly kind: "handOver";
      readonly pod: string;
      readonly shards: readonly { readonly name: string; readonly to: string }[];
    }
  | { readonly kind: "evict"; readonly pod: string };

/** The next step. `expected` is the number of pods there ought to be. */
export function rolloutStep(
  pods: readonly RolloutPod[],
  shards: readonly RolloutShard[],
  expected: number,
): RolloutStep {
  const outdated = pods.filter(({ updated }) => !updated);
  if (outdated.length === 0) return { kind: "done" };
  // Who votes, and whether anything was ever written, is told by the records alone.
  const doubtful = shards.find(({ distrusted }) => distrusted !== undefined);
  if (doubtful !== undefined) {
    return wait(`nothing is made anew under ${doubtful.distrusted} of ${doubtful.name}`);
  }
  const leaving = pods.find(({ terminating }) => terminating);
  if (leaving !== undefined) return wait(`${leaving.name} is being made anew`);
  if (pods.length < expected) return wait(`${pods.length} of ${expected} pods are there`);
  // One that does not work is not worked around by making the next one the same.
  const unready = pods.find(({ updated, ready }) => updated && !ready);
  if (unready !== undefined) {
    const { name, waiting = "" } = unready;
    return wait(`${name} is not ready yet${waiting === "" ? "" : `: ${waiting}`}`);
  }
  // Whoever does not run is no witness, however lately it voted.
  const down = new Set(pods.flatMap(({ name, running }) => (running ? [] : [name])));
  const candidates = inOrder(outdated, shards).map((pod) => ({
    pod,
    why: mustStay(pod, shards, down),
  }));
  // Whoever has to stay may do so only until another one is back: it holds none of them up.
  const next = candidates.find(({ why }) => why === null)?.pod;
  if (next === undefined) return wait(candidates[0]?.why ?? "");
  const led = shards.filter(({ leader }) => leader === next.name);
  const shared = led.filter(({ ensemble }) => ensemble.length > 1);
  if (shared.length === 0) return { kind: "evict", pod: next.name };
  return {
    kind: "handOver",
    pod: next.name,
    shards: shared.map((shard) => ({ name: shard.name, to: successor(next.name, shard, pods) })),
  };
}

/**
 * Those that do not run, then those that are not ready, then followers, then leaders; the highest
 * number first in each.
 */
function inOrder(
  pods: readonly RolloutPod[],
  shards: readonly RolloutShard[],
): readonly RolloutPod[] {
  const rank = ({ name, ready, running }: RolloutPod): number => {
    if (!ready) return running ? 1 : 0;
    return shards.some(({ leader }) => leader === name) ? 3 : 2;
  };
  return pods.toReversed().toSorted((a, b) => rank(a) - rank(b));
}

function keepsUp({ lacks }: RolloutShard, node: string): boolean {
  if (lacks === undefined) return true;
  const entries = lacks.get(node) ?? null;
  return entries !== null && entries <= LACKS_ENTRIES_MAX;
}

/** Why the pod may not go now; null when it may. */
function mustStay(
  pod: RolloutPod,
  shards: readonly RolloutShard[],
  down: ReadonlySet<string>,
): string | null {
  for (const shard of shards) {
    const { name, ensemble, voting } = shard;
    if (!ensemble.includes(pod.name)) continue;
    if (shard.initialized === false) {
      // It is new, or its record is lost and nobody has said so yet.
      if (pod.claimTerminating) return `${pod.name} would lose what it may hold of ${name}`;
      continue;
    }
    if (ensemble.length === 1) {
      if (pod.claimTerminating) return `${pod.name} would lose the only copy of ${name}`;
      // There is no other way than to do without it for a while.
      continue;
    }
    const others = voting.filter(
      (node) => node !== pod.name && ensemble.includes(node) && !down.has(node),
    );
    if (pod.claimTerminating && others.length < ensemble.length - 1) {
      return `${pod.name} would lose its data while another replica of ${name} does not vote`;
    }
    // What is not known to vote may do so all the same, unless it does not even run.
    const counts = pod.running || voting.includes(pod.name);
    if (!counts) continue;
    const needed = majority(ensemble.length);
    if (others.length < needed) return `${pod.name} is needed for a majority of ${name}`;
    if (others.filter((node) => keepsUp(shard, node)).length < needed) {
      return `${pod.name} is needed for a majority of ${name} until the others have caught up`;
    }
  }
  return null;
}

/**
 * One that keeps up, since nobody waits for the others then; among those an updated pod, so that
 * the shard moves only once; among those the one that lacks least.
 */
function successor(from: string, shard: RolloutShard, pods: readonly RolloutPod[]): string {
  const isUpdated = (node: string): boolean =>
    pods.some(({ name, updated }) => name === node && updated);
  const lacks = (node: string): number => shard.lacks?.get(node) ?? Number.MAX_SAFE_INTEGER;
  const [best] = shard.voting
    .filter((node) => node !== from)
    .toSorted(
      (a, b) =>
        Number(keepsUp(shard, b)) - Number(keepsUp(shard, a)) ||
        Number(isUpdated(b)) - Number(isUpdated(a)) ||
        lacks(a) - lacks(b),
    );
  return best ?? from;
}

function wait(why: string): RolloutStep {
  return { kind: "wait", why };
}
