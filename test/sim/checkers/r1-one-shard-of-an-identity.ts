import type { CheckContext, Checker } from "./checker.ts";

/**
 * R1: an identity is one shard's. Whoever takes the files, the cookie or the place of another
 * shard's replica on the same node for its own says so by its uid.
 */
export function oneShardOfAnIdentity(context: CheckContext): Checker {
  const { identities, shard } = context;
  return {
    invariant: "R1",
    sample({ node, status, before }) {
      if (before?.replicaUid === status.replicaUid) return;
      const owner = identities.get(status.replicaUid) ?? shard;
      identities.set(status.replicaUid, owner);
      if (owner === shard) return;
      context.violate("R1", `${node} has ${status.replicaUid}, which is a replica of ${owner}`);
    },
  };
}
