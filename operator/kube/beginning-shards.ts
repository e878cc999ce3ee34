/**
 * Shards that were just made. The first leader commits as soon as a majority follows it, and for a
 * moment after that the others do not: to take their pods out of service then would stop all that
 * a store served before the shard was added, for one that nobody knows of yet.
 */
import { hasServed } from "../controller/store-status.ts";
import { shardKeyText } from "../core/record.ts";
import type { ShardView } from "../core/status.ts";

/** A replica that does not vote by then is one that cannot. */
const BEGIN_MS = 5_000;

/** See the file's header. */
export class BeginningShards {
  /** When each was last seen before it ever served. */
  readonly #unserved = new Map<string, number>();

  /** The views without those of shards that have only just begun to serve. */
  settled(views: readonly ShardView[], nowMs: number): readonly ShardView[] {
    return views.filter((view) => {
      const shard = shardKeyText(view);
      if (!hasServed(view)) {
        this.#unserved.set(shard, nowMs);
        return true;
      }
      const sinceMs = this.#unserved.get(shard);
      if (sinceMs === undefined) return true;
      if (!isWhole(view) && nowMs - sinceMs < BEGIN_MS) return false;
      this.#unserved.delete(shard);
      return true;
    });
  }
}

function isWhole({ ensemble, replicas }: ShardView): boolean {
  return ensemble.every((pod) => replicas.some(({ node, voting }) => node === pod && voting));
}
