import type { Chance } from "./chance.ts";
import type { SimCluster } from "./cluster.ts";
import type { SimNode } from "./sim-node.ts";

/** Faults of one way between two hosts, which goes on carrying things. */
export const LINK_FAULTS = ["slowLink", "lossyLink", "repeatedCalls"] as const;
export type LinkFault = (typeof LINK_FAULTS)[number];

const LASTS_MS_MIN = 500;
const LASTS_MS_MAX = 5_000;

/** What the harm is done with. */
export interface LinkFaultsOptions {
  readonly cluster: SimCluster;
  readonly chance: Chance;
  /** Acts after a while, unless everything was healed by then. */
  readonly later: (delayMs: number, act: () => void) => void;
}

/** Makes one way slow, or forgetful, or has it deliver some calls twice, for a while. */
export class LinkFaults {
  readonly #o: LinkFaultsOptions;

  constructor(options: LinkFaultsOptions) {
    this.#o = options;
  }

  /** True when it was begun. */
  inject(fault: LinkFault, node: SimNode): boolean {
    const { cluster, chance, later } = this.#o;
    const { network, nodes, coordinators } = cluster;
    const hosts = [
      ...nodes.filter((other) => other !== node).map(({ name }) => name),
      ...coordinators.map(({ process }) => process.name),
    ];
    const other = hosts[chance.below(hosts.length)];
    if (other === undefined) return false;
    const [from, to] = chance.happens(0.5) ? [node.name, other] : [other, node.name];
    const state =
      fault === "slowLink"
        ? { delayMs: 20 + chance.below(600) }
        : { [fault === "lossyLink" ? "lostShare" : "repeatedShare"]: 0.1 + 0.5 * chance.unit() };
    network.impair(from, to, state);
    cluster.note("network", `${fault} ${from}>${to}`);
    later(LASTS_MS_MIN + chance.below(LASTS_MS_MAX - LASTS_MS_MIN), () => {
      network.impair(from, to, null);
    });
    return true;
  }
}
