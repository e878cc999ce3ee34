/** Breadth first through all that can happen within a budget. */
import { xxh3 } from "@node-rs/xxhash";
import { newRecord, type ShardRecord } from "../../../operator/core/record.ts";
import { coordinatorMoves } from "./coordinator-moves.ts";
import { Draft } from "./draft.ts";
import { ensembleMoves, SPARE } from "./ensemble-moves.ts";
import { empty, environmentMoves, type Images } from "./environment-moves.ts";
import { violation } from "./invariants.ts";
import type { Move } from "./move.ts";
import { type DurableState, NodeStates } from "./node-state.ts";
import type { Conduct } from "./rules.ts";
import { type Budget, keyOf, nodeOf, steadyLeader, type World } from "./world.ts";

/** What is searched. */
export interface SearchOptions {
  readonly budget: Budget;
  readonly conduct: Conduct;
  /** The search gives up beyond these. */
  readonly statesMax: number;
  readonly progress?: (states: number, depth: number) => void;
}

/** What was found. */
export interface SearchResult {
  readonly states: number;
  readonly transitions: number;
  readonly nodeStates: number;
  readonly depth: number;
  /** All states within the budget were seen. */
  readonly complete: boolean;
  readonly violation: string | null;
  /** The shortest way to the violation. */
  readonly schedule: readonly string[];
}

interface Reached {
  readonly world: World;
  readonly from: number;
  readonly move: string;
  readonly depth: number;
}

const NODES = ["a", "b", "c"] as const;
const ONE_TERM: Budget = {
  terms: 1,
  writes: 0,
  wipes: 0,
  crashes: 0,
  rollbacks: 0,
  changes: 0,
};
const NOTHING = {
  streams: [],
  election: null,
  order: null,
  ensembleAsked: null,
  confirmed: null,
  proposed: [],
  acknowledged: [],
  fault: "",
} as const;
const PROGRESS_STATES = 20_000;

/** Three replicas, the first of which leads term 0, nothing written yet. */
export class Model {
  readonly states: NodeStates;
  readonly conduct: Conduct;
  readonly start: World;
  images: Images = new Map();

  constructor(budget: Budget, conduct: Conduct) {
    this.conduct = conduct;
    this.states = new NodeStates({ ...conduct, syncsAtOnce: budget.crashes === 0 });
    const { world, images } = this.#bootstrapped(budget);
    this.start = world;
    this.images = images;
  }

  moves(world: World): readonly Move[] {
    return [
      ...environmentMoves(world, this.states, this.images),
      ...coordinatorMoves(world, this.conduct),
      ...ensembleMoves(world, this.conduct),
    ];
  }

  take(world: World, move: Move): World {
    const draft = new Draft(world, this.states);
    move.make(draft);
    return draft.world;
  }

  /**
   * Brought up by the model's own moves, the first that is possible each time. Images for rollbacks
   * are older than the term in which the search begins: in the same term nothing would show it.
   */
  #bootstrapped(budget: Budget): { readonly world: World; readonly images: Images } {
    const names = budget.changes > 0 ? [...NODES, SPARE] : NODES;
    const nodes = new Map(names.map((node) => [node, this.states.begin(node, empty(node))]));
    let world = this.#settled({ ...NOTHING, nodes, record: firstRecord(), left: ONE_TERM });
    const images = new Map<string, DurableState>();
    if (budget.rollbacks > 0) {
      for (const node of NODES) {
        const { began } = nodeOf(world, node);
        const after = this.states.afterCrash(nodeOf(world, node), true);
        images.set(node, { ...after, boot: began.boot });
      }
      world = this.#settled({ ...world, left: ONE_TERM });
    }
    return { world: { ...world, left: budget }, images };
  }

  #settled(from: World): World {
    let world = from;
    for (;;) {
      const [move] = this.#orderly(world);
      if (move === undefined) break;
      world = this.take(world, move);
    }
    if (steadyLeader(world) === null) throw new Error(`nobody leads: ${keyOf(world)}`);
    return world;
  }

  /** An election is decided when all have answered. */
  #orderly(world: World): readonly Move[] {
    const open = (world.election?.asked.length ?? 0) - (world.election?.replies.length ?? 0);
    return this.moves(world).filter(({ name }) => open === 0 || name !== "tally");
  }
}

function firstRecord(): ShardRecord {
  const record = newRecord({
    storeId: "store",
    namespace: "default",
    shard: 0,
    ensemble: [...NODES],
    replicationFactor: NODES.length,
    keySorting: "hierarchical",
    notifications: false,
  });
  const members = NODES.map((node) => {
    return { node, replicaUid: node, role: "voter", ackedTerm: -1 } as const;
  });
  return { ...record, initialized: true, members };
}

/** Searches until something does not hold, everything was seen, or there are too many states. */
export function search(options: SearchOptions): SearchResult {
  const undo = options.conduct.patch();
  try {
    return run(new Model(options.budget, options.conduct), options);
  } finally {
    undo();
  }
}

function run(model: Model, { statesMax, progress }: SearchOptions): SearchResult {
  const reached: Reached[] = [{ world: model.start, from: -1, move: "", depth: 0 }];
  const known = new Set([digestOf(model.start)]);
  let transitions = 0;
  let depth = 0;
  const result = (found: string | null, at: number, complete: boolean): SearchResult => ({
    states: known.size,
    transitions,
    nodeStates: model.states.size,
    depth,
    complete,
    violation: found,
    schedule: scheduleTo(reached, at),
  });
  for (let next = 0; next < reached.length; next += 1) {
    const here = reached[next];
    if (here === undefined) break;
    depth = here.depth;
    for (const move of model.moves(here.world)) {
      transitions += 1;
      const world = model.take(here.world, move);
      const key = digestOf(world);
      if (known.has(key)) continue;
      known.add(key);
      reached.push({ world, from: next, move: move.name, depth: here.depth + 1 });
      const found = violation(world);
      if (found !== null) return result(found, reached.length - 1, false);
      if (known.size % PROGRESS_STATES === 0) progress?.(known.size, here.depth + 1);
      if (known.size >= statesMax) return result(null, 0, false);
    }
    // What was gone through is not needed any more, but for the way.
    reached[next] = { ...here, world: model.start };
  }
  return result(null, 0, true);
}

/** 128 bits: of some millions of states no two are taken for one another. */
function digestOf(world: World): bigint {
  return xxh3.xxh128(keyOf(world));
}

function scheduleTo(reached: readonly Reached[], at: number): readonly string[] {
  const steps: string[] = [];
  for (let here = reached[at]; here !== undefined && here.from >= 0; here = reached[here.from]) {
    steps.unshift(here.move);
  }
  return steps;
}
