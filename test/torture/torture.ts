import { setTimeout as sleep } from "node:timers/promises";
import type { CoordinatorEvent } from "../../operator/core/events.ts";
import { seededRandom } from "../../operator/local/demo/seeded-random.ts";
import { checkLinearizable, type Verdict } from "../linearizability/check.ts";
import { TestStore } from "../support/local-store.ts";
import { TortureClients } from "./torture-clients.ts";

/** What a torture is asked for. */
export interface TortureOptions {
  readonly seed: number;
  readonly seconds: number;
  readonly replicas: number;
  readonly clients: number;
  /** Told of each fault. */
  readonly told: (what: string) => void;
}

/** What came of it. */
export interface TortureResult {
  readonly operations: number;
  readonly acknowledged: number;
  readonly verdict: Verdict;
  readonly kills: number;
  readonly wipes: number;
  readonly pauses: number;
  readonly cuts: number;
  readonly coordinatorKills: number;
  readonly recoveries: number;
}

const FAULTS = ["kill", "wipe", "corrupt", "pause", "cut", "freeze", "coordinator"] as const;
const WIPES = ["all", "wal", "state"] as const;
const WHOLE_MS = 90_000;

/**
 * A real store of local mode under real faults: processes killed and stopped, disks emptied and
 * damaged, connections cut and frozen, the coordinator ended in the middle of what it does.
 */
export class Torture {
  readonly #options: TortureOptions;
  readonly #store: TestStore;
  readonly #random: () => number;
  readonly #clients: TortureClients;
  readonly #events: CoordinatorEvent[];
  readonly #counts = { kill: 0, wipe: 0, pause: 0, cut: 0, coordinator: 0 };
  /** Nodes that are away for a while by our doing. */
  readonly #hurt = new Set<string>();

  private constructor(options: TortureOptions, store: TestStore) {
    this.#options = options;
    this.#store = store;
    this.#events = store.events;
    this.#random = seededRandom(options.seed);
    const random = seededRandom(options.seed + 1);
    this.#clients = new TortureClients(store.store.servers(), options.clients, random);
  }

  /** Runs it to its end. Rejects when the store does not become whole again. */
  static async run(options: TortureOptions, signal: AbortSignal): Promise<TortureResult> {
    const store = await TestStore.start({ replicas: options.replicas, proxied: true });
    const torture = new Torture(options, store);
    try {
      return await torture.#run(signal);
    } finally {
      await torture.#clients.close();
      await store.close();
    }
  }

  async #run(signal: AbortSignal): Promise<TortureResult> {
    const endMs = performance.now() + this.#options.seconds * 1_000;
    this.#clients.start();
    while (performance.now() < endMs && !signal.aborted) {
      await this.#pause(300 + this.#random() * 1_500, signal);
      await this.#hurtSomebody(signal);
    }
    await this.#heal();
    await this.#store.store.whole(WHOLE_MS);
    await this.#clients.stop();
    await this.#clients.readAll();
    return this.#result();
  }

  #result(): TortureResult {
    const { history } = this.#clients;
    const written = history.filter(
      ({ outcome: { kind } }) => kind === "written" || kind === "deleted",
    );
    return {
      operations: history.length,
      acknowledged: written.length,
      verdict: checkLinearizable(history),
      kills: this.#counts.kill,
      wipes: this.#counts.wipe,
      pauses: this.#counts.pause,
      cuts: this.#counts.cut,
      coordinatorKills: this.#counts.coordinator,
      recoveries: this.#events.filter(({ kind }) => kind === "recoveryCompleted").length,
    };
  }

  async #hurtSomebody(signal: AbortSignal): Promise<void> {
    const fault = this.#pick(FAULTS);
    const { platform } = this.#store.store;
    const node = this.#pick(this.#store.view().replicas.map((replica) => replica.node));
    const forMs = 500 + this.#random() * 4_000;
    if (fault === "coordinator") {
      this.#options.told("the coordinator ends, and another one starts");
      await this.#store.store.stopCoordinator();
      await this.#pause(this.#random() * 1_000, signal);
      this.#store.store.startCoordinator();
      this.#counts.coordinator += 1;
      return;
    }
    if (this.#hurt.has(node) || !this.#mayHurt(node, fault === "wipe" || fault === "corrupt"))
      return;
    switch (fault) {
      case "kill":
        this.#options.told(`${node} is killed`);
        await platform.restart(node);
        this.#counts.kill += 1;
        return;
      case "wipe": {
        const what = this.#pick(WIPES);
        this.#options.told(`${node} loses ${what}`);
        await platform.wipe(node, what);
        this.#counts.wipe += 1;
        return;
      }
      case "corrupt":
        this.#options.told(`${node}'s log is damaged`);
        await platform.corrupt(node).catch(() => undefined);
        this.#counts.wipe += 1;
        return;
      case "pause":
        this.#options.told(`${node} is stopped for ${forMs.toFixed(0)} ms`);
        platform.pod(node).pause();
        this.#counts.pause += 1;
        this.#later(node, forMs, () => platform.pod(node).resume());
        return;
      case "cut":
      case "freeze":
        this.#options.told(`${node}'s connections: ${fault} for ${forMs.toFixed(0)} ms`);
        this.#store.network(node, fault === "cut" ? "cut" : "frozen");
        this.#counts.cut += 1;
        this.#later(node, forMs, () => this.#store.network(node, "open"));
    }
  }

  /** A majority is always left that nothing was done to; what is lost must be held by it. */
  #mayHurt(node: string, loses: boolean): boolean {
    const { replicas, ensemble } = this.#store.view();
    const others = replicas.filter((replica) => replica.node !== node);
    const sound = others.filter(({ node: other, voting }) => voting && !this.#hurt.has(other));
    if (sound.length > ensemble.length / 2) return true;
    // A process that only restarts keeps what it holds.
    return !loses && this.#hurt.size === 0;
  }

  readonly #undo = new Map<string, { readonly act: () => void; readonly timer: NodeJS.Timeout }>();

  #later(node: string, delayMs: number, act: () => void): void {
    this.#hurt.add(node);
    const done = (): void => {
      this.#undo.delete(node);
      this.#hurt.delete(node);
      act();
    };
    this.#undo.set(node, { act: done, timer: setTimeout(done, delayMs) });
  }

  async #heal(): Promise<void> {
    this.#options.told("everything is healed");
    for (const { act, timer } of [...this.#undo.values()]) {
      clearTimeout(timer);
      act();
    }
    this.#store.store.startCoordinator();
    for (const { name, state } of this.#store.store.platform.statuses()) {
      if (state === "stopped") this.#store.store.platform.pod(name).start();
    }
  }

  #pick<T>(from: readonly T[]): T {
    return from[Math.floor(this.#random() * from.length)] as T;
  }

  async #pause(delayMs: number, signal: AbortSignal): Promise<void> {
    await sleep(delayMs, undefined, { signal }).catch(() => undefined);
  }
}
