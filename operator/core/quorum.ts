/** Majorities. Only these functions decide what is enough. */

/** floor(n/2)+1 of the full set, whoever of it is wiped or away (R2). */
export function majority(size: number): number {
  return Math.floor(size / 2) + 1;
}

/**
 * True when `nodes` holds a majority of every set: of old and of new while a change is joint (R13).
 */
export function isQuorum(
  sets: readonly (readonly string[])[],
  nodes: ReadonlySet<string>,
): boolean {
  return sets.every((set) => set.filter((node) => nodes.has(node)).length >= majority(set.length));
}

/** Names the voter sets, for comparing what a leader was told with what the record says. */
export function voterSetsText(sets: readonly (readonly string[])[]): string {
  return sets.map((set) => set.toSorted().join(",")).join(" & ");
}
