/**
 * ReplicaRecovery objects that were just made and that no watch has told of yet: without them the
 * next look would make another one for the same rebuild, under the name that the pod's own word
 * gives it instead of its claim's.
 */
import type { Clock } from "../../sidecar/lib/ports/clock.ts";
import type { KubeObject } from "./resources.ts";

/** A watch that is later than this is not waited for: somebody may have deleted the object. */
const LATE_MS = 10_000;

interface Made {
  readonly storeId: string;
  readonly object: KubeObject;
  readonly atMs: number;
}

/** See the file's header. What is late goes, of all stores: few are untold at any time. */
export class MadeRecoveries {
  readonly #clock: Pick<Clock, "monotonicMs">;
  /** By uid. */
  readonly #made = new Map<string, Made>();

  constructor(clock: Pick<Clock, "monotonicMs">) {
    this.#clock = clock;
  }

  /** Takes note of what the API server has answered that it made. */
  note(storeId: string, object: KubeObject): void {
    this.#made.set(object.metadata.uid ?? "", { storeId, object, atMs: this.#clock.monotonicMs() });
  }

  /** Those of the cache, and what it lacks of those that were made for the store. */
  with(storeId: string, cached: readonly KubeObject[]): readonly KubeObject[] {
    if (this.#made.size === 0) return cached;
    const told = new Set(cached.map(({ metadata }) => metadata.uid));
    const nowMs = this.#clock.monotonicMs();
    for (const [uid, { atMs }] of this.#made) {
      if (told.has(uid) || nowMs - atMs > LATE_MS) this.#made.delete(uid);
    }
    const own = [...this.#made.values()].filter((made) => made.storeId === storeId);
    return [...cached, ...own.map(({ object }) => object)];
  }
}
