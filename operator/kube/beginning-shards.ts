/**
 * Shards that were just made. The first leader commits as soon as a majority follows it, and for a
 * moment after that the others do not: to take their pods out of service then would stop all that
 * a store served before the shard was added, for one that nobody knows of yet.
 */
import { hasServed } from "../controller/store-status.ts";
import { shardKeyText } from "../core/record.ts";
import type { ShardView } from "../core/status.ts";
import { distrustsRecord } from "../core/stops.ts";

/** A replica that does not vote by then is one that cannot. */
const BEGIN_MS = 5_000;

/** See the file's header. */
export class BeginningShards {
  /** Of shards that were seen before they served: when they were seen to first; null: not yet. */
  readonly #servedAtMs = new Map<string, number | null>();

  /** The views without those of shards that have only just begun to serve. */
  settled(views: readonly ShardView[], nowMs: number): readonly ShardView[] {
    return views.filter((view) => {
      const shard = shardKeyText(view);
      // What it says of the shard is wrong: that was made long ago.
      if (distrustsRecord(view.stop)) {
        this.#servedAtMs.delete(shard);
        return true;
      }
      if (!hasServed(view)) {
        this.#servedAtMs.set(shard, null);
        return true;
      }
      const known = this.#servedAtMs.get(shard);
      if (known === undefined) return true;
      const servedAtMs = known ?? nowMs;
      this.#servedAtMs.set(shard, servedAtMs);
      if (!isWhole(view) && nowMs - servedAtMs < BEGIN_MS) return false;
      this.#servedAtMs.delete(shard);
      return true;
    });
  }
}

function isWhole({ ensemble, replicas }: ShardView): boolean {
  return ensemble.every((pod) => replicas.some(({ node, voting }) => node === pod && voting));
}
