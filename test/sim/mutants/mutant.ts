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

/** Replaces a method until undone. */
export function replace<T extends object, K extends keyof T>(on: T, name: K, by: T[K]): () => void {
  const before = on[name];
  on[name] = by;
  return () => {
    on[name] = before;
  };
}

/** Has `by` called instead of a method until undone, with the method itself to call. */
export function wrap<T extends object>(
  on: T,
  name: keyof T & string,
  by: (
    self: T,
    original: (...all: readonly unknown[]) => unknown,
    all: readonly unknown[],
  ) => unknown,
): () => void {
  const methods = on as unknown as Record<string, (...all: readonly unknown[]) => unknown>;
  const before = methods[name];
  if (before === undefined) throw new Error(`${name} is no method`);
  methods[name] = function wrapped(this: T, ...all: readonly unknown[]) {
    return by(this, (...given) => before.apply(this, [...given]), all);
  };
  return () => {
    methods[name] = before;
  };
}

/** Replaces a getter until undone. */
export function replaceGetter<T extends object>(
  on: T,
  name: keyof T,
  by: (self: T) => unknown,
): () => void {
  const before = Object.getOwnPropertyDescriptor(on, name);
  if (before?.get === undefined) throw new Error(`${String(name)} is no getter`);
  Object.defineProperty(on, name, {
    ...before,
    get(this: T) {
      return by(this);
    },
  });
  return () => {
    Object.defineProperty(on, name, before);
  };
}

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
