/**
 * A cache of one kind of object, kept by a list and the watch that follows it. It owns its
 * restarts: whatever ends a watch, another begins, after a wait that grows with failures and
 * honours what the server asks for. A watch that stalls, a version that has expired, and an object
 * that was deleted and made again while nobody watched are all noticed.
 */
import type { Clock } from "../../sidecar/lib/ports/clock.ts";
import type { Logger } from "../../sidecar/lib/ports/logger.ts";
import { pause } from "../controller/wake.ts";
import { ApiError, ApiUnreachable, errorFromStatus, isExpired, WatchSilent } from "./api-error.ts";
import { objectOf, type ApiClient, type Scope, type WatchEvent } from "./api-client.ts";
import { KUBE_LIMITS, type KubeLimits } from "./limits.ts";
import { type KubeObject, objectKey, type ResourceKind } from "./resources.ts";

/**
 * What became of the object under a key. `previous` with another uid than `object`: it was deleted
 * and made again; nothing of the old one may be assumed of the new.
 */
export interface ObjectChange {
  readonly key: string;
  readonly object: KubeObject | null;
  readonly previous: KubeObject | null;
}

/** What a list-watch needs. */
export interface ListWatchOptions {
  readonly client: ApiClient;
  readonly kind: ResourceKind;
  readonly scope: Scope;
  readonly clock: Clock;
  /** Uniform in [0, 1): spreads waits. */
  readonly random: () => number;
  readonly logger: Logger;
  /** Told of each change. Must only note it: what it throws ends the list-watch. */
  readonly changed: (change: ObjectChange) => void;
  /** Bounds other than the usual ones, for tests. */
  readonly limits?: Partial<KubeLimits>;
}

/** What `changed` threw: the one failure that ends a list-watch. */
class HandlerFailed extends Error {
  override readonly name = "HandlerFailed";
}

/** See the file's header. */
export class ListWatch {
  readonly #options: ListWatchOptions;
  readonly #limits: KubeLimits;
  readonly #objects = new Map<string, KubeObject>();
  /** Where to watch on from; null: list first. */
  #resourceVersion: string | null = null;
  #listedAtMs = 0;
  #synced = false;
  #healthy = false;
  #failures = 0;
  readonly #waiting = new Set<() => void>();

  constructor(options: ListWatchOptions) {
    this.#options = options;
    this.#limits = { ...KUBE_LIMITS, ...options.limits };
  }

  /** True once everything was listed: the cache is whole, if perhaps not of this moment. */
  get synced(): boolean {
    return this.#synced;
  }

  /** True while a watch is open: the cache follows what happens. */
  get healthy(): boolean {
    return this.#healthy;
  }

  /** The cached object; undefined when there is none. */
  get(namespace: string, name: string): KubeObject | undefined {
    return this.#objects.get(`${namespace}/${name}`);
  }

  /** All cached objects. */
  values(): IterableIterator<KubeObject> {
    return this.#objects.values();
  }

  /** Resolves at the first whole list; rejects with the signal's reason. */
  async whenSynced(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    if (this.#synced) return;
    await new Promise<void>((resolve, reject) => {
      const done = (): void => {
        signal.removeEventListener("abort", abort);
        this.#waiting.delete(done);
        resolve();
      };
      const abort = (): void => {
        this.#waiting.delete(done);
        reject(signal.reason as Error);
      };
      this.#waiting.add(done);
      signal.addEventListener("abort", abort, { once: true });
    });
  }

  /** Runs until the signal aborts. Rejects only when `changed` threw. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        await this.#round(signal);
        this.#failures = 0;
      } catch (error) {
        // Bookmarks come every minute, but not before the first change of any object of the kind:
        // on a quiet cluster silence is usual. Whether the server is there the next watch shows.
        if (error instanceof WatchSilent && !signal.aborted) {
          this.#options.logger.debug("watch opened anew", { error: error.message });
          continue;
        }
        this.#healthy = false;
        if (signal.aborted) return;
        if (error instanceof HandlerFailed) throw error.cause;
        await this.#afterFailure(error, signal);
      }
    }
    this.#healthy = false;
  }

  /** One list if need be, and one watch to its end. */
  async #round(signal: AbortSignal): Promise<void> {
    const { client, kind, scope, clock } = this.#options;
    if (clock.monotonicMs() - this.#listedAtMs > this.#spread(this.#limits.relistMs)) {
      this.#resourceVersion = null;
    }
    this.#resourceVersion ??= await this.#list(signal);
    const { watchSecondsMin, watchSecondsMax, watchIdleMs } = this.#limits;
    const span = this.#options.random() * (watchSecondsMax - watchSecondsMin);
    const from = {
      resourceVersion: this.#resourceVersion,
      timeoutSeconds: Math.round(watchSecondsMin + span),
    };
    const openedAtMs = clock.monotonicMs();
    let heard = false;
    this.#healthy = true;
    for await (const event of client.watch(kind, scope, from, signal, watchIdleMs)) {
      heard = true;
      this.#failures = 0;
      this.#take(event);
    }
    this.#healthy = false;
    if (!heard && clock.monotonicMs() - openedAtMs < this.#limits.retryMinMs) {
      // Else a server that ends every watch at once would be asked without a pause.
      throw new ApiUnreachable(`watch ${kind.plural}: ended as soon as it began`, false);
    }
  }

  async #list(signal: AbortSignal): Promise<string> {
    const { client, kind, scope, clock } = this.#options;
    const { items, resourceVersion } = await client.list(kind, scope, {
      signal,
      deadlineMs: this.#limits.callDeadlineMs,
    });
    const listed = new Map(items.map((item) => [objectKey(item), slim(item, kind)] as const));
    for (const [key, previous] of [...this.#objects]) {
      if (!listed.has(key)) this.#set(key, null, previous);
    }
    for (const [key, object] of listed) {
      const previous = this.#objects.get(key) ?? null;
      if (previous?.metadata.resourceVersion === object.metadata.resourceVersion) continue;
      this.#set(key, object, previous);
    }
    this.#listedAtMs = clock.monotonicMs();
    this.#synced = true;
    for (const done of [...this.#waiting]) done();
    return resourceVersion;
  }

  #take({ type, object: value }: WatchEvent): void {
    const { kind } = this.#options;
    if (type === "ERROR") throw errorFromStatus(value, `watch ${kind.plural}`);
    if (type === "BOOKMARK") {
      const version = (value as Partial<KubeObject> | null)?.metadata?.resourceVersion;
      if (version !== undefined) this.#resourceVersion = version;
      return;
    }
    const object = slim(objectOf(value, `watch ${kind.plural}`), kind);
    const key = objectKey(object);
    const previous = this.#objects.get(key) ?? null;
    const newer = isNewer(object, previous);
    if (newer && object.metadata.resourceVersion !== undefined) {
      this.#resourceVersion = object.metadata.resourceVersion;
    }
    if (!newer) return;
    if (type !== "DELETED") this.#set(key, object, previous);
    else if (previous !== null) this.#set(key, null, previous);
  }

  #set(key: string, object: KubeObject | null, previous: KubeObject | null): void {
    if (object === null) this.#objects.delete(key);
    else this.#objects.set(key, object);
    try {
      this.#options.changed({ key, object, previous });
    } catch (error) {
      throw new HandlerFailed("changed() threw", { cause: error });
    }
  }

  async #afterFailure(error: unknown, signal: AbortSignal): Promise<void> {
    const { logger, kind, clock } = this.#options;
    const { retryMinMs, retryMaxMs, retryAfterMaxMs } = this.#limits;
    this.#failures += 1;
    if (isExpired(error)) {
      this.#resourceVersion = null;
      // Usual after a quiet time: list at once, unless that was just done.
      if (this.#failures === 1) return;
    }
    const backoffMs = Math.min(retryMinMs * 2 ** (this.#failures - 1), retryMaxMs);
    const asked = error instanceof ApiError ? (error.retryAfterMs ?? 0) : 0;
    const delayMs = Math.max(this.#spread(backoffMs), Math.min(asked, retryAfterMaxMs));
    logger.warn("watch interrupted", {
      resource: kind.plural,
      error: error instanceof Error ? error.message : String(error),
      failures: this.#failures,
      retryMs: Math.round(delayMs),
    });
    await pause(clock, delayMs, signal);
  }

  /** Between half of `ms` and all of it. */
  #spread(ms: number): number {
    return ms * (0.5 + this.#options.random() / 2);
  }
}

/** What nobody here reads is most of an object. Lists leave out the kind of their items. */
function slim(object: KubeObject, { apiVersion, kind }: ResourceKind): KubeObject {
  const { managedFields: _managed, ...metadata } = object.metadata as KubeObject["metadata"] & {
    managedFields?: unknown;
  };
  return { ...object, apiVersion, kind, metadata };
}

/**
 * True unless `object` is an older state than the one that is known: events may come twice, or out
 * of order. Versions are numbers; another uid is judged by them too.
 */
function isNewer(object: KubeObject, known: KubeObject | null): boolean {
  const [theirs, ours] = [object.metadata.resourceVersion, known?.metadata.resourceVersion];
  if (theirs === undefined || ours === undefined) return true;
  if (!/^\d+$/u.test(theirs) || !/^\d+$/u.test(ours)) return theirs !== ours;
  return BigInt(theirs) > BigInt(ours);
}
