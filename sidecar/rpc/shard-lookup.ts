/**
 * Finds the replica that a client means. Oxia's clients name the namespace on WriteStream only; on
 * other calls they send the shard number alone, which is unique over a store's namespaces.
 */
import type { Metadata } from "@grpc/grpc-js";
import { ProtocolError } from "../protocol/errors.ts";
import type { NodeRuntime, ReplicaHandle } from "../runtime/ports.ts";
import type { Assignments } from "./assignments.ts";
import { metadataText } from "./handlers.ts";

/** Oxia's name for the namespace of clients that name none. */
export const DEFAULT_NAMESPACE = "default";
const NAMESPACE_KEY = "namespace";

/** See the file's header. */
export class ShardLookup {
  readonly #runtime: NodeRuntime;
  readonly #assignments: Assignments;
  /** Shard number to namespace, for calls that name no namespace. Rebuilt at a miss. */
  #namespaces = new Map<number, string>();

  constructor(runtime: NodeRuntime, assignments: Assignments) {
    this.#runtime = runtime;
    this.#assignments = assignments;
  }

  /**
   * Throws SHARD_NOT_FOUND, NAMESPACE_NOT_FOUND, or NODE_IS_NOT_LEADER when another node has the
   * shard.
   */
  find(shard: number | undefined, metadata: Metadata): ReplicaHandle {
    if (shard === undefined) {
      throw new ProtocolError("INVALID_ARGUMENT", "shard is absent; allowed: a shard's number", {
        field: "shard",
        allowed: "a shard's number",
      });
    }
    const named = metadataText(metadata, NAMESPACE_KEY);
    if (named !== undefined) return this.#replica(named, shard);
    const known = this.#namespaces.get(shard);
    if (known !== undefined) {
      try {
        return this.#runtime.replica(known, shard);
      } catch {
        // Deleted, or moved to another namespace, since it was noted.
        this.#namespaces.delete(shard);
      }
    }
    return this.#replica(this.#namespaceOf(shard), shard);
  }

  /** {@link withLeader} for a call that may name its namespace in its metadata. */
  redirect(error: unknown, metadata: Metadata, shard: number | undefined): unknown {
    return this.withLeader(error, metadataText(metadata, NAMESPACE_KEY), shard);
  }

  /** Adds the leader's public address to NODE_IS_NOT_LEADER, for the client to go there. */
  withLeader(error: unknown, namespace: string | undefined, shard: number | undefined): unknown {
    if (!(error instanceof ProtocolError) || error.reason !== "NODE_IS_NOT_LEADER") return error;
    if (shard === undefined) return error;
    // A node without a replica of it knows the namespace of the assignments only.
    const space =
      namespace ??
      error.metadata["namespace"] ??
      this.#namespaces.get(shard) ??
      this.#namespaceOf(shard);
    const leader = error.metadata["leader"] ?? this.#assignments.find(space, shard)?.leader;
    return new ProtocolError(error.reason, error.message, {
      ...error.metadata,
      shard: String(shard),
      ...(leader === undefined || leader === "" ? {} : { leader }),
    });
  }

  #replica(namespace: string, shard: number): ReplicaHandle {
    try {
      return this.#runtime.replica(namespace, shard);
    } catch (error) {
      if (this.#assignments.find(namespace, shard) === undefined) throw error;
      throw new ProtocolError(
        "NODE_IS_NOT_LEADER",
        `node ${this.#runtime.node} holds no replica of shard ${shard} of namespace ${namespace}`,
        { shard: String(shard), namespace },
      );
    }
  }

  #namespaceOf(shard: number): string {
    this.#namespaces = new Map();
    for (const replica of this.#runtime.status().replicas) {
      const taken = this.#namespaces.get(replica.shard);
      // Two namespaces with one number: clients that name none mean the default one.
      if (taken !== DEFAULT_NAMESPACE) this.#namespaces.set(replica.shard, replica.namespace);
    }
    const here = this.#namespaces.get(shard);
    if (here !== undefined) return here;
    const elsewhere = this.#assignments.namespacesOf(shard);
    return elsewhere.includes(DEFAULT_NAMESPACE)
      ? DEFAULT_NAMESPACE
      : (elsewhere[0] ?? DEFAULT_NAMESPACE);
  }
}
