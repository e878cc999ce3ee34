import type { CoordinatorOptions } from "../../operator/controller/coordinator.ts";
import { ServingStatus } from "../../sidecar/protocol/status.ts";
import type { NodeOptions } from "../../sidecar/runtime/node.ts";
import { checkLinearizable } from "../linearizability/check.ts";
import { Chance } from "./chance.ts";
import { SimCluster } from "./cluster.ts";
import { Nemesis } from "./nemesis.ts";
import { optionsOf, type Fault, type SimOptions } from "./options.ts";
import type { SimNode } from "./sim-node.ts";
import { trapRealWorld } from "./real-world-trap.ts";
import type { Violation } from "./referee.ts";
import { Trace } from "./trace.ts";
import { Workload, type WorkloadCounts } from "./workload.ts";

/** Virtual time within which a healthy store starts, and a healed one has recovered (L1, L2). */
const START_MS = 20_000;
const RECOVERY_MS = 60_000;
const WRITES_AT_END = 5;
const LINEARIZABILITY_STEPS_MAX = 200_000;

/** How a run went. */
export interface SimResult {
  readonly seed: number;
  readonly options: SimOptions;
  readonly violation: Violation | null;
  readonly traceHash: string;
  readonly newestLines: readonly string[];
  readonly simulatedMs: number;
  readonly events: number;
  readonly faults: ReadonlyMap<Fault, number>;
  readonly wipes: number;
  readonly counts: WorkloadCounts;
  /** Longest virtual time from the end of the faults until every replica voted again. */
  readonly recoveryMs: number;
  /** The search for an order of all requests was given up (I18). */
  readonly undecided: boolean;
}

/** How to run a seed. */
export interface SimSettings {
  readonly seed: number;
  /** Takes every line of the trace. */
  readonly sink?: (line: string) => void;
  /** Replaces some of what the seed would draw. */
  readonly force?: Partial<SimOptions>;
  /** Break a part of every node or coordinator, to prove that a checker notices. */
  readonly alterNode?: (options: NodeOptions) => NodeOptions;
  readonly alterCoordinator?: (options: CoordinatorOptions) => CoordinatorOptions;
}

/** Runs one seed: starts a store, harms it while clients write, heals it, and judges. */
export async function simulate(settings: SimSettings): Promise<SimResult> {
  const touched: string[] = [];
  const run = new Run(settings);
  const floating = (reason: unknown): void => {
    const why = reason instanceof Error ? (reason.stack ?? reason.message) : String(reason);
    run.cluster.referee.violate("broken", `a promise that nobody awaits was rejected: ${why}`);
  };
  process.on("unhandledRejection", floating);
  const untrap = trapRealWorld(touched);
  try {
    await run.all();
    if (touched.length > 0) {
      run.cluster.referee.violate("determinism", `${touched.join(", ")} used in the simulation`);
    }
    return run.result();
  } finally {
    untrap();
    process.off("unhandledRejection", floating);
  }
}

class Run {
  readonly cluster: SimCluster;
  readonly #settings: SimSettings;
  readonly #options: SimOptions;
  readonly #trace: Trace;
  readonly #nemesis: Nemesis;
  readonly #workload: Workload;
  #recoveryMs = 0;
  #undecided = false;

  constructor(settings: SimSettings) {
    this.#settings = settings;
    const chance = new Chance(settings.seed);
    this.#options = { ...optionsOf(settings.seed, chance), ...settings.force };
    this.#trace = new Trace(400, settings.sink ?? null);
    const part = (): Chance => new Chance(chance.below(2 ** 31));
    this.cluster = new SimCluster(this.#options, part(), this.#trace, settings);
    this.#nemesis = new Nemesis(this.cluster, part());
    this.#workload = new Workload(this.cluster, part());
  }

  async all(): Promise<void> {
    const { cluster } = this;
    for (const node of cluster.nodes) cluster.boot(node);
    cluster.startCoordinator();
    if (!(await this.#until("L2", START_MS, () => this.#healthy() === null))) return;
    if (!(await this.#writes(this.#options.warmupWrites))) return;
    this.#workload.start();
    this.#nemesis.start();
    await cluster.time.run(this.#options.safetyMs, () => this.#broken());
    if (this.#options.quietEnd) this.#workload.stop();
    this.#nemesis.heal();
    cluster.note("-", "everything is healed");
    if (!(await this.#recovered())) return;
    this.#workload.stop();
    if (this.#options.finalPowerLoss && !(await this.#powerLoss())) return;
    if (this.#options.finalWipe && !(await this.#wipeFollowers())) return;
    if (!(await this.#writes(WRITES_AT_END))) return;
    if (!(await this.#until("L1", RECOVERY_MS, () => this.#settled() === null))) return;
    await this.#judgeEnd();
  }

  result(): SimResult {
    const { cluster } = this;
    return {
      seed: this.#settings.seed,
      options: this.#options,
      violation: cluster.referee.violation,
      traceHash: this.#trace.hash,
      newestLines: this.#trace.newest(),
      simulatedMs: cluster.time.nowMs,
      events: cluster.time.events,
      faults: this.#nemesis.injected,
      wipes: this.#nemesis.wipes,
      counts: this.#workload.counts,
      recoveryMs: this.#recoveryMs,
      undecided: this.#undecided,
    };
  }

  async #recovered(): Promise<boolean> {
    const fromMs = this.cluster.time.nowMs;
    const done = await this.#until("L1", RECOVERY_MS, () => this.#healthy() === null);
    this.#recoveryMs = Math.max(this.#recoveryMs, this.cluster.time.nowMs - fromMs);
    return done;
  }

  async #powerLoss(): Promise<boolean> {
    const { cluster } = this;
    for (const node of cluster.nodes) {
      cluster.kill(node, { power: true, silent: false });
      cluster.bootLater(node, 100);
    }
    await cluster.time.run(200, () => this.#broken());
    return this.#recovered();
  }

  /**
   * The leader, which never restarted, holds everything acknowledged: all others are rebuilt from
   * it.
   */
  async #wipeFollowers(): Promise<boolean> {
    const { cluster } = this;
    // A write under way may be held by followers alone for a moment; the bet is on what is
    // acknowledged.
    if (!(await this.#until("L1", RECOVERY_MS, () => this.#settled() === null))) return false;
    const leader = cluster.record?.leader?.node;
    for (const node of this.#members()) {
      if (node.name !== leader) this.#nemesis.takeDisk(node);
    }
    cluster.coordinatorDiesAfter = 5;
    await cluster.time.run(1_000, () => this.#broken());
    if (!(await this.#recovered())) return false;
    return !this.#options.finalElection || this.#loseLeader();
  }

  /** Those who were rebuilt hold it all: one of them leads while the old leader is away. */
  async #loseLeader(): Promise<boolean> {
    const { cluster } = this;
    const name = cluster.record?.leader?.node ?? "";
    const { leader } = cluster.record ?? {};
    cluster.kill(cluster.node(name), { power: false, silent: false });
    const other = (): boolean => {
      const now = cluster.record?.leader ?? null;
      return now !== null && now.uid !== leader?.uid;
    };
    if (!(await this.#until("L2", RECOVERY_MS, other))) return false;
    cluster.boot(cluster.node(name));
    return this.#recovered();
  }

  /** L2: writes are accepted within the bound. */
  async #writes(count: number): Promise<boolean> {
    let written = false;
    void this.#workload.writeAll(count).then(() => {
      written = true;
    });
    return this.#until("L2", RECOVERY_MS, () => written);
  }

  async #until(invariant: string, boundMs: number, done: () => boolean): Promise<boolean> {
    const { cluster } = this;
    const reached = await cluster.time.run(boundMs, () => this.#broken() || done());
    if (this.#broken()) return false;
    if (!reached) {
      const why = this.#settled() ?? "writes are not acknowledged";
      const views = cluster.coordinators.map(({ coordinator }) => coordinator.views());
      const seen = cluster.nodes.map((node) => node.replica?.status());
      const known = { record: cluster.record, views, seen };
      cluster.note("-", JSON.stringify(known, null, 1));
      cluster.referee.violate(invariant, `not within ${boundMs} ms: ${why}`);
    }
    return reached;
  }

  /** The nodes that the record names. */
  #members(): readonly SimNode[] {
    const { record, nodes } = this.cluster;
    return nodes.filter(({ name }) => record?.members.some(({ node }) => node === name) === true);
  }

  #broken(): boolean {
    return this.cluster.referee.violation !== null;
  }

  /**
   * What keeps the store from being whole; null when every replica votes under a serving leader.
   */
  #healthy(): string | null {
    const { record } = this.cluster;
    if (record === null || record.leader === null) return "nobody leads";
    const { desired, ensemble, members, next } = record;
    if (next !== undefined) return `the ensemble changes to ${next.ensemble.join(", ")}`;
    if (ensemble.length !== desired.length || !desired.every((node) => ensemble.includes(node))) {
      return `the ensemble is ${ensemble.join(", ")}, wanted is ${desired.join(", ")}`;
    }
    if (members.length !== ensemble.length) return "not all replicas are members, or too many";
    for (const member of record.members) {
      const status = this.cluster.node(member.node).replica?.status();
      if (status === undefined) return `${member.node} has no replica`;
      if (member.role !== "voter") return `${member.node} is a ${member.role}`;
      if (status.replicaUid !== member.replicaUid) return `${member.node} was wiped`;
      if (status.fault !== "") return `${member.node}: ${status.fault}`;
      if (status.term !== record.term) return `${member.node} is in term ${status.term}`;
    }
    const leader = this.cluster.node(record.leader.node).replica?.status();
    if (leader?.status !== ServingStatus.LEADER || !leader.serving)
      return "the leader does not serve";
    const { followers } = leader;
    if (followers.length !== ensemble.length - 1) return "the leader does not feed everybody";
    const idle = followers.find((one) => one.state !== "Stream");
    return idle === undefined ? null : `${idle.node} is fed as ${idle.state}`;
  }

  /** Also: every replica holds and has applied all of the leader's log. */
  #settled(): string | null {
    const sick = this.#healthy();
    if (sick !== null) return sick;
    const statuses = this.#members().map((node) => node.replica?.status());
    const head = Math.max(...statuses.map((status) => status?.head?.offset ?? -1));
    const behind = statuses.find((status) => status?.appliedOffset !== head);
    return behind === undefined
      ? null
      : `${behind.node} applied ${behind.appliedOffset} of ${head}`;
  }

  /**
   * Every acknowledged write is in the model, and every state machine is what the model says (I6).
   */
  async #judgeEnd(): Promise<void> {
    const { referee } = this.cluster;
    await this.cluster.inspectAll();
    for (const [value, key] of this.#workload.acknowledged) {
      if (referee.model.putOf(value) !== null) continue;
      referee.violate("I7", `${key}=${value} was acknowledged and is in no committed entry`);
    }
    const { history } = this.#workload;
    const verdict = checkLinearizable(history, LINEARIZABILITY_STEPS_MAX);
    if (verdict.kind === "violation") referee.violate("I18", verdict.witness);
    this.#undecided = verdict.kind === "undecided";
    const applied = new Set(
      this.#members().map((node) => node.replica?.status().appliedOffset ?? -1),
    );
    if (applied.size !== 1) referee.violate("I6", `replicas end at ${[...applied].join(", ")}`);
  }
}
