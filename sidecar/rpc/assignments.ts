/**
 * The latest shard assignments that the coordinator pushed, for clients that follow them and for
 * naming the leader in a refusal. Kept in memory only: after a restart the coordinator pushes
 * again.
 */
import type {
  NamespaceShardsAssignment,
  ShardAssignment,
  ShardAssignments,
} from "../protocol/gen/oxia-client.ts";

/** See the file's header. */
export class Assignments {
  #latest: ShardAssignments | null = null;
  readonly #watchers = new Set<() => void>();

  /** Null until the coordinator pushed for the first time. */
  get latest(): ShardAssignments | null {
    return this.#latest;
  }

  update(assignments: ShardAssignments): void {
    this.#latest = assignments;
    for (const changed of this.#watchers) changed();
  }

  /** Calls `changed` after each update; returns the unsubscriber. */
  watch(changed: () => void): () => void {
    this.#watchers.add(changed);
    return () => this.#watchers.delete(changed);
  }

  namespace(name: string): NamespaceShardsAssignment | undefined {
    const namespaces = this.#latest?.namespaces;
    return namespaces !== undefined && Object.hasOwn(namespaces, name)
      ? namespaces[name]
      : undefined;
  }

  /** Where a shard is; undefined when no such shard is known. */
  find(namespace: string, shard: number): ShardAssignment | undefined {
    return this.namespace(namespace)?.assignments.find((entry) => entry.shard === shard);
  }

  /** Namespaces that have a shard of this number. */
  namespacesOf(shard: number): readonly string[] {
    return Object.entries(this.#latest?.namespaces ?? {})
      .filter(([, entry]) => entry.assignments.some((candidate) => candidate.shard === shard))
      .map(([name]) => name);
  }
}
