/** Where shards go when the number of nodes, or of copies, changes. Pure. */
import { placeShard } from "./placement.ts";

/** What an ensemble follows from. */
export interface EnsembleWish {
  /** Where the record says the ensemble is to get to. */
  readonly desired: readonly string[];
  /** Nodes that may hold replicas. */
  readonly nodes: readonly string[];
  /** Number of the shard, through all namespaces. */
  readonly shard: number;
  readonly replicationFactor: number;
}

/**
 * The ensemble to ask for: as few moves as possible, since each copies a shard's data. Null when
 * the one that is asked for already will do.
 */
export function wantedEnsemble(wish: EnsembleWish): readonly string[] | null {
  const { desired, nodes, shard, replicationFactor } = wish;
  const kept = desired.filter((node) => nodes.includes(node));
  if (kept.length === replicationFactor && kept.length === desired.length) return null;
  const preferred = placeShard(nodes, shard, nodes.length);
  const added = preferred.filter((node) => !kept.includes(node));
  return [...kept, ...added].slice(0, replicationFactor);
}
