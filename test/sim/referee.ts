import { type ShardKey, shardKeyText } from "../../operator/core/record.ts";
import { ShardReferee } from "./shard-referee.ts";

/**
 * Judged as clients are answered, from the clients' history, and by who waits for a store to be
 * whole or to take writes.
 */
const JUDGED_ELSEWHERE = ["R3", "I16", "I18", "L1", "L2"] as const;

/** An invariant that does not hold. */
export interface Violation {
  readonly invariant: string;
  readonly message: string;
}

/**
 * Has a referee for each shard, who is told of that one only and holds its truth: what belongs to
 * one shard and counts for another does not fit there.
 */
export class Referee {
  /** What did not hold when the run's last event had settled, in the order it was noticed. */
  readonly violations: Violation[] = [];
  /** By the shard's number, which is unique in a store. */
  readonly #shards: readonly { readonly key: ShardKey; readonly referee: ShardReferee }[];

  /** Of shards whose numbers count from 0. */
  constructor(keys: readonly ShardKey[]) {
    const identities = new Map<string, string>();
    this.#shards = keys.map((key) => {
      const shard = shardKeyText(key);
      const prefix = keys.length === 1 ? "" : `${shard}: `;
      const violate = (invariant: string, message: string): void =>
        this.violate(invariant, `${prefix}${message}`);
      return { key, referee: new ShardReferee({ shard, identities, violate }) };
    });
  }

  /** The referee of one shard. Throws a RangeError when the store has no such shard. */
  of({ namespace, shard }: ShardKey): ShardReferee {
    const found = this.#shards[shard];
    if (found !== undefined && found.key.namespace === namespace) return found.referee;
    const known = this.#shards.map(({ key }) => shardKeyText(key)).join(", ");
    throw new RangeError(`shard: ${namespace}/${shard} is none of ${known}`);
  }

  /** The first of {@link violations}; null: everything holds. */
  get violation(): Violation | null {
    return this.violations[0] ?? null;
  }

  /** Every invariant that is watched for, those that are judged outside a checker included. */
  get invariants(): readonly string[] {
    const names = this.#shards.flatMap(({ referee }) => referee.invariants);
    return [...new Set([...names, ...JUDGED_ELSEWHERE])];
  }

  /** An invariant does not hold. One event can break several: each is kept once. */
  violate(invariant: string, message: string): void {
    if (this.violations.some((known) => known.invariant === invariant)) return;
    this.violations.push({ invariant, message });
  }

  faultInjected(): void {
    for (const { referee } of this.#shards) referee.faultInjected();
  }

  /** The process on a node ended. */
  ended(node: string): void {
    for (const { referee } of this.#shards) referee.ended(node);
  }
}
