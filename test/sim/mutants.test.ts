/**
 * Proof that the checkers fire: each mutant breaks one rule in one part, from outside, and the
 * simulator has to notice within a few seeds.
 */
import assert from "node:assert/strict";
import { Leader } from "../../sidecar/core/leader.ts";
import { LogIndex } from "../../sidecar/core/log-index.ts";
import { ReadRounds } from "../../sidecar/core/read-rounds.ts";
import type { Disk, DiskFile } from "../../sidecar/lib/ports/disk.ts";
import type { NodeOptions } from "../../sidecar/runtime/node.ts";
import type { Fault, SimOptions } from "./options.ts";
import { simulate } from "./simulation.ts";

const SEEDS_MAX = 150;

interface Mutant {
  readonly name: string;
  /** Any of these names the broken rule. */
  readonly caughtBy: readonly string[];
  readonly faults: readonly Fault[];
  readonly force?: Partial<SimOptions>;
  readonly alter?: (options: NodeOptions) => NodeOptions;
  /** Patches a class; returns what undoes it. */
  readonly patch?: () => () => void;
}

/** Replaces a method until undone. */
function replace<T extends object, K extends keyof T>(on: T, name: K, by: T[K]): () => void {
  const before = on[name];
  on[name] = by;
  return () => {
    on[name] = before;
  };
}

/** Has `by` called instead of a method of the leader, with the method itself to call. */
function wrapLeader(
  name: "advanceCommit" | "tick",
  by: (leader: Leader, original: () => void) => void,
): () => void {
  const methods = Leader.prototype as unknown as Record<string, (...all: unknown[]) => void>;
  const before = methods[name];
  methods[name] = function wrapped(this: Leader, ...all: unknown[]): void {
    by(this, () => before?.apply(this, all));
  };
  return () => {
    if (before !== undefined) methods[name] = before;
  };
}

/** A disk that says that it has synced. */
function lying(disk: Disk): Disk {
  return new Proxy(disk, {
    get(target, name) {
      if (name === "syncDir") return async (): Promise<void> => undefined;
      if (name !== "open") return Reflect.get(target, name).bind(target);
      return async (path: string, options: { readonly create: boolean }): Promise<DiskFile> => ({
        ...(await target.open(path, options)),
        sync: async () => undefined,
      });
    },
  });
}

const CRASHES: readonly Fault[] = ["powerLoss", "crashAtDiskOperation", "allRestart"];

const MUTANTS: readonly Mutant[] = [
  {
    name: "acknowledges before it has synced (R8, R14)",
    caughtBy: ["I2", "I5", "I10", "I13"],
    faults: CRASHES,
    alter: (options) => ({ ...options, disk: lying(options.disk) }),
  },
  {
    name: "commits an older term's entry by counting (R7, H2)",
    caughtBy: ["I11", "I7", "I4"],
    faults: [...CRASHES, "moveLeader", "isolate"],
    patch: () =>
      wrapLeader("advanceCommit", (leader, original) => {
        const own = leader.term;
        const counted = leader.state.log.positionAt(leader.tracker.quorumOffset());
        Object.assign(leader, { term: counted?.term ?? own });
        original();
        Object.assign(leader, { term: own });
      }),
  },
  {
    name: "counts a learner (R2)",
    caughtBy: ["I11", "I4", "I7"],
    faults: ["wipe", "isolate"],
    force: { clients: 4, thinkMs: 5 },
    patch: () =>
      wrapLeader("tick", (leader, original) => {
        original();
        for (const { node, ackOffset } of leader.cursors.values()) {
          leader.tracker.addVoter(node, ackOffset);
        }
        leader.advanceCommit();
      }),
  },
  {
    name: "is the same replica after its disk was wiped (R1, H3)",
    caughtBy: ["I2", "I5", "I10"],
    faults: ["wipe"],
    alter: (options) => {
      const uid = `same-${options.node}`.padEnd(26, "x");
      return { ...options, random: { unit: () => options.random.unit(), uid: () => uid } };
    },
  },
  {
    name: "takes equal offsets for equal logs (R9, H6)",
    caughtBy: ["I3", "I4", "I5", "I6", "I7", "broken"],
    faults: [...CRASHES, "moveLeader", "isolate", "cutPair"],
    force: { thinkMs: 2, clients: 4 },
    patch: () =>
      replace(LogIndex.prototype, "contains", function contains(this: LogIndex, position) {
        return this.positionAt(position.offset) !== null;
      }),
  },
  {
    name: "serves reads without asking anybody (R15, H17)",
    caughtBy: ["R15"],
    faults: ["isolate", "pause", "cutCoordinator"],
    force: { clients: 4, keys: 2, thinkMs: 15, safetyMs: 8_000, faultGapMs: 400 },
    patch: () => replace(ReadRounds.prototype, "hasConfirmed", () => true),
  },
];

describe("simulator: every mutant is caught", function () {
  this.timeout(120_000);
  for (const mutant of MUTANTS) {
    it(mutant.name, async () => {
      const undo = mutant.patch?.() ?? ((): void => undefined);
      try {
        for (let seed = 1; seed <= SEEDS_MAX; seed += 1) {
          const { violation } = await simulate({
            seed,
            force: { faults: mutant.faults, ...mutant.force },
            ...(mutant.alter === undefined ? {} : { alter: mutant.alter }),
          });
          if (violation === null) continue;
          const { invariant, message } = violation;
          assert.ok(mutant.caughtBy.includes(invariant), `seed ${seed}: ${invariant}: ${message}`);
          return;
        }
      } finally {
        undo();
      }
      assert.fail(`not caught in ${SEEDS_MAX} seeds`);
    });
  }
});
