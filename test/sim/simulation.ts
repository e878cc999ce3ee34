import type { CoordinatorOptions } from "../../operator/controller/coordinator.ts";
import type { NodeOptions } from "../../sidecar/runtime/node.ts";
import { SlicePace } from "../../sidecar/state/slice-pace.ts";
import { Chance } from "./chance.ts";
import { SimCluster } from "./cluster.ts";
import { DeadMinority } from "./dead-minority.ts";
import { imageOf } from "./disk-image.ts";
import { Nemesis } from "./nemesis.ts";
import { Person } from "./person.ts";
import { optionsOf, type Fault, type SimOptions } from "./options.ts";
import { replaceGetter } from "./patch.ts";
import type { SimNode } from "./sim-node.ts";
import type { SimShard } from "./sim-shard.ts";
import { StoreLife } from "./store-life.ts";
import { judgeTouched, trapRealWorld } from "./real-world-trap.ts";
import type { Violation } from "./referee.ts";
import { Trace } from "./trace.ts";
import { Workload, type WorkloadCounts } from "./workload.ts";

/** Virtual time within which somebody leads after the leader went (L2). */
const RECOVERY_MS = 60_000;
const WRITES_AT_END = 5;
/** Lines of a trace that are kept for whoever reads a failure. */
const NEWEST_LINES = 1_200;
/** How long the clients are busy before a quiet time. */
const BUSY_MS = 1_000;
/** Events of busy clients are what costs real time; a quiet time is to show something else. */
const WRITES_BEFORE_QUIET_MAX = 40;
/** Orders to a coordinator are carried out, or given up, by then. */
const ORDERS_MS = 2_000;

/** How a run went. */
export interface SimResult {
  readonly seed: number;
  readonly options: SimOptions;
  /** The first invariant that did not hold. */
  readonly violation: Violation | null;
  /** And those that did not hold after the same event. */
  readonly violations: readonly Violation[];
  readonly traceHash: string;
  readonly newestLines: readonly string[];
  readonly simulatedMs: number;
  readonly events: number;
  readonly faults: ReadonlyMap<Fault, number>;
  /** Faults that the nemesis left out, since nobody's majority would have survived them. */
  readonly spared: ReadonlyMap<Fault, number>;
  readonly wipes: number;
  readonly rollbacks: number;
  readonly damages: number;
  readonly counts: WorkloadCounts;
  /** Longest virtual time from the end of the faults until every replica voted again. */
  readonly recoveryMs: number;
  /** An order of all requests was only found, or ruled out, at the second attempt (I18). */
  readonly hardToOrder: boolean;
  /** Nodes that were not healed with the others. */
  readonly leftDead: number;
  /** Stops that a person ended. */
  readonly stops: number;
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
  const reslice = sliceBy(run.cluster.options.sliceKeys);
  const untrap = trapRealWorld(touched);
  try {
    await run.all();
    judgeTouched(run.cluster.referee, touched);
    return run.result();
  } finally {
    untrap();
    reslice();
    process.off("unhandledRejection", floating);
  }
}

/** Makes slices of checkpoints so small that those of a few keys have several, until undone. */
function sliceBy(keys: number): () => void {
  return keys === 0 ? () => undefined : replaceGetter(SlicePace.prototype, "keys", () => keys);
}

/** The term and who leads it, by the record. */
function ledBy({ record }: SimShard): string {
  return `${record?.term} ${record?.leader?.node}`;
}

class Run {
  readonly cluster: SimCluster;
  readonly #settings: SimSettings;
  readonly #options: SimOptions;
  readonly #trace: Trace;
  readonly #nemesis: Nemesis;
  readonly #workload: Workload;
  readonly #life: StoreLife;
  readonly #minority: DeadMinority | null;
  readonly #person: Person | null;
  #leftDead = 0;

  constructor(settings: SimSettings) {
    this.#settings = settings;
    const chance = new Chance(settings.seed);
    this.#options = { ...optionsOf(settings.seed, chance), ...settings.force };
    this.#trace = new Trace(NEWEST_LINES, settings.sink ?? null);
    const part = (): Chance => new Chance(chance.below(2 ** 31));
    this.cluster = new SimCluster(this.#options, part(), this.#trace, settings);
    this.#nemesis = new Nemesis(this.cluster, part());
    this.#workload = new Workload(this.cluster, part());
    this.#life = new StoreLife(this.cluster, this.#nemesis, this.#workload);
    const { lasting } = this.#options;
    this.#minority =
      lasting === null ? null : new DeadMinority(this.cluster, this.#nemesis, lasting, part());
    const { kube } = this.cluster;
    this.#person = kube === null ? null : new Person(this.cluster, kube, this.#life, part());
  }

  async all(): Promise<void> {
    const { cluster } = this;
    if (!(await this.#life.start())) return;
    const { warmupWrites, quiet } = this.#options;
    const first = quiet === null ? warmupWrites : Math.min(warmupWrites, WRITES_BEFORE_QUIET_MAX);
    // As many in all as one shard would get.
    if (!(await this.#life.writes(Math.ceil(first / cluster.shards.length)))) return;
    this.#workload.start();
    this.#nemesis.start();
    await this.#harm();
    if (this.#options.quietEnd) this.#workload.stop();
    this.#nemesis.heal();
    this.#workload.rest(0);
    cluster.note("-", "everything is healed");
    this.#minority?.strike();
    this.#leftDead = cluster.dead.size;
    if (!(await this.#life.recovered())) return;
    this.#workload.stop();
    if (this.#options.finalPowerLoss && !(await this.#powerLoss())) return;
    if (this.#options.finalRollback && !(await this.#setBackInTerm())) return;
    if (this.#options.finalWipe && !(await this.#wipeFollowers())) return;
    if (!(await this.#settlesAgain())) return;
    if (this.#options.lasting?.returns === true && !(await this.#deadReturn())) return;
    if (!(await this.#recordReturns()) || !(await this.#quorumForced())) return;
    await this.#life.judgeEnd();
  }

  /** Writes go on, and all who are owed anything come to hold all of them. */
  async #settlesAgain(): Promise<boolean> {
    if (!(await this.#life.writes(WRITES_AT_END))) return false;
    return this.#life.until("L1", RECOVERY_MS, () => this.#life.settled() === null);
  }

  /** Those that stayed dead so far join as any late follower does (L3). */
  async #deadReturn(): Promise<boolean> {
    this.#minority?.end();
    return (await this.#life.recovered()) && this.#settlesAgain();
  }

  /** The record is lost, or set back, and nothing happens until a person helps (R11, R18). */
  async #recordReturns(): Promise<boolean> {
    const { finalRecord = "kept" } = this.#options.kube ?? {};
    if (finalRecord === "kept") return true;
    const shard = this.#nemesis.anyShard();
    const older = finalRecord === "setBack" ? (this.#nemesis.kube?.olderCopy(shard) ?? null) : null;
    // No copy is old enough for anybody to know.
    if (finalRecord === "setBack" && older === null) return true;
    const back = (await this.#person?.putsRecordBack(shard, older)) ?? true;
    return back && this.#settlesAgain();
  }

  /** Only one replica keeps its disk, and nothing happens until a person says so. */
  async #quorumForced(): Promise<boolean> {
    const { finalForce = false } = this.#options.kube ?? {};
    if (!finalForce || this.cluster.dead.size > 0) return true;
    const forced = (await this.#person?.forcesQuorum()) ?? true;
    return forced && this.#settlesAgain();
  }

  result(): SimResult {
    const { cluster } = this;
    return {
      seed: this.#settings.seed,
      options: this.#options,
      violation: cluster.referee.violation,
      violations: cluster.referee.violations,
      traceHash: this.#trace.hash,
      newestLines: this.#trace.newest(),
      simulatedMs: cluster.time.nowMs,
      events: cluster.time.events,
      faults: this.#nemesis.injected,
      spared: this.#nemesis.spared,
      wipes: this.#nemesis.wipes,
      rollbacks: this.#nemesis.rollbacks,
      damages: this.#nemesis.damages,
      counts: this.#workload.counts,
      recoveryMs: this.#life.recoveryMs,
      hardToOrder: this.#life.hardToOrder,
      leftDead: this.#leftDead,
      stops: this.#person?.stops ?? 0,
    };
  }

  /** The safety phase: faults and requests, in a hurry and then, in some runs, at leisure. */
  async #harm(): Promise<void> {
    const { safetyMs, quiet } = this.#options;
    const { time } = this.cluster;
    const broken = (): boolean => this.#life.broken();
    await time.run(quiet === null ? safetyMs : Math.min(safetyMs, BUSY_MS), broken);
    if (quiet === null || broken()) return;
    this.cluster.note("-", "it becomes quiet");
    this.#workload.rest(quiet.thinkMs);
    this.#nemesis.slowDown(quiet);
    await time.run(quiet.ms, broken);
  }

  async #powerLoss(): Promise<boolean> {
    const { cluster } = this;
    for (const node of cluster.nodes) {
      if (cluster.dead.has(node.name)) continue;
      cluster.kill(node, { power: true, silent: false });
      cluster.bootLater(node, 100);
    }
    await cluster.time.run(200, () => this.#life.broken());
    return this.#life.recovered();
  }

  /**
   * A follower's disk becomes what it was some writes ago, in the same term: its leader, which is
   * the only one that can tell, has it learn before it votes again (R3, H19).
   */
  async #setBackInTerm(): Promise<boolean> {
    const { cluster } = this;
    const life = this.#life;
    const whole = (): boolean => life.settled() === null;
    if (!(await life.until("L1", RECOVERY_MS, whole))) return false;
    const leads = new Set(cluster.shards.map(({ record }) => record?.leader?.node));
    const node = cluster.nodes.find((one) => !leads.has(one.name) && this.#isOwed(one));
    const [replica] = node?.replicas() ?? [];
    if (node === undefined || replica === undefined) return true;
    const image = imageOf(node, replica.status().term);
    const before = cluster.shards.map(ledBy);
    if (!(await life.writes(WRITES_AT_END))) return false;
    // What was acknowledged on the way to the leader may be lost, and nobody knows of it.
    // An election in between would have shown the record more than the leader knows.
    const moved = (): boolean =>
      cluster.shards.some((shard, index) => ledBy(shard) !== before[index]);
    const told = (): boolean =>
      whole() && cluster.shards.every((shard) => this.#isAcknowledged(shard, node.name));
    if (!(await life.until("L1", RECOVERY_MS, () => moved() || told()))) return false;
    if (moved()) return true;
    this.#nemesis.setBack(node, image);
    cluster.bootLater(node, 100);
    // An order from before may still move a leader, and with it goes who can tell.
    const seen = (): boolean =>
      cluster.shards.every(
        (shard, index) => !shard.setBack.has(node.name) || ledBy(shard) !== before[index],
      );
    if (!(await life.until("R3", RECOVERY_MS, seen))) return false;
    return life.recovered();
  }

  #isOwed(node: SimNode): boolean {
    return this.cluster.shards.some((shard) => this.#life.members(shard).includes(node));
  }

  /** True when the leader has heard that this node holds all of its log, if it follows it. */
  #isAcknowledged(shard: SimShard, follower: string): boolean {
    if (!shard.hasMember(follower)) return true;
    const leader = this.cluster.node(shard.record?.leader?.node ?? "");
    const status = shard.replicaOn(leader)?.status();
    const own = status?.followers.find(({ node }) => node === follower);
    return own !== undefined && own.ackOffset === status?.head?.offset;
  }

  /**
   * The leader, which never restarted, holds everything acknowledged: all others are rebuilt from
   * it.
   */
  async #wipeFollowers(): Promise<boolean> {
    const { cluster } = this;
    // An election that somebody had asked for is over by then: it would take the leadership, and
    // with it the knowledge, from the one that is left.
    await cluster.time.run(ORDERS_MS, () => this.#life.broken());
    // A write under way may be held by followers alone for a moment; the bet is on what is
    // acknowledged.
    if (!(await this.#life.until("L1", RECOVERY_MS, () => this.#life.settled() === null)))
      return false;
    const shard = this.#nemesis.anyShard();
    const { atlas } = this.#nemesis;
    const leader = shard.record?.leader?.node;
    // Whoever leads another shard there would lose what makes it know best with its process.
    const isSole = cluster.shards.every(({ record }) => record?.leader?.node === leader);
    const hit = isSole ? cluster.shards : [shard];
    const gone = new Set(cluster.dead);
    for (const node of this.#life.members(shard)) {
      if (node.name === leader || gone.has(node.name)) continue;
      gone.add(node.name);
      // Beside those who stay dead, the leader alone is no majority, however much it knows.
      if (cluster.dead.size > 0 && !atlas.isEnoughWithout(gone, hit)) gone.delete(node.name);
      else if (isSole) this.#nemesis.takeDisk(node);
      else this.#nemesis.takeShard(node, shard);
    }
    cluster.coordinatorDiesAfter = 5;
    await cluster.time.run(1_000, () => this.#life.broken());
    if (!(await this.#life.recovered())) return false;
    const leads = shard.record?.leader?.node ?? "";
    // Of two, for instance, the one that is left is no majority.
    const enough = atlas.isEnoughWithout(new Set([...cluster.dead, leads]));
    return !enough || !this.#options.finalElection || this.#loseLeader(shard);
  }

  /** Those who were rebuilt hold it all: one of them leads while the old leader is away. */
  async #loseLeader(shard: SimShard): Promise<boolean> {
    const { cluster } = this;
    const { leader } = shard.record ?? {};
    const node = cluster.node(leader?.node ?? "");
    cluster.kill(node, { power: false, silent: false });
    const other = (): boolean => {
      const now = shard.record?.leader ?? null;
      return now !== null && now.uid !== leader?.uid;
    };
    if (!(await this.#life.until("L2", RECOVERY_MS, other))) return false;
    cluster.boot(node);
    return this.#life.recovered();
  }
}
