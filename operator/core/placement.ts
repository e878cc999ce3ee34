/** Which nodes a shard's replicas go to, and who is to lead it when nothing else decides. */

/** The largest odd number of replicas up to `nodes`. */
export function defaultReplicationFactor(nodes: number): number {
  return nodes % 2 === 0 ? Math.max(1, nodes - 1) : nodes;
}

/**
 * The ensemble of the `ordinal`-th shard of a store (counted over all namespaces). Its first node
 * is the preferred leader, so that leaders and replicas are spread evenly. Throws a RangeError when
 * there are too few nodes.
 */
export function placeShard(
  nodes: readonly string[],
  ordinal: number,
  replicationFactor: number,
): readonly string[] {
  if (replicationFactor < 1 || replicationFactor > nodes.length) {
    throw new RangeError(
      `replicationFactor: ${replicationFactor}: allowed: 1 to ${nodes.length}, the number of nodes`,
    );
  }
  const ensemble: string[] = [];
  for (let index = 0; index < replicationFactor; index += 1) {
    const node = nodes[(ordinal + index) % nodes.length];
    if (node !== undefined) ensemble.push(node);
  }
  return ensemble;
}

/** How many shards each node leads. */
export function countLeaderships(leaders: readonly (string | null)[]): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const node of leaders) {
    if (node !== null) counts.set(node, (counts.get(node) ?? 0) + 1);
  }
  return counts;
}
