import { setTimeout as sleep } from "node:timers/promises";
import { seededRandom } from "../../operator/local/demo/seeded-random.ts";
import { checkLinearizable, type Verdict } from "../linearizability/check.ts";
import type { ProxyMode } from "../support/tcp-proxy.ts";
import { type Anomalies, countAnomalies } from "./anomalies.ts";
import { KillableStore } from "./killable-store.ts";
import { TortureClients } from "./torture-clients.ts";

/** What a torture is asked for. */
export interface TortureOptions {
  readonly seed: number;
  /** How long at least: in the end each fault was done at least once. */
  readonly seconds: number;
  readonly replicas: number;
  readonly clients: number;
  /** Told of each fault. */
  readonly told: (what: string) => void;
}

/** What a torture does; each is counted under its name, once it was done. */
const FAULTS = [
  "kill",
  "restart",
  "wipe",
  "corrupt",
  "pause",
  "cut",
  "freeze",
  "slow",
  "coordinatorKill",
] as const;
type Fault = (typeof FAULTS)[number];

/** What came of it. */
export interface TortureResult {
  readonly operations: number;
  readonly acknowledged: number;
  readonly verdict: Verdict;
  readonly anomalies: Anomalies;
  readonly faults: Readonly<Record<Fault, number>>;
  readonly recoveries: number;
}

/** True when nothing was lost, no read was stale, and the whole history was decided. */
export function isSound({ verdict, anomalies }: TortureResult): boolean {
  return verdict.kind === "linearizable" && anomalies.lost === 0 && anomalies.staleReads === 0;
}

const WIPES = ["all", "wal", "state"] as const;
const WAYS: Readonly<Partial<Record<Fault, ProxyMode>>> = {
  cut: "cut",
  freeze: "frozen",
  slow: "slow",
};
const WHOLE_MS = 90_000;

/**
 * A real store of local mode under real faults: sidecars and the coordinator are killed with
 * SIGKILL, sidecars ended in order and stopped, disks emptied and damaged, connections cut, frozen
 * and slowed.
 */
export class Torture {
  readonly #options: TortureOptions;
  readonly #store: KillableStore;
  readonly #random: () => number;
  readonly #clients: TortureClients;
  readonly #counts: Record<Fault, number>;
  /** Nodes that are away for a while by our doing, and how that ends. */
  readonly #hurt = new Map<string, { readonly undo: () => void; readonly timer: NodeJS.Timeout }>();

  private constructor(options: TortureOptions, store: KillableStore) {
    this.#options = options;
    this.#store = store;
    this.#random = seededRandom(options.seed);
    this.#counts = Object.fromEntries(FAULTS.map((fault) => [fault, 0])) as Record<Fault, number>;
    const random = seededRandom(options.seed + 1);
    this.#clients = new TortureClients(store.servers(), options.clients, random);
  }

  /** Runs it to its end. Rejects when the store does not become whole again. */
  static async run(options: TortureOptions, signal: AbortSignal): Promise<TortureResult> {
    const store = await KillableStore.start(options.replicas);
    const torture = new Torture(options, store);
    try {
      return await torture.#run(signal);
    } finally {
      for (const { timer } of torture.#hurt.values()) clearTimeout(timer);
      await torture.#clients.close();
      await store.close();
    }
  }

  async #run(signal: AbortSignal): Promise<TortureResult> {
    const endMs = performance.now() + this.#options.seconds * 1_000;
    this.#clients.start();
    while (!signal.aborted) {
      const missing = FAULTS.filter((fault) => this.#counts[fault] === 0);
      const over = performance.now() >= endMs;
      if (over && missing.length === 0) break;
      await this.#pause(300 + this.#random() * 1_500, signal);
      await this.#hurtSomebody(this.#pick(over ? missing : FAULTS), signal);
    }
    this.#options.told("everything is healed");
    for (const node of [...this.#hurt.keys()]) this.#heal(node);
    await this.#store.whole(WHOLE_MS);
    await this.#clients.stop();
    await this.#clients.readAll();
    return this.#result();
  }

  #result(): TortureResult {
    const { history, lastFrom } = this.#clients;
    const written = history.filter(
      ({ outcome: { kind } }) => kind === "written" || kind === "deleted",
    );
    return {
      operations: history.length,
      acknowledged: written.length,
      verdict: checkLinearizable(history),
      anomalies: countAnomalies(history, lastFrom),
      faults: this.#counts,
      recoveries: this.#store.recoveries,
    };
  }

  async #hurtSomebody(fault: Fault, signal: AbortSignal): Promise<void> {
    const node = this.#pick(this.#nodes());
    const forMs = 500 + this.#random() * 4_000;
    if (fault === "coordinatorKill") {
      this.#options.told("the coordinator is killed, and another one starts");
      await this.#store.killCoordinator();
      await this.#pause(this.#random() * 1_000, signal);
      await this.#store.startCoordinator();
      this.#counts.coordinatorKill += 1;
      return;
    }
    const loses = fault === "wipe" || fault === "corrupt";
    if (node === undefined || this.#hurt.has(node) || !this.#mayHurt(node, loses)) return;
    if (await this.#hurtNode(fault, node, forMs)) this.#counts[fault] += 1;
  }

  /** False when it could not be done. */
  async #hurtNode(
    fault: Exclude<Fault, "coordinatorKill">,
    node: string,
    forMs: number,
  ): Promise<boolean> {
    const { told } = this.#options;
    const lasting = `for ${forMs.toFixed(0)} ms`;
    switch (fault) {
      case "kill":
        told(`${node} is killed, and started again`);
        await this.#store.command("kill", node);
        // It is stopped, so that this only starts it.
        await this.#store.command("restart", node);
        return true;
      case "restart":
        told(`${node} is ended in order, and started again`);
        await this.#store.command("restart", node);
        return true;
      case "wipe": {
        const what = this.#pick(WIPES);
        told(`${node} loses ${what}`);
        await this.#store.command("wipe", node, { what });
        return true;
      }
      case "corrupt":
        return this.#corrupt(node);
      case "pause":
        told(`${node} is stopped ${lasting}`);
        this.#store.signal(node, "SIGSTOP");
        this.#later(node, forMs, () => this.#store.signal(node, "SIGCONT"));
        return true;
      case "cut":
      case "freeze":
      case "slow":
        told(`${node}'s connections: ${fault} ${lasting}`);
        this.#store.network(node, WAYS[fault] ?? "open");
        this.#later(node, forMs, () => this.#store.network(node, "open"));
        return true;
    }
  }

  async #corrupt(node: string): Promise<boolean> {
    try {
      await this.#store.command("corrupt", node);
    } catch (error) {
      // Its log was just begun anew: there was nothing to damage.
      if (!String(error).includes("no log to damage")) throw error;
      return false;
    }
    this.#options.told(`${node}'s log is damaged`);
    return true;
  }

  #nodes(): readonly string[] {
    return this.#store.status()?.pods.map(({ name }) => name) ?? [];
  }

  /** A majority is always left that nothing was done to; what is lost must be held by it. */
  #mayHurt(node: string, loses: boolean): boolean {
    const shard = this.#store.status()?.shards[0];
    if (shard === undefined) return false;
    const others = shard.replicas.filter((replica) => replica.node !== node);
    const sound = others.filter(({ node: other, voting }) => voting && !this.#hurt.has(other));
    if (sound.length > shard.ensemble.length / 2) return true;
    // A process that only restarts keeps what it holds.
    return !loses && this.#hurt.size === 0;
  }

  #later(node: string, delayMs: number, undo: () => void): void {
    this.#hurt.set(node, { undo, timer: setTimeout(() => this.#heal(node), delayMs) });
  }

  #heal(node: string): void {
    const hurt = this.#hurt.get(node);
    clearTimeout(hurt?.timer);
    this.#hurt.delete(node);
    hurt?.undo();
  }

  #pick<const T>(from: readonly T[]): T {
    return from[Math.floor(this.#random() * from.length)] as T;
  }

  async #pause(delayMs: number, signal: AbortSignal): Promise<void> {
    await sleep(delayMs, undefined, { signal }).catch(() => undefined);
  }
}
