/** What must hold in every state; numbers as in SAFETY.md. */
import { entryAt, type World } from "./world.ts";
import type { NodeState } from "./node-state.ts";

/** What does not hold, beginning with its number; null: all does. */
export function violation(world: World): string | null {
  if (world.fault !== "") return world.fault;
  return oneLeader(world) ?? logMatching(world) ?? committedAgree(world) ?? completeness(world);
}

/** I1: one leader per term. */
function oneLeader({ nodes }: World): string | null {
  const led = new Map<number, string>();
  for (const { node, view } of nodes.values()) {
    if (view.leading === null) continue;
    const other = led.get(view.leading.term);
    if (other !== undefined) return `I1: ${other} and ${node} both lead term ${view.leading.term}`;
    led.set(view.leading.term, node);
  }
  return null;
}

/** I3: the same offset and term, the same history. */
function logMatching({ nodes }: World): string | null {
  return disagreement([...nodes.values()], "I3", (own, other, offset) => {
    const [a, b] = [entryAt(own, offset), entryAt(other, offset)];
    return a !== null && b !== null && a.term === b.term && a.crc !== b.crc;
  });
}

/** I6: what two replicas hold as committed is the same. */
function committedAgree({ nodes }: World): string | null {
  return disagreement([...nodes.values()], "I6", (own, other, offset) => {
    if (offset > Math.min(own.view.commit, other.view.commit)) return false;
    const [a, b] = [entryAt(own, offset), entryAt(other, offset)];
    return a !== null && b !== null && a.crc !== b.crc;
  });
}

function disagreement(
  all: readonly NodeState[],
  number: string,
  differ: (own: NodeState, other: NodeState, offset: number) => boolean,
): string | null {
  for (const [place, own] of all.entries()) {
    for (const other of all.slice(place + 1)) {
      for (const { offset } of own.view.entries) {
        if (differ(own, other, offset)) {
          return `${number}: ${own.node} and ${other.node} differ at offset ${offset}`;
        }
      }
    }
  }
  return null;
}

/**
 * I4: whoever serves holds every write that was acknowledged in its term or an older one. A leader
 * of an older term may not know yet that it is none any more.
 */
function completeness({ nodes, acknowledged }: World): string | null {
  for (const leader of nodes.values()) {
    const { leading, base } = leader.view;
    if (leading?.serving !== true) continue;
    for (const { offset, crc, term } of acknowledged) {
      if (term > leading.term) continue;
      const held = entryAt(leader, offset);
      const covered = held === null ? offset <= base.offset : held.crc === crc;
      if (!covered) return `I4: ${leader.node} serves term ${leading.term} without write ${offset}`;
    }
  }
  return null;
}
