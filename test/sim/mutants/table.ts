import type { Mutant, Redundancy } from "./mutant.ts";

/** One hunt of one mutant. */
export interface Series {
  readonly name: string;
  /** Seeds until it was caught; null: never. */
  readonly seeds: number | null;
  /**
   * What caught it: invariants, rules or liveness properties that did not hold after one event. The
   * one that was asked first comes first.
   */
  readonly checkers: readonly string[];
}

/** What came of all hunts. */
export interface Findings {
  /** The table as a document. */
  readonly text: string;
  /** Mutants that got away once. */
  readonly survived: readonly string[];
  /** Mutants that were caught once by none of those who should. */
  readonly wrongly: readonly string[];
  /** Checkers that no mutant made fire, of `invariants`: they prove nothing. */
  readonly silent: readonly string[];
}

/** What came of all hunts; `invariants`: everything that is watched for. */
export function table(
  mutants: readonly Mutant[],
  redundant: readonly Redundancy[],
  series: readonly Series[],
  invariants: readonly string[],
): Findings {
  const survived: string[] = [];
  const wrongly: string[] = [];
  const most = Math.max(
    ...mutants.map(({ name }) => series.filter((one) => one.name === name).length),
  );
  const rows = mutants.map((mutant) => {
    const own = series.filter(({ name }) => name === mutant.name);
    if (own.some(({ seeds }) => seeds === null)) survived.push(mutant.name);
    const caught = own.filter(({ seeds }) => seeds !== null);
    const by = countsOf(caught.flatMap(({ checkers }) => checkers));
    const rightly = (one: Series): boolean => one.checkers.some((name) => isMeant(mutant, name));
    if (!caught.every(rightly)) wrongly.push(mutant.name);
    const sorted = own.map(({ seeds }) => seeds ?? Number.POSITIVE_INFINITY).sort((a, b) => a - b);
    const checkers = [...by].map(([one, count]) => `${one} ${count}`).join(", ");
    const cells = [
      mutant.breaks.join(", "),
      `\`${mutant.name}\`: ${mutant.does}`,
      quantile(sorted, 0.5),
      quantile(sorted, 1),
      checkers,
    ];
    return `| ${cells.join(" | ")} |`;
  });
  const text = [
    "# Mutants",
    "",
    "Each breaks one rule from outside (nothing in the shipped code knows of it), and the simulator has",
    "to notice. Written by `npm run sim:mutants -- --write`. Seeds: how many runs it took to catch it, from",
    `${most} first seeds; by: which checkers said so, all of those after the event that ended a run, and how often.`,
    "",
    "| rules and holes | mutant | seeds, median | seeds, most | by |",
    "| --- | --- | --- | --- | --- |",
    ...rows,
    "",
    "## Without a mutant",
    "",
    ...redundant.map(({ rule, why }) => `- **${rule}.** ${why}`),
    "",
  ].join("\n");
  const fired = new Set(series.flatMap(({ checkers: names }) => names));
  return { text, survived, wrongly, silent: invariants.filter((name) => !fired.has(name)) };
}

/** True when this checker is one of those that the mutant's broken rule should make fire. */
export function isMeant(mutant: Mutant, invariant: string): boolean {
  return mutant.caughtBy.includes(invariant);
}

function countsOf(names: readonly string[]): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1);
  return counts;
}

function quantile(sorted: readonly number[], share: number): string {
  const value = sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)];
  return value === undefined || !Number.isFinite(value) ? "not caught" : String(value);
}
