/** The shards of a store, by its spec, and where each is to be. */
import { defaultReplicationFactor, placeShard } from "../core/placement.ts";
import type { NewRecord } from "../core/record.ts";
import type { StoreSpec } from "./ports.ts";

/** One shard and where it stands in its namespace. */
export interface PlacedShard {
  readonly start: NewRecord;
  readonly index: number;
  readonly shards: number;
}

/**
 * Every shard of a spec with its place. Shard ids count through all namespaces: most public
 * requests name only the shard. Hence namespaces may be appended to a spec, not inserted, and keep
 * their shard count. Throws a RangeError that names the field.
 */
export function placeAll(spec: StoreSpec): readonly PlacedShard[] {
  const nodes = spec.nodes.map((endpoint) => endpoint.node);
  if (new Set(nodes).size !== nodes.length || nodes.length === 0) {
    throw new RangeError(`nodes: [${nodes.join(", ")}]: must name at least one node, each once`);
  }
  const placed: PlacedShard[] = [];
  for (const namespace of spec.namespaces) {
    const { name, shards, keySorting, notifications } = namespace;
    if (!Number.isSafeInteger(shards) || shards < 1) {
      throw new RangeError(`namespaces.${name}.shards: ${shards}: allowed: 1 or more`);
    }
    const replicationFactor = namespace.replicationFactor ?? defaultReplicationFactor(nodes.length);
    for (let index = 0; index < shards; index += 1) {
      const shard = placed.length;
      const ensemble = placeShard(nodes, shard, replicationFactor);
      const start = {
        storeId: spec.storeId,
        namespace: name,
        shard,
        ensemble,
        replicationFactor,
        keySorting,
        notifications,
      };
      placed.push({ start, index, shards });
    }
  }
  return placed;
}
