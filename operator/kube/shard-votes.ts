/** The votes of a store's shards, as the loss of a machine is judged by. */
import { storeShardName } from "../api/v1alpha1/store-shard.ts";
import type { VotesOfShard } from "../core/node-loss.ts";
import { shardKeyText } from "../core/record.ts";
import type { ShardView } from "../core/status.ts";
import type { StoreSight } from "./store-view.ts";

/**
 * One for each shard that there is a StoreShard of, that the coordinator knows, or that the store
 * asks for. Known are those of which both the coordinator and its StoreShard tell.
 */
export function shardVotes(
  { store, shards }: Pick<StoreSight, "store" | "shards">,
  views: readonly ShardView[],
): readonly VotesOfShard[] {
  const nameOf = ({ namespace, shard }: { namespace: string; shard: number }): string =>
    storeShardName(store.metadata.name, namespace, shard);
  const kept = new Set(shards.map(({ metadata }) => metadata.name));
  const seen = views.map((view) => votesOf(view, kept.has(nameOf(view))));
  const viewed = new Set(views.map(nameOf));
  const unseen = [...kept].filter((name) => !viewed.has(name)).map(unknown);
  const wanted = store.spec.namespaces.reduce((sum, each) => sum + each.shards, 0);
  const lacking = seen.length + unseen.length < wanted ? [unknown("one of its shards")] : [];
  return [...seen, ...unseen, ...lacking];
}

function unknown(name: string): VotesOfShard {
  return {
    name,
    known: false,
    initialized: false,
    stop: null,
    ensemble: [],
    changing: false,
    serving: false,
    holding: [],
    answering: [],
    behind: [],
  };
}

function votesOf(view: ShardView, known: boolean): VotesOfShard {
  const { initialized, stop, ensemble, changing, serving, replicas } = view;
  const nodes = (which: (replica: ShardView["replicas"][number]) => boolean): readonly string[] =>
    replicas.filter(which).map(({ node }) => node);
  return {
    name: shardKeyText(view),
    known,
    initialized,
    stop: stop === null ? null : `${stop.reason}, ${stop.message}`,
    ensemble,
    changing,
    serving,
    holding: nodes(({ holdsCommitted }) => holdsCommitted),
    answering: nodes(({ reach }) => reach === "up"),
    behind: nodes(({ voting }) => !voting),
  };
}
