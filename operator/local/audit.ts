import { replicaChecksum } from "../sidecar-client/checksum-client.ts";
import type { LocalStore } from "./local-store.ts";

/** One replica's state as its sidecar sums it up. */
export interface ReplicaChecksum {
  readonly node: string;
  readonly appliedOffset: number;
  readonly records: number;
  readonly checksum: string;
}

const TIMEOUT_MS = 30_000;

/**
 * Checksums of all replicas of a shard, at or after what its leader has applied. They are
 * comparable only while nothing is written. Throws when a replica does not answer.
 */
export async function shardChecksums(
  store: LocalStore,
  namespace: string,
  shard: number,
): Promise<readonly ReplicaChecksum[]> {
  const view = store.views().find((v) => v.namespace === namespace && v.shard === shard);
  if (view === undefined) throw new RangeError(`shard: no ${namespace}/${shard}`);
  const ask = async (node: string, atLeastOffset: number): Promise<ReplicaChecksum> => {
    const { internalAddress } = store.endpoint(node);
    const query = { internalAddress, namespace, shard, atLeastOffset, timeoutMs: TIMEOUT_MS };
    const { appliedOffset, records, checksum } = await replicaChecksum(query);
    return { node, appliedOffset, records, checksum };
  };
  // From the leader itself: what the view says of it may be a moment old.
  const head = view.leader === null ? -1 : (await ask(view.leader, -1)).appliedOffset;
  return await Promise.all(view.replicas.map(({ node }) => ask(node, head)));
}

/** True when all replicas hold the same. Pure. */
export function sameState(checksums: readonly ReplicaChecksum[]): boolean {
  const [first, ...rest] = checksums;
  return (
    first !== undefined &&
    rest.every(({ checksum, records }) => checksum === first.checksum && records === first.records)
  );
}
