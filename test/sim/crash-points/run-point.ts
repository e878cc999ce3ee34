import { Chance } from "../chance.ts";
import { type Alterations, SimCluster } from "../cluster.ts";
import { Nemesis } from "../nemesis.ts";
import { optionsOf } from "../options.ts";
import { judgeTouched, trapRealWorld } from "../real-world-trap.ts";
import type { Violation } from "../referee.ts";
import { StoreLife } from "../store-life.ts";
import { Trace } from "../trace.ts";
import { Workload } from "../workload.ts";
import { SCENARIOS } from "./scenario.ts";
import { lossOf, type Outcome, type Outcomes, outcomesOf } from "./outcomes.ts";

/** Where and how the victim loses its power. */
export interface CrashPoint {
  /** Index of the scenario. */
  readonly scenario: number;
  /** Before which change of the disk since the operation began, from 1; 0: at none. */
  readonly change: number;
  /** What is left of the changes that were not synced. */
  readonly outcome: Outcome;
  /** What was on the disk before the operation is durable when it begins. */
  readonly settled: boolean;
  /** At most so many outcomes are to be found at this point; 0: none are looked for. */
  readonly outcomesMax: number;
}

/** What came of it. */
export interface PointResult {
  readonly violation: Violation | null;
  /** Changes of the victim's disk that the operation made; of a whole run only. */
  readonly changes: number;
  /** What the crash can leave; null: it never came, or that was not asked for. */
  readonly outcomes: Outcomes | null;
  readonly newestLines: readonly string[];
}

const OPERATION_MS = 30_000;
const WARMUP_WRITES = 12;

/** Runs a scenario to its end with one crash in it, and judges what is there afterwards. */
export async function runPoint(
  point: CrashPoint,
  sink: ((line: string) => void) | null = null,
  alterations: Alterations = {},
): Promise<PointResult> {
  const scenario = SCENARIOS[point.scenario]?.();
  if (scenario === undefined) throw new RangeError(`scenario ${point.scenario}: none such`);
  const touched: string[] = [];
  const untrap = trapRealWorld(touched);
  try {
    const chance = new Chance(point.scenario + 1);
    const trace = new Trace(200, sink);
    const part = (): Chance => new Chance(chance.below(2 ** 31));
    const options = { ...optionsOf(point.scenario + 1, chance), ...OPTIONS };
    const cluster = new SimCluster(options, part(), trace, alterations);
    const life = new StoreLife(
      cluster,
      new Nemesis(cluster, part()),
      new Workload(cluster, part()),
    );
    let outcomes: Outcomes | null = null;
    const fail = (message: string): void => cluster.referee.violate("scenario", message);
    let changes = 0;
    if (!(await life.start()) || !(await life.writes(WARMUP_WRITES))) fail("it did not start");
    else if (!(await life.until("L1", OPERATION_MS, () => life.settled() === null))) fail("L1");
    else if (scenario.prepare !== undefined && !(await scenario.prepare(life))) {
      fail(`${scenario.name}: it could not be prepared`);
    } else {
      const victim = scenario.victim(life);
      let from = 0;
      await scenario.act(life, () => {
        from = victim.operations;
        if (point.settled) victim.disk.settle();
        if (point.change > 0) victim.dieAtChange = from + point.change;
        victim.fate = (disk) => {
          if (point.outcomesMax > 0) outcomes ??= outcomesOf(disk, point.outcomesMax);
          return lossOf(point.outcome);
        };
      });
      const over = (): boolean => life.broken() || scenario.done(life);
      await cluster.time.run(OPERATION_MS, over);
      changes = victim.operations - from;
      victim.dieAtChange = 0;
      victim.fate = null;
      await end(life);
    }
    judgeTouched(cluster.referee, touched);
    const { violation } = cluster.referee;
    return { violation, changes, outcomes, newestLines: trace.newest() };
  } finally {
    untrap();
  }
}

async function end(life: StoreLife): Promise<void> {
  life.cluster.network.unblockAll();
  if (!(await life.recovered()) || !(await life.writes(3))) return;
  if (await life.until("L1", OPERATION_MS, () => life.settled() === null)) await life.judgeEnd();
}

const OPTIONS = {
  quiet: null,
  lasting: null,
  kube: null,
  namespaces: [1],
  nodes: 3,
  spares: 1,
  faults: ["crash"],
  record: { failBefore: 0, failAfter: 0 },
  network: { latencyMsMin: 0.05, latencyMsMax: 0.5, slowOneIn: 0, slowMs: 1 },
  snapshotBytesPerSecond: 0,
  clients: 1,
  keys: 16,
  thinkMs: 5,
  valueBytes: 200,
  replica: {
    segmentBytes: 4096,
    walRetentionMs: 0,
    walRetentionBytes: 0,
    snapshotChunkBytes: 512,
    checkpointIntervalMs: 100,
    entryCacheBytes: 1 << 20,
    tailEntriesMax: 4,
    clientFreeBytesMin: 0,
    freeBytesMin: 0,
    clientStateFreeBytesMin: 0,
    stateFreeBytesMin: 0,
  },
} as const;
