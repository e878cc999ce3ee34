import type { Chance } from "./chance.ts";
import type { SimCluster } from "./cluster.ts";
import type { Nemesis } from "./nemesis.ts";
import type { LastingHarm } from "./options.ts";
import type { SimNode } from "./sim-node.ts";

/**
 * Nodes that stay dead while all others are healed. Chosen when that happens, so that it hits any
 * protocol in any phase; those who are left are a majority of every voter set and have their data,
 * so that everything is owed to them.
 */
export class DeadMinority {
  readonly #cluster: SimCluster;
  readonly #nemesis: Nemesis;
  readonly #harm: LastingHarm;
  readonly #chance: Chance;

  constructor(cluster: SimCluster, nemesis: Nemesis, harm: LastingHarm, chance: Chance) {
    this.#cluster = cluster;
    this.#nemesis = nemesis;
    this.#harm = harm;
    this.#chance = chance;
  }

  /** Right after everything was healed, before anything else happens. */
  strike(): void {
    const { dead, nodes } = this.#cluster;
    const shuffled = nodes
      .map((node) => ({ node, order: this.#chance.unit() }))
      .toSorted((a, b) => a.order - b.order);
    for (const { node } of shuffled) {
      if (dead.size >= this.#harm.nodes) break;
      if (this.#nemesis.atlas.isEnoughWithout(new Set([...dead, node.name]))) dead.add(node.name);
    }
    this.#cluster.coordinatorStarted = (name) => {
      for (const node of this.#deadNodes()) this.#cut(node, name);
    };
    for (const node of this.#deadNodes()) this.#strike(node);
  }

  /** They come back, with their disks as they are. */
  end(): void {
    const { cluster, nodes } = { cluster: this.#cluster, nodes: this.#deadNodes() };
    cluster.coordinatorStarted = () => undefined;
    cluster.dead.clear();
    cluster.network.unblockAll();
    for (const node of nodes) {
      node.staysDown = false;
      node.hinderedUntilMs = Math.min(node.hinderedUntilMs, cluster.time.nowMs);
      if (node.process !== null) cluster.time.resume(node.process);
      cluster.boot(node);
      cluster.note(node.name, "is back");
    }
    cluster.referee.faultInjected();
  }

  #deadNodes(): readonly SimNode[] {
    return this.#cluster.nodes.filter(({ name }) => this.#cluster.dead.has(name));
  }

  #strike(node: SimNode): void {
    const cluster = this.#cluster;
    const { kind } = this.#harm;
    cluster.note(node.name, `is not healed: ${kind}`);
    if (kind === "down") {
      const how = { power: this.#chance.happens(0.5), silent: this.#chance.happens(0.3) };
      cluster.kill(node, how);
      node.staysDown = true;
    } else if (kind === "stopped" && node.process !== null) {
      node.hinderedUntilMs = Number.POSITIVE_INFINITY;
      node.process.pausedUntilMs = Number.POSITIVE_INFINITY;
    }
    const others = cluster.nodes.filter((other) => other !== node);
    for (const { name } of others) this.#cut(node, name);
    for (const { process } of cluster.coordinators) this.#cut(node, process.name);
  }

  /** Nothing gets from one to the other any more, if that is how it is cut off. */
  #cut(node: SimNode, other: string): void {
    const { kind } = this.#harm;
    const among = this.#cluster.nodes.some(({ name }) => name === other);
    const cut = kind === "cutOff" || kind === (among ? "cutFromNodes" : "cutFromCoordinator");
    if (!cut) return;
    this.#cluster.network.block(node.name, other);
    this.#cluster.network.block(other, node.name);
  }
}
