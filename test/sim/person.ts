import type { ShardRecord } from "../../operator/core/record.ts";
import type { StopReason } from "../../operator/core/stops.ts";
import { acknowledgement } from "../../operator/core/force-quorum.ts";
import type { Chance } from "./chance.ts";
import { KEY, type SimCluster } from "./cluster.ts";
import type { SimKube } from "./sim-kube.ts";
import type { SimNode } from "./sim-node.ts";
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
   * and so does one that begins then, though nobody leads; with the newest record all goes on.
   */
  async putsRecordBack(older: ShardRecord | null): Promise<boolean> {
    const cluster = this.#cluster;
    const reason = older === null ? "RecordLost" : "RecordStale";
    cluster.note("-", `the record ${older === null ? "is lost" : "is an older copy"}`);
    cluster.records.lose(KEY, older);
    // With nothing to do, standing still would prove nothing.
    const leader = cluster.node(cluster.record?.leader?.node ?? "");
    cluster.kill(leader, { power: false, silent: false });
    cluster.bootLater(leader, AWAY_MS);
    if (!(await this.#stops(reason))) return false;
    for (const one of [...cluster.coordinators]) cluster.killCoordinator(one);
    cluster.startCoordinator();
    if (!(await this.#stops(reason))) return false;
    cluster.note("-", "a person puts the newest record back");
    cluster.records.putBack(KEY);
    return this.#life.recovered();
  }

  /**
   * All replicas but one lose their disks, and nobody is left who led without a restart. That one
   * holds everything, so that a forced quorum of it loses nothing (R6); it may be on other claims
   * than before. The order is refused while another member may still run.
   */
  async forcesQuorum(): Promise<boolean> {
    const cluster = this.#cluster;
    const members = this.#life.members();
    const survivor = members[this.#chance.below(members.length)];
    if (survivor === undefined) return true;
    // What it applied is durable elsewhere; its own log may be a sync behind.
    const synced = (): boolean => {
      const { head, durableOffset = -1 } = survivor.replica?.status() ?? {};
      return durableOffset >= (head?.offset ?? Number.POSITIVE_INFINITY);
    };
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
    if (!(await this.#stops("QuorumLost"))) return false;
    if (!(await this.#ordered(survivor, (refusal) => refusal?.startsWith("stop first") === true)))
      return false;
    for (const node of others) {
      cluster.kill(node, { power: true, silent: false });
      this.#kube.deletePod(node.name);
    }
    if (!(await this.#ordered(survivor, (refusal) => refusal === null))) return false;
    for (const node of others) {
      this.#kube.recreate(node.name, []);
      cluster.bootLater(node, AWAY_MS);
    }
    return this.#life.recovered();
  }

  async #stops(reason: StopReason): Promise<boolean> {
    const { coordinators, referee, time } = this.#cluster;
    const stopped = (): boolean =>
      coordinators.length > 0 &&
      coordinators.every(({ coordinator }) => coordinator.views()[0]?.stop?.reason === reason);
    if (!(await this.#life.until(reason, STOP_MS, stopped))) return false;
    await time.run(STOPPED_FOR_MS, () => this.#life.broken());
    if (!stopped()) referee.violate(reason, "a coordinator goes on, and no person said so");
    if (this.#life.broken()) return false;
    this.stops += 1;
    return true;
  }

  /** A person who is told to wait for something asks again; null: the order was carried out. */
  async #ordered(
    survivor: SimNode,
    isAnswer: (refusal: string | null) => boolean,
  ): Promise<boolean> {
    let done = false;
    // Who held more has lost it, whether a coordinator has seen that or not.
    let newer: string | null = null;
    const order = (): void => {
      const { offset } = survivor.replica?.status().head ?? { offset: -1 };
      const acknowledgeDataLoss = acknowledgement({ term: -1, offset }, newer);
      const [asked] = this.#cluster.coordinators;
      const answered = (refusal: string | null): void => {
        this.#cluster.note("-", `a forced quorum of ${survivor.name}: ${refusal ?? "done"}`);
        done = isAnswer(refusal);
        newer = /although (\S+) has newer entries/u.exec(refusal ?? "")?.[1] ?? null;
        if (!done) this.#cluster.time.after(AWAY_MS, null, "a person asks again", order);
      };
      asked?.coordinator.forceQuorum(KEY, { survivor: survivor.name, acknowledgeDataLoss }).then(
        () => answered(null),
        (error: Error) => answered(error.message),
      );
    };
    order();
    return this.#life.until("forceQuorum", STOP_MS, () => done);
  }
}
