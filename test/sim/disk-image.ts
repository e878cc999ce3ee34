import type { ShardKey } from "../../operator/core/record.ts";
import type { SimDisk } from "./sim-disk.ts";
import type { SimNode } from "./sim-node.ts";

/** A replica as an image has it. */
interface ImagedReplica extends ShardKey {
  readonly replicaUid: string;
  /** The term that it had promised then. */
  readonly term: number;
}

/** A node's disk as it was at some moment, like a volume snapshot of it (H19). */
export interface DiskImage {
  readonly disk: SimDisk;
  readonly replicas: readonly ImagedReplica[];
}

/** An image of a node's disk as it is, with whose replicas were open then. */
export function imageOf(node: SimNode, seed: number): DiskImage {
  const replicas = node.replicas().map((replica) => {
    const { namespace, shard, replicaUid, term } = replica.status();
    return { namespace, shard, replicaUid, term };
  });
  return { disk: node.disk.clone(seed), replicas };
}

/** For people: of which terms an image is. */
export function termsOf({ replicas }: DiskImage): string {
  return `term ${replicas.map(({ term }) => term).join(", ")}`;
}
