import { xxh3 } from "@node-rs/xxhash";
import type { ShardAssignments } from "../../sidecar/protocol/gen/oxia-client.ts";

/** One shard of a namespace: who leads it and which hashes belong to it (both ends inclusive). */
export interface ShardRoute {
  readonly shard: number;
  /** host:port of the leader's public endpoint; empty while there is none. */
  readonly leader: string;
  readonly hashMin: number;
  readonly hashMax: number;
}

/** Low 32 bits of XXH3-64 of the key's UTF-8 bytes (WIRE.md). */
export function hashOfKey(key: string): number {
  return Number(xxh3.xxh64(key) & 0xffff_ffffn);
}

/** The routes of one namespace, sorted by shard; null when the namespace is not in the message. */
export function routesOf(
  assignments: ShardAssignments,
  namespace: string,
): readonly ShardRoute[] | null {
  const found = Object.hasOwn(assignments.namespaces, namespace)
    ? assignments.namespaces[namespace]
    : undefined;
  if (found === undefined) return null;
  return found.assignments
    .map((assignment) => ({
      shard: assignment.shard,
      leader: assignment.leader,
      hashMin: assignment.shardBoundaries?.value.minHashInclusive ?? 0,
      hashMax: assignment.shardBoundaries?.value.maxHashInclusive ?? 0xffff_ffff,
    }))
    .sort((a, b) => a.shard - b.shard);
}

/** The shard a key belongs to; null when no route covers its hash. */
export function shardOfKey(routes: readonly ShardRoute[], key: string): number | null {
  const hash = hashOfKey(key);
  const route = routes.find(({ hashMin, hashMax }) => hashMin <= hash && hash <= hashMax);
  return route?.shard ?? null;
}
