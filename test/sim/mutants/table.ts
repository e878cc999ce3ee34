import type { Mutant, Redundancy } from "./mutant.ts";

/** One hunt of one mutant. */
export interface Series {
  readonly name: string;
  /** Seeds until it was caught; null: never. */
  readonly seeds: number | null;
  /** What caught it: an invariant, a rule or a liveness property. */
  readonly checker: string;
}

/** The table as a document, the names of mutants that got away once, and of those caught oddly. */
export function table(
  mutants: readonly Mutant[],
  redundant: readonly Redundancy[],
  series: readonly Series[],
): { readonly text: string; readonly survived: string[]; readonly wrongly: string[] } {
  const survived: string[] = [];
  const wrongly: string[] = [];
  const rows = mutants.map((mutant) => {
    const own = series.filter(({ name }) => name === mutant.name);
    if (own.some(({ seeds }) => seeds === null)) survived.push(mutant.name);
    const by = countsOf(own.filter(({ seeds }) => seeds !== null).map(({ checker }) => checker));
    if ([...by.keys()].some((one) => !mutant.caughtBy.includes(one))) wrongly.push(mutant.name);
    const sorted = own.map(({ seeds }) => seeds ?? Number.POSITIVE_INFINITY).sort((a, b) => a - b);
    const checkers = [...by].map(([one, count]) => `${one} ${count}`).join(", ");
    const cells = [
      mutant.breaks.join(", "),
      `\`${mutant.name}\`: ${mutant.does}`,
      quantile(sorted, 0.5),
      quantile(sorted, 0.95),
      checkers,
    ];
    return `| ${cells.join(" | ")} |`;
  });
  const text = [
    "# Mutants",
    "",
    "Each breaks one rule from outside (nothing in the shipped code knows of it), and the simulator has",
    "to notice. Written by `npm run sim:mutants -- --write`. Seeds: how many runs it took to catch it, from",
    "several first seeds; by: which checker said so, and how often.",
    "",
    "| rules and holes | mutant | seeds, median | seeds, p95 | by |",
    "| --- | --- | --- | --- | --- |",
    ...rows,
    "",
    "## Without a mutant",
    "",
    ...redundant.map(({ rule, why }) => `- **${rule}.** ${why}`),
    "",
  ].join("\n");
  return { text, survived, wrongly };
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
