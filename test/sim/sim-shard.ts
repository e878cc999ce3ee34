import { type ShardKey, shardKeyText, type ShardRecord } from "../../operator/core/record.ts";
import type { ReplicaHandle } from "../../sidecar/runtime/ports.ts";
import type { ShardReferee } from "./shard-referee.ts";
import type { SimNode } from "./sim-node.ts";
import type { SimRecordStore } from "./sim-record-store.ts";

/** Names of namespaces, in the order of a store's spec. */
const NAMESPACES = ["default", "other", "third"] as const;

/** One shard and where it stands in its namespace. */
export interface PlacedShard {
  readonly key: ShardKey;
  /** Among the shards of its namespace, from 0. */
  readonly index: number;
  readonly shards: number;
}

/** A namespace and how many shards it has. */
export interface SimNamespace {
  readonly name: string;
  readonly shards: number;
}

/** The namespaces of a store whose numbers of shards are these. */
export function namespacesOf(shards: readonly number[]): readonly SimNamespace[] {
  if (shards.length === 0 || shards.length > NAMESPACES.length || !shards.every(isCount)) {
    const allowed = `1 to ${NAMESPACES.length} numbers, each 1 or more`;
    throw new RangeError(`namespaces: [${shards.join(", ")}]: allowed: ${allowed}`);
  }
  return shards.map((count, index) => ({ name: NAMESPACES[index] as string, shards: count }));
}

/** Every shard of these namespaces: as a coordinator does, its numbers count through all. */
export function placeShards(namespaces: readonly SimNamespace[]): readonly PlacedShard[] {
  const placed: PlacedShard[] = [];
  for (const { name, shards } of namespaces) {
    for (let index = 0; index < shards; index += 1) {
      placed.push({ key: { namespace: name, shard: placed.length }, index, shards });
    }
  }
  return placed;
}

function isCount(shards: number): boolean {
  return Number.isSafeInteger(shards) && shards > 0;
}

/** One shard of the store, as somebody who sees everything knows it. */
export class SimShard {
  readonly key: ShardKey;
  /** `namespace/shard`. */
  readonly name: string;
  readonly placed: PlacedShard;
  /** Put before what is said of it: its name, where there are others. */
  readonly prefix: string;
  readonly referee: ShardReferee;
  /** Nodes whose disk was set back and whose replica still votes, by the record (H19). */
  readonly setBack = new Set<string>();
  readonly #records: SimRecordStore;
  readonly #uids = new Map<string, string>();
  readonly #alone: boolean;

  /** `alone`: the store has no other. */
  constructor(placed: PlacedShard, alone: boolean, records: SimRecordStore, referee: ShardReferee) {
    this.placed = placed;
    this.key = placed.key;
    this.name = shardKeyText(placed.key);
    this.prefix = alone ? "" : `${this.name}: `;
    this.#alone = alone;
    this.#records = records;
    this.referee = referee;
  }

  /** The record as it is. */
  get record(): ShardRecord | null {
    return this.#records.peek(this.key);
  }

  /** Its replica on a node; null: there is none, or none is open yet. */
  replicaOn(node: SimNode): ReplicaHandle | null {
    const replicas = node.replicas();
    if (this.#alone) return replicas[0] ?? null;
    return replicas.find((replica) => this.isOf(shardOf(replica))) ?? null;
  }

  /** True when the record names a replica there. */
  hasMember(node: string): boolean {
    return this.record?.members.some((member) => member.node === node) === true;
  }

  /** True for what names this shard. */
  isOf({ namespace, shard }: ShardKey): boolean {
    return shard === this.key.shard && namespace === this.key.namespace;
  }

  /** The uid that its replica on a node had when it was last seen; "" when it never was. */
  lastUid(node: string): string {
    return this.#uids.get(node) ?? "";
  }

  sawUid(node: string, uid: string): void {
    this.#uids.set(node, uid);
  }
}

/** By replica: what it is one of, which never changes. Asked after each event of its node. */
const SHARDS = new WeakMap<ReplicaHandle, ShardKey>();

function shardOf(replica: ReplicaHandle): ShardKey {
  const known = SHARDS.get(replica);
  if (known !== undefined) return known;
  const { namespace, shard } = replica.status();
  const found = { namespace, shard };
  SHARDS.set(replica, found);
  return found;
}
