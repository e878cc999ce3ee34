import type { Operation } from "./history.ts";

/**
 * Splits a history into parts that can be judged apart: by key, where no scan ties keys together.
 * Linearizability is local (Herlihy and Wing 1990): the whole is linearizable when every part is.
 */
export function partition(history: readonly Operation[]): readonly (readonly Operation[])[] {
  const keys = new Set<string>();
  for (const { call, outcome } of history) {
    if (call.kind !== "scan") keys.add(call.key);
    if (outcome.kind === "pairs") for (const { key } of outcome.pairs) keys.add(key);
  }
  const root = new Map([...keys].map((key) => [key, key]));
  const find = (key: string): string => {
    let at = key;
    while (root.get(at) !== at) at = root.get(at) ?? at;
    return at;
  };
  const homes = new Map<Operation, string>();
  for (const operation of history) {
    const { call } = operation;
    if (call.kind !== "scan") continue;
    const [first, ...others] = [...keys].filter((key) => key >= call.start && key < call.end);
    if (first === undefined) continue;
    for (const other of others) root.set(find(other), find(first));
    homes.set(operation, first);
  }
  const parts = new Map<string, Operation[]>();
  for (const operation of history) {
    const { call } = operation;
    const home = call.kind === "scan" ? homes.get(operation) : call.key;
    if (home === undefined) continue;
    const name = find(home);
    parts.set(name, [...(parts.get(name) ?? []), operation]);
  }
  return [...parts.values()];
}
