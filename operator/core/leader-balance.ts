/**
 * Which shard another pod is to lead, when some lead more than others: after a pod was away, those
 * that took over its shards lead them still. Pure.
 */
import type { Observed } from "./observed.ts";
import { countLeaderships } from "./placement.ts";
import { isQuiet, type Plan } from "./plan.ts";
import type { ShardRecord } from "./record.ts";
import { LACKS_ENTRIES_MAX } from "./rollout.ts";
import { shardView } from "./status.ts";

/** A shard, as far as the balance of leaders cares. */
export interface LedShard {
  /** `namespace/shard`. */
  readonly name: string;
  readonly leader: string | null;
  /** Its first node is the preferred leader. */
  readonly ensemble: readonly string[];
}

/** One leadership to hand over. */
export interface LeaderMove {
  readonly shard: string;
  readonly from: string;
  readonly to: string;
}

/**
 * A difference of one can be unavoidable, and a move would only turn it round. From two on each
 * move makes it more even, so that it comes to an end.
 */
const DIFFERENCE_MIN = 2;

/**
 * The move that evens out most, between two pods that both have a copy; null: none would make it
 * more even.
 */
export function leaderMove(shards: readonly LedShard[]): LeaderMove | null {
  const counts = leaderships(shards);
  const count = (node: string): number => counts.get(node) ?? 0;
  const moves = shards.flatMap(({ name: shard, leader: from, ensemble }) => {
    if (from === null) return [];
    return ensemble
      .map((to, place) => ({ shard, from, to, place, difference: count(from) - count(to) }))
      .filter(({ difference }) => difference >= DIFFERENCE_MIN);
  });
  // Between equals: where it was to be led when it was placed.
  const [best] = moves.toSorted((a, b) => b.difference - a.difference || a.place - b.place);
  return best ?? null;
}

/** How unevenly shards are led: each move of {@link leaderMove} makes it less. */
export function unevenness(shards: readonly LedShard[]): number {
  return [...leaderships(shards).values()].reduce((sum, count) => sum + count * count, 0);
}

function leaderships(shards: readonly LedShard[]): ReadonlyMap<string, number> {
  return countLeaderships(shards.map(({ leader }) => leader));
}

/**
 * True when nothing goes on in the shard, and any of its replicas could lead it at once: all vote
 * and keep up.
 */
export function isAtRest(record: ShardRecord, observed: Observed, planned: Plan): boolean {
  if (!isQuiet(record, planned, observed) || observed.recoveringNodes.size > 0) return false;
  // What is there is about to be lost, and rebuilt.
  if ([...observed.nodes.values()].some((node) => node.volumeTerminating)) return false;
  const { serving, replicas } = shardView(record, observed, planned);
  return (
    serving &&
    replicas.every(({ voting, lacksEntries }) => {
      return voting && lacksEntries !== null && lacksEntries <= LACKS_ENTRIES_MAX;
    })
  );
}
