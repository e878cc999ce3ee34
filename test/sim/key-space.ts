import { shardAssignments } from "../../operator/core/assignment.ts";
import { routesOf, shardOfKey } from "../../operator/sidecar-client/shard-map.ts";
import type { PlacedShard } from "./sim-shard.ts";

/** More than enough for the least lucky of a few shards. */
const TRIES_MAX = 100_000;

/**
 * Keys for each shard of a store, by its number: so many of `key-0`, `key-1`, ... as belong to it,
 * as a client finds by the assignments that nodes tell it.
 */
export function keysByShard(
  placed: readonly PlacedShard[],
  keys: number,
): ReadonlyMap<number, readonly string[]> {
  const assignments = shardAssignments(
    placed.map(({ key, index, shards }) => ({ ...key, index, shards, address: "any" })),
  );
  const found = new Map(placed.map(({ key }) => [key.shard, [] as string[]]));
  for (const namespace of new Set(placed.map(({ key }) => key.namespace))) {
    const routes = routesOf(assignments, namespace) ?? [];
    const own = routes.map(({ shard }) => found.get(shard) ?? []);
    for (let i = 0; i < TRIES_MAX && own.some(({ length }) => length < keys); i += 1) {
      const key = `key-${i}`;
      const there = found.get(shardOfKey(routes, key) ?? -1);
      if (there !== undefined && there.length < keys) there.push(key);
    }
  }
  return found;
}
