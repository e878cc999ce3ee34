import type { Platform } from "../../operator/controller/ports.ts";
import type { ShardKey } from "../../operator/core/record.ts";
import type { SimProcess, SimTime } from "./sim-clock.ts";

/** What is lost on the way is told by the next list of all objects. */
const RELIST_MS = 5_000;
/** How old what a first list gives may be. */
const STALE_MS = 2_000;

/** How late, how often and how wrongly coordinators are told of pods, claims and records. */
export interface KubeSpeed {
  readonly watchLagMsMax: number;
  /** One event in how many is lost, or comes twice; 0: none. */
  readonly lostOneIn: number;
  readonly repeatedOneIn: number;
}

/** Which claims of a node; `data` is under its state directory. */
export type ClaimName = "data" | "wal";

/** A node's pod and the claims under it. */
export interface Placed {
  /** A new number with each pod of this name; 0: there is none. */
  readonly pod: number;
  readonly data: string;
  readonly wal: string;
  /** The claims are being deleted, and are while the pod runs. */
  readonly terminating: boolean;
}

/** Who is told. */
export interface Informed {
  /** Something about a pod or its claims changed; `elsewhere`: it is another pod than before. */
  placedChanged(node: string, elsewhere: boolean): void;
  recordChanged(key: ShardKey, version: string): void;
}

/** Pods and claims as the API server has them. */
export class SimKube {
  readonly #time: SimTime;
  readonly #speed: KubeSpeed;
  readonly #placed = new Map<string, Placed>();
  /** As it was before the last change, and when that was. */
  readonly #before = new Map<string, { readonly placed: Placed; readonly untilMs: number }>();
  readonly #informers: Informer[] = [];
  #made = 0;

  constructor(time: SimTime, nodes: readonly string[], speed: KubeSpeed) {
    this.#time = time;
    this.#speed = speed;
    for (const node of nodes) this.#placed.set(node, this.#place(["data", "wal"], null));
  }

  of(node: string): Placed {
    const placed = this.#placed.get(node);
    if (placed === undefined) throw new Error(`no node ${node}`);
    return placed;
  }

  /** As a first list may give it. */
  listed(node: string, stale: boolean): Placed {
    const before = this.#before.get(node);
    const recent = before !== undefined && before.untilMs >= this.#time.nowMs - STALE_MS;
    return stale && recent ? before.placed : this.of(node);
  }

  /** The pod is gone, and with it its process; its claims stay. */
  deletePod(node: string): void {
    this.#change(node, { ...this.of(node), pod: 0 });
  }

  /** Another pod under the same name, on the same claims but for these, which are new ones. */
  recreate(node: string, replaced: readonly ClaimName[]): void {
    this.#change(node, this.#place(replaced, this.of(node)));
  }

  terminate(node: string, terminating: boolean): void {
    this.#change(node, { ...this.of(node), terminating });
  }

  /** Tells of the record as of anything else. */
  recordChanged(key: ShardKey, version: string): void {
    this.#tell((informer) => informer.deliver(() => informer.informed.recordChanged(key, version)));
  }

  /** What a coordinator's caches say; it is told as long as its process lives. */
  informer(process: SimProcess, informed: Informed): Informer {
    const nodes = [...this.#placed.keys()];
    const informer = new Informer(this, this.#time, this.#speed, process, nodes, informed);
    this.#informers.push(informer);
    return informer;
  }

  #place(replaced: readonly ClaimName[], before: Placed | null): Placed {
    this.#made += 1;
    const uid = (claim: ClaimName): string =>
      before === null || replaced.includes(claim) ? `${claim}-${this.#made}` : before[claim];
    return { pod: this.#made, data: uid("data"), wal: uid("wal"), terminating: false };
  }

  #change(node: string, placed: Placed): void {
    this.#before.set(node, { placed: this.of(node), untilMs: this.#time.nowMs });
    this.#placed.set(node, placed);
    this.#tell((informer) => informer.deliver(() => informer.learn(node, placed)));
  }

  #tell(each: (informer: Informer) => void): void {
    for (const informer of this.#informers) if (informer.process.alive) each(informer);
  }
}

/** A coordinator's caches: late, now and then blind until the next list, never out of order. */
export class Informer {
  readonly process: SimProcess;
  readonly informed: Informed;
  readonly #kube: SimKube;
  readonly #time: SimTime;
  readonly #speed: KubeSpeed;
  readonly #nodes: readonly string[];
  readonly #seen = new Map<string, Placed>();
  #lastAtMs = 0;

  constructor(
    kube: SimKube,
    time: SimTime,
    speed: KubeSpeed,
    process: SimProcess,
    nodes: readonly string[],
    informed: Informed,
  ) {
    this.#kube = kube;
    this.#time = time;
    this.#speed = speed;
    this.process = process;
    this.informed = informed;
    this.#nodes = nodes;
    const stale = process.chance.happens(0.3);
    this.#later(() => {
      for (const node of nodes) this.learn(node, kube.listed(node, stale));
      if (stale) this.#later(() => this.#relist());
    });
  }

  /** The pod through whose address the node is called; null: none is known. */
  podOf(node: string): number | null {
    const pod = this.#seen.get(node)?.pod ?? 0;
    return pod === 0 ? null : pod;
  }

  /** What a coordinator asks. Whether a pod is gone is asked of the API server itself. */
  platform(): Platform {
    return {
      isStopped: async (node) => this.#kube.of(node).pod === 0,
      isVolumeTerminating: (node) => this.#seen.get(node)?.terminating ?? false,
      claims: (node) => {
        const seen = this.#seen.get(node);
        if (seen === undefined || seen.pod === 0 || seen.terminating) return null;
        return { data: seen.data, wal: seen.wal };
      },
    };
  }

  learn(node: string, placed: Placed): void {
    const before = this.#seen.get(node);
    this.#seen.set(node, placed);
    this.informed.placedChanged(node, before !== undefined && before.pod !== placed.pod);
  }

  /** An event on its way: it comes late, twice, or not at all. */
  deliver(act: () => void): void {
    const { chance } = this.process;
    const { lostOneIn, repeatedOneIn } = this.#speed;
    if (lostOneIn > 0 && chance.below(lostOneIn) === 0) {
      this.#time.after(RELIST_MS, this.process, "relist", () => this.#relist());
      return;
    }
    this.#later(act);
    if (repeatedOneIn > 0 && chance.below(repeatedOneIn) === 0) this.#later(act);
  }

  #relist(): void {
    for (const node of this.#nodes) this.learn(node, this.#kube.of(node));
  }

  #later(act: () => void): void {
    const lagMs = 0.5 + this.process.chance.unit() * this.#speed.watchLagMsMax;
    this.#lastAtMs = Math.max(this.#lastAtMs, this.#time.nowMs + lagMs);
    this.#time.after(this.#lastAtMs - this.#time.nowMs, this.process, "watch", act);
  }
}
