import { type RecordMember, voterSets } from "../../operator/core/record.ts";
import { ServingStatus } from "../../sidecar/protocol/status.ts";
import type { SimCluster } from "./cluster.ts";
import type { DiskImage } from "./disk-image.ts";
import type { SimNode } from "./sim-node.ts";
import type { SimShard } from "./sim-shard.ts";

/**
 * Which harm may be done: what a majority of every voter set needs stays, in each shard that the
 * harm can reach. Beyond that nothing is owed to anybody.
 */
export class FaultAtlas {
  readonly #cluster: SimCluster;

  constructor(cluster: SimCluster) {
    this.#cluster = cluster;
  }

  /** Who keeps its data after this node lost its own are a majority of the ensemble. */
  mayLose(node: SimNode, shards: readonly SimShard[] = this.#cluster.shards): boolean {
    return this.isEnoughWithout(new Set([node.name]), shards);
  }

  /** True when those who vote and have their data, without these, are a majority of each set. */
  isEnoughWithout(
    names: ReadonlySet<string>,
    shards: readonly SimShard[] = this.#cluster.shards,
  ): boolean {
    return shards.every((shard) => this.#isEnoughWithout(names, shard));
  }

  /** For people: who alone would keep their data, of a shard that cannot afford this loss. */
  whyNot(node: SimNode, shards: readonly SimShard[] = this.#cluster.shards): string {
    const names = new Set([node.name]);
    const shard = shards.find((one) => !this.#isEnoughWithout(names, one));
    const left = shard === undefined ? "" : this.#intact(names, shard).join(", ");
    const why = left === "" ? "nobody is known to keep its data" : `only ${left} would keep theirs`;
    return `${shard?.prefix ?? ""}${why}`;
  }

  /**
   * An older disk is not seen by a leader that was replaced and does not know: back before its
   * promise, the node would take entries from it until the coordinator tells either, and that may
   * be away.
   */
  maySetBack(node: SimNode): boolean {
    const { nodes, shards } = this.#cluster;
    const replaced = shards.some((shard) => {
      const term = shard.record?.term ?? -1;
      return nodes.some((other) => {
        const status = shard.replicaOn(other)?.status();
        return status?.status === ServingStatus.LEADER && status.term < term;
      });
    });
    return !replaced && this.mayLose(node);
  }

  /**
   * Only what can be seen is owed: an image of another replica, or one from before something that
   * the record knows, which `tells` for a voter's own: its promise, say. An image of the same term
   * is seen by the leader alone, so it must not die with it.
   */
  isSeen(
    node: SimNode,
    image: DiskImage,
    tells: (member: RecordMember, term: number) => boolean,
  ): boolean {
    return this.#cluster.shards.every((shard) => {
      const member = shard.record?.members.find((one) => one.node === node.name);
      const imaged = image.replicas.find((replica) => shard.isOf(replica));
      if (member === undefined) return imaged === undefined;
      if (imaged === undefined || imaged.replicaUid !== member.replicaUid) return true;
      return member.role === "voter" && tells(member, imaged.term);
    });
  }

  #isEnoughWithout(names: ReadonlySet<string>, shard: SimShard): boolean {
    const { record } = shard;
    if (record === null || !record.initialized) return false;
    const intact = this.#intact(names, shard);
    return voterSets(record).every(
      (set) => set.filter((name) => intact.includes(name)).length > Math.floor(set.length / 2),
    );
  }

  #intact(names: ReadonlySet<string>, shard: SimShard): readonly string[] {
    const members = shard.record?.members ?? [];
    return members
      .filter((member) => !names.has(member.node) && this.#isIntact(shard, member))
      .map((member) => member.node);
  }

  #isIntact(shard: SimShard, member: RecordMember): boolean {
    if (member.role !== "voter") return false;
    const node = this.#cluster.node(member.node);
    const { damaged, latent } = node.harmTo(shard.key);
    if (damaged || latent || shard.setBack.has(member.node)) return false;
    // What the running process says; one that is down, or starting, is as it was before.
    const uid = shard.replicaOn(node)?.status().replicaUid ?? shard.lastUid(node.name);
    return uid === member.replicaUid;
  }
}
