/** Shard assignments: which leader serves which part of the hash space (WIRE.md, public API). */
import {
  ShardKeyRouter,
  type ShardAssignment,
  type ShardAssignments,
} from "../../sidecar/protocol/gen/oxia-client.ts";
import type { ShardRecord } from "./record.ts";

/** An inclusive range of 32-bit hashes. */
export interface HashRange {
  readonly min: number;
  readonly max: number;
}

const HASHES = 2 ** 32;

/**
 * Range `index` of `count` equal parts of the 32-bit space; together they cover it without overlap.
 */
export function hashRange(index: number, count: number): HashRange {
  const start = Math.floor((index * HASHES) / count);
  const end = Math.floor(((index + 1) * HASHES) / count);
  return { min: start, max: end - 1 };
}

/**
 * The leader of one shard as clients should reach it. `shards` is the number of the namespace's
 * shards.
 */
export interface LeaderAddress {
  readonly namespace: string;
  readonly shard: number;
  /** Position of the shard among its namespace's, from 0. */
  readonly index: number;
  readonly shards: number;
  /**
   * host:port of the public endpoint: the leader's, or that of somebody who will redirect or refuse
   * for now; null while the shard never had a leader.
   */
  readonly address: string | null;
}

/**
 * What a node can do for clients of a shard without a leader. `stopped`: its replica is faulty, or
 * its volume another store's, and what it says may be taken for the shard's last word; whoever is
 * away says nothing at least.
 */
export type StandIn = "answers" | "away" | "stopped";

const BEST_FIRST: readonly StandIn[] = ["answers", "away", "stopped"];

/**
 * Nodes to send a shard's clients to while no leader is known, best first: its voters redirect or
 * refuse for now. None while the shard never had a leader. Without them one shard without a leader
 * would take its whole namespace from clients.
 */
export function standIns(
  record: Pick<ShardRecord, "initialized" | "members" | "ensemble">,
  standIn: (node: string) => StandIn,
): readonly string[] {
  if (!record.initialized) return [];
  const voters = record.members.filter(({ role }) => role === "voter").map(({ node }) => node);
  const all = [...new Set([...voters, ...record.ensemble])];
  return BEST_FIRST.flatMap((kind) => all.filter((node) => standIn(node) === kind));
}

/**
 * What every node tells clients. A namespace is left out until all its shards have had a leader: an
 * assignment without an address would send clients nowhere.
 */
export function shardAssignments(leaders: readonly LeaderAddress[]): ShardAssignments {
  const namespaces: ShardAssignments["namespaces"] = {};
  const incomplete = new Set(
    leaders.filter((leader) => leader.address === null).map((leader) => leader.namespace),
  );
  for (const leader of leaders) {
    if (incomplete.has(leader.namespace)) continue;
    const entry = (namespaces[leader.namespace] ??= {
      assignments: [],
      shardKeyRouter: ShardKeyRouter.XXHASH3,
    });
    entry.assignments.push(assignment(leader));
  }
  const addresses = leaders.map((leader) => leader.address ?? "").filter((text) => text !== "");
  return { namespaces, allowedAuthorities: [...new Set(addresses)].toSorted() };
}

function assignment(leader: LeaderAddress): ShardAssignment {
  const range = hashRange(leader.index, leader.shards);
  return {
    shard: leader.shard,
    leader: leader.address ?? "",
    shardBoundaries: {
      $case: "int32HashRange",
      value: { minHashInclusive: range.min, maxHashInclusive: range.max },
    },
  };
}
