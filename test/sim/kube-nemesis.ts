import { type ShardRecord, voterSets } from "../../operator/core/record.ts";
import type { Chance } from "./chance.ts";
import type { SimCluster } from "./cluster.ts";
import { type DiskImage, imageOf, termsOf } from "./disk-image.ts";
import type { FaultAtlas } from "./fault-atlas.ts";
import type { KubeFault } from "./options.ts";
import type { ClaimName, SimKube } from "./sim-kube.ts";
import type { SimNode } from "./sim-node.ts";
import type { SimShard } from "./sim-shard.ts";

/** Which claims are lost together, and the directories that go with them. */
const LOSSES: readonly (readonly ClaimName[])[] = [["data", "wal"], ["data"], ["wal"]];
const COORDINATORS_MAX = 2;
/** Whoever lost the Lease notices within this. */
const LEASE_NOTICED_MS = 2_000;

/** What the nemesis that does everything else has to say. */
export interface Bounds {
  readonly atlas: FaultAtlas;
  /** Puts an older disk in the place of a node's own, which is down from then on. */
  setBack(node: SimNode, image: DiskImage): void;
  /** Counts a disk that was emptied. */
  wiped(): void;
  /** Some time below this, or longer when faults last. */
  below(ms: number): number;
  anyShard(): SimShard;
  /** Not any more once everything is healed. */
  later(delayMs: number, act: () => void): void;
}

/** Does what only happens on Kubernetes: to pods, claims, the Lease and the records. */
export class KubeNemesis {
  readonly #cluster: SimCluster;
  readonly #kube: SimKube;
  readonly #chance: Chance;
  readonly #bounds: Bounds;

  constructor(cluster: SimCluster, kube: SimKube, chance: Chance, bounds: Bounds) {
    this.#cluster = cluster;
    this.#kube = kube;
    this.#chance = chance;
    this.#bounds = bounds;
  }

  /** True when the fault could be injected now. */
  inject(fault: KubeFault, node: SimNode): boolean {
    switch (fault) {
      case "podRecreated":
        return this.#recreate(node);
      case "claimReplaced":
        return this.#replaceClaims(node);
      case "claimTerminating":
        return this.#terminate(node);
      case "claimRestored":
        return this.#restoreClaims(node);
      case "leaseStolen":
        return this.#stealLease();
      case "recordSetBack":
        return this.#setRecordBack(this.#bounds.anyShard());
      case "recordLost":
        return this.#loseRecord(this.#bounds.anyShard(), null);
    }
  }

  /** Whatever is on its way is over; the newest record is back. */
  heal(): void {
    const { coordinators, nodes, records, shards, time } = this.#cluster;
    for (const { key } of shards) records.putBack(key);
    for (const { process } of coordinators) time.resume(process);
    for (const { name } of nodes) {
      if (this.#kube.of(name).terminating) this.#kube.terminate(name, false);
    }
  }

  /** A copy of the record that whoever is asked can tell from the newest; null: there is none. */
  olderCopy(shard: SimShard): ShardRecord | null {
    return this.#anyOlder(shard) ?? null;
  }

  /** Another pod of the same name, on the same claims. */
  #recreate(node: SimNode): boolean {
    if (node.process === null) return false;
    this.#cluster.note(node.name, "its pod is made anew");
    const power = this.#chance.happens(0.5);
    this.#cluster.kill(node, { power, silent: this.#chance.happens(0.3) });
    this.#kube.recreate(node.name, []);
    this.#cluster.bootLater(node, 50 + this.#bounds.below(2_500));
    return true;
  }

  /** One claim or both are gone with what was on them; the pod comes back on new ones. */
  #replaceClaims(node: SimNode): boolean {
    if (node.process === null || !this.#bounds.atlas.mayLose(node)) return false;
    const claims = LOSSES[this.#chance.below(LOSSES.length)] ?? ["data", "wal"];
    this.#cluster.note(node.name, `its claims are replaced: ${claims.join(", ")}`);
    this.#cluster.kill(node, { power: true, silent: this.#chance.happens(0.3) });
    node.wipe(claims.map((claim) => (claim === "data" ? "state" : claim)));
    this.#bounds.wiped();
    this.#kube.recreate(node.name, claims);
    this.#cluster.bootLater(node, this.#chance.happens(0.3) ? 1 : this.#bounds.below(2_000));
    return true;
  }

  /** A claim that is deleted stays, and its data with it, until the pod ends. */
  #terminate(node: SimNode): boolean {
    if (node.process === null || this.#kube.of(node.name).terminating) return false;
    this.#cluster.note(node.name, "its claims are being deleted");
    this.#kube.terminate(node.name, true);
    this.#bounds.later(100 + this.#bounds.below(3_000), () => {
      if (!this.#replaceClaims(node)) this.#kube.terminate(node.name, false);
    });
    return true;
  }

  /** A copy of its disk is made now; later its pod is made anew on claims restored from that. */
  #restoreClaims(node: SimNode): boolean {
    if (node.replicas().length === 0 || node.isDamaged) return false;
    const image = imageOf(node, this.#chance.below(2 ** 31));
    this.#cluster.note(node.name, `a copy is made of its claims in ${termsOf(image)}`);
    this.#bounds.later(100 + this.#bounds.below(4_000), () => this.#restore(node, image));
    return true;
  }

  /**
   * Whatever the copy holds, the claims tell on it, once the record has noted those that the voter
   * was on; before that nobody can know.
   */
  #restore(node: SimNode, image: DiskImage): void {
    const { atlas } = this.#bounds;
    if (!this.#cluster.isMember(node) || node.process === null || !atlas.maySetBack(node)) return;
    if (!atlas.isSeen(node, image, ({ pvcUids }) => pvcUids !== undefined)) return;
    this.#cluster.note(node.name, "its claims are restored from a copy");
    this.#bounds.setBack(node, image);
    this.#kube.recreate(node.name, ["data", "wal"]);
    this.#cluster.bootLater(node, this.#chance.below(1_000));
  }

  /** Whoever holds the Lease stands still, another takes it, and for a while both are at work. */
  #stealLease(): boolean {
    const cluster = this.#cluster;
    const [victim] = cluster.coordinators;
    if (victim === undefined || cluster.coordinators.length >= COORDINATORS_MAX) return false;
    const forMs = 100 + this.#bounds.below(4_000);
    victim.process.pausedUntilMs = cluster.time.nowMs + forMs;
    cluster.note(victim.process.name, "stands still, and loses its Lease");
    cluster.startCoordinator();
    this.#bounds.later(forMs + this.#chance.below(LEASE_NOTICED_MS), () => {
      if (cluster.coordinators.length > 1) cluster.killCoordinator(victim);
    });
    return true;
  }

  #setRecordBack(shard: SimShard): boolean {
    const older = this.#anyOlder(shard);
    return older !== undefined && this.#loseRecord(shard, older);
  }

  /** The record is an older copy, or gone, until a person puts the newest back. */
  #loseRecord({ key, prefix, record }: SimShard, older: ShardRecord | null): boolean {
    const { records } = this.#cluster;
    if (record?.initialized !== true || records.isLost(key)) return false;
    const what = older === null ? "is lost" : `is again that of generation ${older.generation}`;
    this.#cluster.note("-", `${prefix}the record ${what}`);
    records.lose(key, older);
    this.#bounds.later(100 + this.#bounds.below(4_000), () => {
      this.#cluster.note("-", `${prefix}a person puts the newest record back`);
      records.putBack(key);
    });
    return true;
  }

  #anyOlder(shard: SimShard): ShardRecord | undefined {
    const newest = shard.record;
    if (newest === null) return undefined;
    const copies = this.#cluster.records
      .backups(shard.key)
      .filter((copy) => copy.initialized && this.#isKnownOld(shard, copy, newest));
    return copies[this.#chance.below(Math.max(1, copies.length))];
  }

  /**
   * What was decided and told to nobody is lost with the record, and nobody can know: every
   * majority, of then and of now, has to have heard of something newer (R18).
   */
  #isKnownOld(shard: SimShard, copy: ShardRecord, newest: ShardRecord): boolean {
    const knows = (name: string): boolean => {
      const status = shard.replicaOn(this.#cluster.node(name))?.status();
      return status !== undefined && status.generation > copy.generation;
    };
    return [...voterSets(copy), ...voterSets(newest)].every(
      (set) => set.filter(knows).length > Math.floor(set.length / 2),
    );
  }
}
