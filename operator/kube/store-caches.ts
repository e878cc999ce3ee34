/** The caches that the operator works from, and which store each object belongs to. */
import type { Clock } from "../../sidecar/lib/ports/clock.ts";
import type { Logger } from "../../sidecar/lib/ports/logger.ts";
import { selectorText, STORE_LABEL } from "../specs/labels.ts";
import type { ApiClient } from "./api-client.ts";
import type { KubeLimits } from "./limits.ts";
import { ListWatch, type ObjectChange } from "./list-watch.ts";
import { KINDS, type KubeObject, type ResourceKind } from "./resources.ts";

/** What the caches need. */
export interface StoreCachesOptions {
  readonly client: ApiClient;
  /** Null: all namespaces. */
  readonly namespaces: readonly string[] | null;
  readonly clock: Clock;
  readonly random: () => number;
  readonly logger: Logger;
  /** Told which store is to be looked at, as `namespace/name`. */
  readonly touched: (storeKey: string) => void;
  readonly limits?: Partial<KubeLimits>;
}

const OWNED = selectorText({ "app.kubernetes.io/name": "resilver" });

/** No namespace is called so. */
const ALL = "";

/** Kinds that are watched, and by which labels. */
const WATCHED: readonly (readonly [ResourceKind, string | undefined])[] = [
  [KINDS.store, undefined],
  [KINDS.shard, undefined],
  [KINDS.recovery, undefined],
  [KINDS.statefulSet, OWNED],
  [KINDS.service, OWNED],
  [KINDS.configMap, OWNED],
  [KINDS.serviceAccount, OWNED],
  [KINDS.disruptionBudget, OWNED],
  [KINDS.pod, OWNED],
  [KINDS.claim, OWNED],
];

/** See the file's header. */
export class StoreCaches {
  /** By kind, then by namespace; the one under ALL holds every namespace. */
  readonly #watches = new Map<ResourceKind, ReadonlyMap<string, ListWatch>>();
  /** Kind and store -> keys of objects. */
  readonly #index = new Map<string, Set<string>>();

  constructor(options: StoreCachesOptions) {
    const places = options.namespaces ?? [ALL];
    for (const [kind, labelSelector] of WATCHED) {
      const watches = places.map(
        (place) => [place, this.#open(options, kind, place, labelSelector)] as const,
      );
      this.#watches.set(kind, new Map(watches));
    }
  }

  /** The cached object. */
  get(kind: ResourceKind, namespace: string, name: string): KubeObject | undefined {
    const watches = this.#watches.get(kind);
    if (watches === undefined) throw new Error(`${kind.plural} are not watched`);
    return (watches.get(namespace) ?? watches.get(ALL))?.get(namespace, name);
  }

  /** Cached objects of a kind that belong to a store. */
  ofStore(kind: ResourceKind, namespace: string, storeName: string): readonly KubeObject[] {
    const keys = this.#index.get(indexKey(kind, `${namespace}/${storeName}`)) ?? [];
    return [...keys].flatMap((key) => {
      const [, name = ""] = key.split("/");
      const object = this.get(kind, namespace, name);
      return object === undefined ? [] : [object];
    });
  }

  /** True once everything was listed. */
  get synced(): boolean {
    return this.unlisted.length === 0;
  }

  /** Names of kinds that were not listed yet. */
  get unlisted(): readonly string[] {
    return this.#kindsWhere((watch) => !watch.synced);
  }

  /** Names of kinds that are not followed at the moment. */
  get interrupted(): readonly string[] {
    return this.#kindsWhere((watch) => !watch.healthy);
  }

  /** Resolves when everything was listed; rejects with the signal's reason. */
  async whenSynced(signal: AbortSignal): Promise<void> {
    for (const watch of this.#all()) await watch.whenSynced(signal);
  }

  /** Runs until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    // One signal for all would gather the listeners of all.
    const parts = this.#all().map((watch) => {
      const part = new AbortController();
      return { part, run: watch.run(part.signal) };
    });
    const end = (): void => {
      for (const { part } of parts) part.abort(signal.reason);
    };
    signal.addEventListener("abort", end, { once: true });
    if (signal.aborted) end();
    try {
      await Promise.all(parts.map(({ run }) => run));
    } finally {
      signal.removeEventListener("abort", end);
      // One that failed takes the others with it.
      for (const { part } of parts) part.abort(new Error("a cache has failed"));
      await Promise.allSettled(parts.map(({ run }) => run));
    }
  }

  /** A change of a label moves an object from one store to another. */
  #note(kind: ResourceKind, storeKey: string, { key, object }: ObjectChange): void {
    const at = indexKey(kind, storeKey);
    const keys = this.#index.get(at) ?? new Set();
    const belongs = object !== null && storeKey === storeKeyOf(kind, object);
    if (belongs) keys.add(key);
    else keys.delete(key);
    if (keys.size > 0) this.#index.set(at, keys);
    else this.#index.delete(at);
  }

  #all(): readonly ListWatch[] {
    return [...this.#watches.values()].flatMap((watches) => [...watches.values()]);
  }

  #kindsWhere(predicate: (watch: ListWatch) => boolean): readonly string[] {
    return [...this.#watches].flatMap(([kind, watches]) =>
      [...watches.values()].some(predicate) ? [kind.plural] : [],
    );
  }

  #open(
    options: StoreCachesOptions,
    kind: ResourceKind,
    place: string,
    labelSelector: string | undefined,
  ): ListWatch {
    const { client, clock, random, logger, limits } = options;
    const namespace = place === ALL ? null : place;
    return new ListWatch({
      client,
      kind,
      scope: { namespace, ...(labelSelector === undefined ? {} : { labelSelector }) },
      clock,
      random,
      logger,
      changed: (change) => {
        const silent = isOwnReport(kind, change);
        for (const storeKey of storesOf(kind, change)) {
          this.#note(kind, storeKey, change);
          if (!silent) options.touched(storeKey);
        }
      },
      ...(limits === undefined ? {} : { limits }),
    });
  }
}

/**
 * A change of the status alone of one of our own kinds: the operator itself has written it. Looking
 * at the store because of it would write again, and so on. Whose store it is changes rarely, and
 * has to be seen at once.
 */
function isOwnReport(kind: ResourceKind, { object, previous }: ObjectChange): boolean {
  if (kind !== KINDS.store && kind !== KINDS.shard && kind !== KINDS.recovery) return false;
  if (object === null || previous === null) return false;
  const [now, before] = [object.metadata, previous.metadata];
  return (
    now.uid === before.uid &&
    operatorOf(object) === operatorOf(previous) &&
    now.generation === before.generation &&
    now.deletionTimestamp === before.deletionTimestamp &&
    (now.finalizers ?? []).join() === (before.finalizers ?? []).join()
  );
}

function operatorOf({ status }: KubeObject): unknown {
  return typeof status === "object" && status !== null
    ? Reflect.get(status, "operator")
    : undefined;
}

function storesOf(kind: ResourceKind, { object, previous }: ObjectChange): readonly string[] {
  const keys = [object, previous].flatMap((state) => {
    return state === null ? [] : (storeKeyOf(kind, state) ?? []);
  });
  return [...new Set(keys)];
}

function indexKey(kind: ResourceKind, storeKey: string): string {
  return `${kind.plural} ${storeKey}`;
}

function storeKeyOf(kind: ResourceKind, object: KubeObject): string | undefined {
  const name = storeNameOf(kind, object);
  return name === undefined ? undefined : `${object.metadata.namespace}/${name}`;
}

function storeNameOf(kind: ResourceKind, object: KubeObject): string | undefined {
  if (kind === KINDS.store) return object.metadata.name;
  if (kind === KINDS.recovery || kind === KINDS.shard) {
    const { spec } = object;
    const name: unknown =
      typeof spec === "object" && spec !== null ? Reflect.get(spec, "storeName") : undefined;
    return typeof name === "string" ? name : undefined;
  }
  return object.metadata.labels?.[STORE_LABEL];
}
