import type { CoordinatorOptions } from "../../../operator/controller/coordinator.ts";
import type { Effect } from "../../../sidecar/core/effect.ts";
import type { Input } from "../../../sidecar/core/input.ts";
import { Replica } from "../../../sidecar/core/replica.ts";
import type { NodeOptions } from "../../../sidecar/runtime/node.ts";
import type { Fault, SimOptions } from "../options.ts";

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

/** Replaces a method until undone. */
export function replace<T extends object, K extends keyof T>(on: T, name: K, by: T[K]): () => void {
  const before = on[name];
  on[name] = by;
  return () => {
    on[name] = before;
  };
}

/** Replaces a getter until undone. */
export function replaceGetter<T extends object>(
  on: T,
  name: keyof T,
  by: (self: T, original: unknown) => unknown,
): () => void {
  const before = Object.getOwnPropertyDescriptor(on, name);
  if (before?.get === undefined) throw new Error(`${String(name)} is no getter`);
  const { get } = before;
  Object.defineProperty(on, name, {
    ...before,
    get(this: T) {
      return by(this, get.call(this));
    },
  });
  return () => {
    Object.defineProperty(on, name, before);
  };
}

/** How every step of every replica is changed. */
export interface StepChange {
  /** The input to take instead; null: none, and no effects. */
  before?(replica: Replica, input: Input): Input | null;
  /** The effects to perform instead. */
  after?(replica: Replica, input: Input, effects: readonly Effect[]): readonly Effect[];
}

/** Changes what goes into the core of each replica, and what comes out of it. */
export function changeSteps({ before, after }: StepChange): () => () => void {
  return () => {
    const original = Replica.prototype.step;
    return replace(Replica.prototype, "step", function step(this: Replica, input: Input) {
      const taken = before === undefined ? input : before(this, input);
      if (taken === null) return [];
      const effects = original.call(this, taken);
      return after === undefined ? effects : after(this, taken, effects);
    });
  };
}
