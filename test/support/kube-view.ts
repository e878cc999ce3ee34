/** What the API server tells of one namespace, and when it told it. */
import { ListWatch, type ObjectChange } from "../../operator/kube/list-watch.ts";
import type { ApiClient } from "../../operator/kube/api-client.ts";
import { KINDS, type KubeObject } from "../../operator/kube/resources.ts";
import { systemClock } from "../../operator/local/system-clock.ts";
import { SILENT_LOGGER } from "../../sidecar/lib/ports/logger.ts";

/** Kinds that are followed. */
const FOLLOWED = ["pod", "claim", "shard", "recovery", "store"] as const;
/** See {@link FOLLOWED}. */
export type Followed = (typeof FOLLOWED)[number];

/** A change of an object, at the time it was told. */
export interface Told extends ObjectChange {
  readonly kind: Followed;
  readonly atMs: number;
}

/** See the file's header. */
export class KubeView {
  readonly told: Told[] = [];
  private readonly watches = new Map<Followed, ListWatch>();
  private readonly stop = new AbortController();
  private readonly running: Promise<unknown>;
  private readonly waiting = new Set<() => void>();

  constructor(client: ApiClient, namespace: string) {
    for (const kind of FOLLOWED) {
      const watch = new ListWatch({
        client,
        kind: KINDS[kind],
        scope: { namespace },
        clock: systemClock,
        random: Math.random,
        logger: SILENT_LOGGER,
        changed: (change) => {
          this.told.push({ ...change, kind, atMs: Date.now() });
          for (const look of [...this.waiting]) look();
        },
      });
      this.watches.set(kind, watch);
    }
    this.running = Promise.all([...this.watches.values()].map((w) => w.run(this.stop.signal)));
  }

  async synced(): Promise<void> {
    await Promise.all([...this.watches.values()].map((w) => w.whenSynced(this.stop.signal)));
  }

  /** All objects of a kind, by name. */
  all(kind: Followed): readonly KubeObject[] {
    const objects = [...(this.watches.get(kind)?.values() ?? [])];
    return objects.toSorted((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));
  }

  find(kind: Followed, name: string): KubeObject | undefined {
    return this.all(kind).find(({ metadata }) => metadata.name === name);
  }

  /** Resolves when `probe` gives something; it is asked at each change. Null after `timeoutMs`. */
  async when<T>(probe: () => T | null | undefined, timeoutMs: number): Promise<T | null> {
    return await new Promise((resolve, reject) => {
      const end = (): void => {
        clearTimeout(timer);
        this.waiting.delete(look);
      };
      const look = (): void => {
        try {
          const found = probe();
          if (found === null || found === undefined) return;
          end();
          resolve(found);
        } catch (error) {
          end();
          reject(error instanceof Error ? error : new Error(String(error)));
        }
      };
      const timer = setTimeout(() => {
        end();
        resolve(null);
      }, timeoutMs);
      this.waiting.add(look);
      look();
    });
  }

  async close(): Promise<void> {
    this.stop.abort(new Error("the view is closed"));
    await this.running;
  }
}
