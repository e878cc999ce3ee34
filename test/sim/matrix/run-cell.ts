import { Chance } from "../chance.ts";
import { SimCluster } from "../cluster.ts";
import { type DiskImage, imageOf } from "../disk-image.ts";
import { Nemesis } from "../nemesis.ts";
import { optionsOf, type SimOptions } from "../options.ts";
import { judgeTouched, trapRealWorld } from "../real-world-trap.ts";
import type { Violation } from "../referee.ts";
import type { SimNode } from "../sim-node.ts";
import { StoreLife } from "../store-life.ts";
import { Trace } from "../trace.ts";
import { Workload } from "../workload.ts";
import { type Cell, cellText } from "./cell.ts";
import { SNAPSHOT_CHUNK_BYTES } from "./phase.ts";

const PHASE_MS = 30_000;
const WARMUP_WRITES = 60;
const RESTART_MS = 100;

/** How a cell went. */
export interface CellResult {
  readonly index: number;
  readonly violation: Violation | null;
  /** The moment came, and the victim's disk was lost. */
  readonly reached: boolean;
  /** Longest virtual time from one of its losses until all voted again. */
  readonly recoveryMs: number;
  /** It was to lose a disk twice, and nobody could afford the second loss. */
  readonly secondSpared: boolean;
  readonly newestLines: readonly string[];
}

/** Runs one cell of the matrix. */
export async function runCell(
  cell: Cell,
  sink: ((line: string) => void) | null = null,
): Promise<CellResult> {
  const touched: string[] = [];
  const untrap = trapRealWorld(touched);
  try {
    const run = new CellRun(cell, sink);
    const reached = await run.all();
    judgeTouched(run.life.cluster.referee, touched);
    const { violation } = run.life.cluster.referee;
    const why = run.secondSpared ? "its second loss was never possible" : "its phase never came";
    const unreached = { invariant: "matrix", message: `${cellText(cell)}: ${why}` };
    return {
      index: cell.index,
      violation: violation ?? (reached ? null : unreached),
      reached,
      recoveryMs: run.recoveryMs,
      secondSpared: run.secondSpared,
      newestLines: run.trace.newest(),
    };
  } finally {
    untrap();
  }
}

class CellRun {
  readonly life: StoreLife;
  readonly trace: Trace;
  recoveryMs = 0;
  secondSpared = false;
  readonly #cell: Cell;
  readonly #chance: Chance;
  readonly #images = new Map<string, DiskImage>();

  constructor(cell: Cell, sink: ((line: string) => void) | null) {
    this.#cell = cell;
    const chance = new Chance(cell.index + 1);
    const options = { ...optionsOf(cell.index + 1, chance), ...optionsFor(cell) };
    this.trace = new Trace(200, sink);
    const part = (): Chance => new Chance(chance.below(2 ** 31));
    const cluster = new SimCluster(options, part(), this.trace);
    this.life = new StoreLife(cluster, new Nemesis(cluster, part()), new Workload(cluster, part()));
    this.#chance = part();
  }

  /** True when everything came that the cell is made of, or something broke before. */
  async all(): Promise<boolean> {
    const { life } = this;
    if (!(await this.#prepare())) return false;
    if (this.#cell.load === "writing") life.workload.start();
    if (!(await this.#loseAtPhase())) return false;
    if (!(await this.#recoveredFromLoss())) return true;
    if (this.#cell.times === "twice") {
      // The same role again, once it votes and can be spared; whoever has it now.
      const possible = (): boolean => life.nemesis.atlas.mayLose(this.#victim(""));
      await life.cluster.time.run(PHASE_MS, () => life.broken() || possible());
      this.secondSpared = !life.broken() && !possible();
      if (this.secondSpared) return false;
      this.#lose(this.#victim(""));
      if (!(await this.#recoveredFromLoss())) return true;
    }
    life.workload.stop();
    if (!(await life.writes(5))) return true;
    if (await life.until("L1", 60_000, () => life.settled() === null)) await life.judgeEnd();
    return true;
  }

  /** Called at a loss: only from there on counts what a recovery takes. */
  async #recoveredFromLoss(): Promise<boolean> {
    const { time } = this.life.cluster;
    const fromMs = time.nowMs;
    const recovered = await this.life.recovered();
    this.recoveryMs = Math.max(this.recoveryMs, time.nowMs - fromMs);
    return recovered;
  }

  async #prepare(): Promise<boolean> {
    const { life } = this;
    const { cluster } = life;
    if (!(await life.start()) || !(await life.writes(WARMUP_WRITES))) return false;
    if (!(await life.until("L1", 60_000, () => life.settled() === null))) return false;
    if (this.#cell.log === "rebuilt" && !(await this.#leadFromSnapshot())) return false;
    if (this.#cell.loss !== "rollback") return true;
    for (const node of cluster.nodes) {
      if (node.replicas().length === 0) continue;
      this.#images.set(node.name, imageOf(node, node.name.charCodeAt(0)));
    }
    // Only an image of an older term is told from its node's own disk (R3).
    return this.#elect();
  }

  /** Whoever was rebuilt leads: its log begins at its snapshot. */
  async #leadFromSnapshot(): Promise<boolean> {
    const { life } = this;
    const rebuilt = this.#victimOf("follower", "");
    life.nemesis.takeDisk(rebuilt);
    if (!(await life.recovered())) return false;
    return this.#elect(rebuilt.name);
  }

  async #elect(prefer = this.#victimOf("follower", "").name): Promise<boolean> {
    const { cluster } = this.life;
    const before = cluster.shard.record?.term ?? -1;
    cluster.coordinators[0]?.coordinator.preferLeader(cluster.shard.key, prefer);
    const raised = (): boolean => (cluster.shard.record?.term ?? -1) > before;
    return (await this.life.until("L2", 60_000, raised)) && this.life.recovered();
  }

  /** Brings the phase about, and takes the victim's disk when it comes. */
  async #loseAtPhase(): Promise<boolean> {
    const { phase, victim } = this.#cell;
    const { cluster, nemesis } = this.life;
    let learner = "";
    if (phase.during === "recovery" || victim === "learner") {
      const first = this.#victimOf("follower", "");
      learner = first.name;
      if (!nemesis.atlas.mayLose(first)) return false;
    }
    const watch = {
      cluster,
      learner,
      termBefore: cluster.shard.record?.term ?? -1,
      installRenames: 0,
    };
    let reached = phase.during === "nothing" && victim !== "learner";
    let lost = false;
    const arm = (): void => {
      cluster.probe = (step) => {
        if (reached || !phase.reached(step, watch)) return;
        reached = true;
        cluster.time.after(0, null, "the phase is reached", () => {
          lost = this.#loseNow(learner);
        });
      };
    };
    if (reached) lost = this.#loseNow(learner);
    else await this.#begin(learner, arm);
    await cluster.time.run(PHASE_MS, () => lost || this.life.broken());
    cluster.probe = () => undefined;
    return lost;
  }

  /** Starts what the phase belongs to; `arm` once only the phase itself is still to come. */
  async #begin(learner: string, arm: () => void): Promise<void> {
    const { phase } = this.#cell;
    const { cluster, nemesis } = this.life;
    if (phase.during === "recovery") arm();
    if (learner !== "") nemesis.takeDisk(cluster.node(learner));
    if (phase.during === "recovery") return;
    if (learner !== "") {
      const learns = (): boolean =>
        cluster.shard.record?.members.some(
          ({ node, role }) => node === learner && role === "learner",
        ) === true;
      await cluster.time.run(PHASE_MS, () => learns() || this.life.broken());
    }
    arm();
    const { coordinator } = cluster.coordinators[0] ?? {};
    const { record } = cluster.shard;
    if (phase.during === "election") {
      const others = record?.members.filter(
        ({ node, role }) => role === "voter" && node !== record.leader?.node,
      );
      coordinator?.preferLeader(cluster.shard.key, others?.[0]?.node ?? "");
    }
    if (phase.during !== "ensembleChange" || record === null) return;
    const [leaves] = record.ensemble.filter(
      (node) => node !== record.leader?.node && node !== learner,
    );
    const spare = cluster.nodes.find(({ name }) => !record.ensemble.includes(name))?.name ?? "";
    const wanted = record.ensemble.map((node) => (node === leaves ? spare : node));
    coordinator?.changeEnsemble(cluster.shard.key, wanted).catch(() => undefined);
  }

  #loseNow(learner: string): boolean {
    const { cluster, nemesis } = this.life;
    const victim = this.#victim(learner);
    // By now too few might be left with their data: this cell's loss would be one too many.
    if (!nemesis.atlas.mayLose(victim)) return false;
    if (this.#cell.times === "coordinator too") cluster.coordinatorDiesAfter = 1;
    this.#lose(victim);
    return true;
  }

  #victim(learner: string): SimNode {
    const { victim } = this.#cell;
    if (victim === "learner" && learner !== "") return this.life.cluster.node(learner);
    return this.#victimOf(victim === "leader" ? "leader" : "follower", learner);
  }

  /** The leader, or a voter that follows it. */
  #victimOf(role: "leader" | "follower", except: string): SimNode {
    const { cluster } = this.life;
    const { record } = cluster.shard;
    const leader = record?.leader?.node ?? cluster.nodes[0]?.name ?? "";
    if (role === "leader") return cluster.node(leader);
    const voters = record?.members.filter(
      (member) => member.role === "voter" && member.node !== leader && member.node !== except,
    );
    return cluster.node(voters?.[0]?.node ?? leader);
  }

  #lose(node: SimNode): void {
    const { cluster, nemesis } = this.life;
    const { loss } = this.#cell;
    const image = this.#images.get(node.name);
    if (loss === "rollback" && image !== undefined) {
      nemesis.setBack(node, { ...image, disk: image.disk.clone(this.#chance.below(2 ** 31)) });
    } else {
      cluster.kill(node, { power: true, silent: this.#chance.happens(0.3) });
      cluster.note(node.name, `loses ${loss}`);
      if (loss === "cookie")
        node.wipeCookie(cluster.shard.key, this.#chance.happens(0.5) ? "wal" : "state");
      else node.wipe(loss === "wal" || loss === "state" ? [loss] : ["wal", "state"]);
    }
    cluster.bootLater(node, RESTART_MS);
  }
}

function optionsFor({ phase, victim, log }: Cell): Partial<SimOptions> {
  // A loss during somebody else's recovery leaves three of five with their data.
  const nodes = phase.during === "recovery" && victim !== "learner" ? 5 : 3;
  const trimmed = log === "trimmed";
  return {
    nodes,
    quiet: null,
    lasting: null,
    kube: null,
    namespaces: [1],
    spares: phase.during === "ensembleChange" ? 1 : 0,
    record: { failBefore: 0, failAfter: 0 },
    snapshotBytesPerSecond: victim === "learner" && phase.during !== "recovery" ? 8_000 : 0,
    clients: 2,
    keys: 16,
    thinkMs: 30,
    valueBytes: 60,
    replica: {
      segmentBytes: trimmed ? 4096 : 262_144,
      walRetentionMs: trimmed ? 0 : 3_600_000,
      walRetentionBytes: trimmed ? 0 : 1 << 30,
      snapshotChunkBytes: SNAPSHOT_CHUNK_BYTES,
      checkpointIntervalMs: trimmed ? 100 : 2_000,
      entryCacheBytes: 1 << 20,
      tailEntriesMax: 8,
      clientFreeBytesMin: 0,
      freeBytesMin: 0,
      clientStateFreeBytesMin: 0,
      stateFreeBytesMin: 0,
    },
  };
}
