import type { CoordinatorOptions } from "../../../operator/controller/coordinator.ts";
import type { Effect } from "../../../sidecar/core/effect.ts";
import type { Input } from "../../../sidecar/core/input.ts";
import { Replica } from "../../../sidecar/core/replica.ts";
import type { Disk, DiskFile } from "../../../sidecar/lib/ports/disk.ts";
import type { NodeOptions } from "../../../sidecar/runtime/node.ts";
import type { Fault, SimOptions } from "../options.ts";
import { wrap } from "../patch.ts";

/** One rule broken, from outside: nothing in the shipped code knows of it. */
export interface Mutant {
  /** Short and unique; `--only` takes it. */
  readonly name: string;
  /** What it does wrong. */
  readonly does: string;
  /** The rules and holes of SAFETY.md that it stands for. */
  readonly breaks: readonly string[];
  /** Any of these names the broken rule when it is caught. */
  readonly caughtBy: readonly string[];
  /** Where the tests begin, since a seed near it catches this one; default 1. */
  readonly first?: number;
  readonly faults: readonly Fault[];
  readonly force?: Partial<SimOptions>;
  readonly alterNode?: (options: NodeOptions) => NodeOptions;
  readonly alterCoordinator?: (options: CoordinatorOptions) => CoordinatorOptions;
  /** Patches classes for one run; returns what undoes it. */
  readonly patch?: () => () => void;
}

/** A rule that can be taken away without anything being lost, and why. */
export interface Redundancy {
  readonly rule: string;
  readonly why: string;
}

/** Everything that lets a cluster forget what it had not synced. */
export const CRASHES: readonly Fault[] = ["powerLoss", "crashAtDiskOperation", "allRestart"];

/** How every step of every replica is changed. */
export interface StepChange {
  /** The input to take instead; null: none, and no effects. */
  readonly before?: (replica: Replica, input: Input) => Input | null;
  /** The effects to perform instead. */
  readonly after?: (
    replica: Replica,
    input: Input,
    effects: readonly Effect[],
  ) => readonly Effect[];
}

/** Changes what goes into the core of each replica, and what comes out of it. */
export function changeSteps({ before, after }: StepChange): () => () => void {
  return () =>
    wrap(Replica.prototype, "step", (replica, original, [given]) => {
      const input = given as Input;
      const taken = before === undefined ? input : before(replica, input);
      if (taken === null) return [];
      const effects = original(taken) as readonly Effect[];
      return after === undefined ? effects : after(replica, taken, effects);
    });
}

/** A disk on which syncing the log takes far longer than anything else. */
export function slowLog({ disk, clock }: NodeOptions): Disk {
  return new Proxy(disk, {
    get(target, name) {
      if (name !== "open") return Reflect.get(target, name).bind(target);
      return async (path: string, options: { readonly create: boolean }): Promise<DiskFile> => {
        const file = await target.open(path, options);
        if (!path.endsWith(".wal")) return file;
        const sync = async (): Promise<void> => {
          await clock.sleep(60, new AbortController().signal);
          await file.sync();
        };
        return { ...file, sync };
      };
    },
  });
}
