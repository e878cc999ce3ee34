import type { ShardRecord } from "../../operator/core/record.ts";
import type { StopReason } from "../../operator/core/stops.ts";
import { acknowledgement } from "../../operator/core/force-quorum.ts";
import type { Chance } from "./chance.ts";
import type { SimCluster } from "./cluster.ts";
import type { SimKube } from "./sim-kube.ts";
import type { SimNode } from "./sim-node.ts";
import type { SimShard } from "./sim-shard.ts";
import type { StoreLife } from "./store-life.ts";

/** A coordinator finds out within this that it must not go on. */
const STOP_MS = 30_000;
/** And does nothing, for as long as that lasts. */
const STOPPED_FOR_MS = 3_000;
const AWAY_MS = 500;
const BOTH = ["data", "wal"] as const;

/** What only a person can end: stops, by the newest record or by an order. */
export class Person {
  /** Stops that were seen and ended. */
  stops = 0;
  readonly #cluster: SimCluster;
  readonly #kube: SimKube;
  readonly #life: StoreLife;
  readonly #chance: Chance;

  constructor(cluster: SimCluster, kube: SimKube, life: StoreLife, chance: Chance) {
    this.#cluster = cluster;
    this.#kube = kube;
    this.#life = life;
    this.#chance = chance;
  }

  /**
   * R11, R18: on an older copy of the record, or on none, a coordinator that knew the newest stops,
   * and so does one that begins then, though nobody leads; with the newest record all goes on. So
   * do the store's other shards at any time: what is known of them is as true as ever.
   */
  async putsRecordBack(shard: SimShard, older: ShardRecord | null): Promise<boolean> {
    const cluster = this.#cluster;
    const { key, prefix } = shard;
    const reason = older === null ? "RecordLost" : "RecordStale";
    cluster.note("-", `${prefix}the record ${older === null ? "is lost" : "is an older copy"}`);
    cluster.records.lose(key, older);
    // With nothing to do, standing still would prove nothing.
    const leader = cluster.node(shard.record?.leader?.node ?? "");
    cluster.kill(leader, { power: false, silent: false });
    cluster.bootLater(leader, AWAY_MS);
    if (!(await this.#stops(reason, [shard]))) return false;
    for (const one of [...cluster.coordinators]) cluster.killCoordinator(one);
    cluster.startCoordinator();
    if (!(await this.#stops(reason, [shard]))) return false;
    if (!(await this.#othersGoOn(shard))) return false;
    cluster.note("-", `${prefix}a person puts the newest record back`);
    cluster.records.putBack(key);
    return this.#life.recovered();
  }

  async #othersGoOn(shard: SimShard): Promise<boolean> {
    const others = this.#cluster.shards.filter((other) => other !== shard);
    if (others.length === 0) return true;
    const serve = (): boolean => others.every((other) => this.#life.healthyShard(other) === null);
    return this.#life.until("L1", STOP_MS, serve);
  }

  /**
   * All replicas but one lose their disks, and nobody is left who led without a restart. That one
   * holds everything, so that a forced quorum of it loses nothing (R6); it may be on other claims
   * than before. The order is refused while another member may still run.
   */
  async forcesQuorum(): Promise<boolean> {
    const cluster = this.#cluster;
    const { shards } = cluster;
    const hosts = (node: SimNode, shard: SimShard): boolean =>
      this.#life.members(shard).includes(node);
    const members = cluster.nodes.filter((node) => shards.some((shard) => hosts(node, shard)));
    // Whoever is to keep it all has to have a part of each.
    const able = members.filter((node) => shards.every((shard) => hosts(node, shard)));
    const survivor = able[this.#chance.below(able.length)];
    if (survivor === undefined) return true;
    // What it applied is durable elsewhere; its own log may be a sync behind.
    const synced = (): boolean =>
      shards.every((shard) => {
        const { head, durableOffset = -1 } = shard.replicaOn(survivor)?.status() ?? {};
        return durableOffset >= (head?.offset ?? Number.POSITIVE_INFINITY);
      });
    if (!(await this.#life.until("L1", STOP_MS, synced))) return false;
    const others = members.filter((node) => node !== survivor);
    for (const node of members) {
      cluster.kill(node, { power: true, silent: false });
      if (node !== survivor) node.wipe(["wal", "state"]);
      const kept = node === survivor && this.#chance.happens(0.5);
      this.#kube.recreate(node.name, kept ? [] : BOTH);
      cluster.bootLater(node, AWAY_MS);
    }
    cluster.note("-", `all but ${survivor.name} lost their disks`);
    if (!(await this.#stops("QuorumLost", shards))) return false;
    for (const shard of shards) {
      const refused = (refusal: string | null): boolean =>
        refusal?.startsWith("stop first") === true;
      if (!(await this.#ordered(shard, survivor, refused))) return false;
    }
    for (const node of others) {
      cluster.kill(node, { power: true, silent: false });
      this.#kube.deletePod(node.name);
    }
    for (const shard of shards) {
      if (!(await this.#ordered(shard, survivor, (refusal) => refusal === null))) return false;
    }
    for (const node of others) {
      this.#kube.recreate(node.name, []);
      cluster.bootLater(node, AWAY_MS);
    }
    return this.#life.recovered();
  }

  /** Every coordinator stops for these shards, for that reason. */
  async #stops(reason: StopReason, shards: readonly SimShard[]): Promise<boolean> {
    const { coordinators, referee, time } = this.#cluster;
    const stopped = (): boolean =>
      coordinators.length > 0 &&
      coordinators.every(({ coordinator }) => {
        const views = coordinator.views();
        return shards.every(({ key }) => views[key.shard]?.stop?.reason === reason);
      });
    if (!(await this.#life.until(reason, STOP_MS, stopped))) return false;
    await time.run(STOPPED_FOR_MS, () => this.#life.broken());
    if (!stopped()) referee.violate(reason, "a coordinator goes on, and no person said so");
    if (this.#life.broken()) return false;
    this.stops += 1;
    return true;
  }

  /** A person who is told to wait for something asks again; null: the order was carried out. */
  async #ordered(
    shard: SimShard,
    survivor: SimNode,
    isAnswer: (refusal: string | null) => boolean,
  ): Promise<boolean> {
    let done = false;
    // Who held more has lost it, whether a coordinator has seen that or not.
    let newer: string | null = null;
    const ask = (): void => {
      const { offset } = shard.replicaOn(survivor)?.status().head ?? { offset: -1 };
      const acknowledgeDataLoss = acknowledgement({ term: -1, offset }, newer);
      const [asked] = this.#cluster.coordinators;
      const answered = (refusal: string | null): void => {
        const order = `a forced quorum of ${survivor.name}`;
        this.#cluster.note("-", `${shard.prefix}${order}: ${refusal ?? "done"}`);
        done = isAnswer(refusal);
        newer = /although (\S+) has newer entries/u.exec(refusal ?? "")?.[1] ?? null;
        if (!done) this.#cluster.time.after(AWAY_MS, null, "a person asks again", ask);
      };
      const wish = { survivor: survivor.name, acknowledgeDataLoss };
      asked?.coordinator.forceQuorum(shard.key, wish).then(
        () => answered(null),
        (error: Error) => answered(error.message),
      );
    };
    ask();
    return this.#life.until("forceQuorum", STOP_MS, () => done);
  }
}
