/**
 * ReplicaRecovery objects that were just made and that no watch has told of yet: without them the
 * next look would make another one for the same rebuild, under the name that the pod's own word
 * gives it instead of its claim's.
 */
import type { Clock } from "../../sidecar/lib/ports/clock.ts";
import type { KubeObject } from "./resources.ts";

/** A watch that is later than this is not waited for: somebody may have deleted the object. */
const LATE_MS = 10_000;

/** See the file's header. By whatever stands for their store, which is not kept alive by this. */
export class MadeRecoveries {
  readonly #clock: Pick<Clock, "monotonicMs">;
  readonly #made = new WeakMap<
    object,
    Map<string, { readonly object: KubeObject; readonly atMs: number }>
  >();

  constructor(clock: Pick<Clock, "monotonicMs">) {
    this.#clock = clock;
  }

  /** Takes note of what the API server has answered that it made. */
  note(store: object, object: KubeObject): void {
    const made = this.#made.get(store) ?? new Map();
    this.#made.set(store, made.set(object.metadata.name, { object, atMs: this.#now() }));
  }

  /** Those of the cache, and what it lacks of those that were made. */
  with(store: object, cached: readonly KubeObject[]): readonly KubeObject[] {
    const made = this.#made.get(store);
    if (made === undefined) return cached;
    for (const [name, { atMs }] of made) {
      const isTold = cached.some(({ metadata }) => metadata.name === name);
      if (isTold || this.#now() - atMs > LATE_MS) made.delete(name);
    }
    if (made.size === 0) this.#made.delete(store);
    return [...cached, ...[...made.values()].map(({ object }) => object)];
  }

  #now(): number {
    return this.#clock.monotonicMs();
  }
}
