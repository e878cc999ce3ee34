/** The wipe matrix: every combination of whom, what, when and around what, enumerated. */
import { PHASES, type Phase } from "./phase.ts";

/** Whose disk suffers. */
export const VICTIMS = ["leader", "follower", "learner"] as const;
/** What of it is lost; `rollback`: it is set back to how it was in an older term. */
export const LOSSES = ["all", "wal", "state", "cookie", "rollback"] as const;
/**
 * Where logs begin: at 0, at a trim point, or (the leader's) at the snapshot it was rebuilt from.
 */
export const LOGS = ["start", "trimmed", "rebuilt"] as const;
export const LOADS = ["writing", "quiet"] as const;
/** Once, again when it votes again, or with the coordinator killed at its next step. */
export const TIMES = ["once", "twice", "coordinator too"] as const;

/** One combination. */
export interface Cell {
  /** Its place in the enumeration, and its seed. */
  readonly index: number;
  readonly victim: (typeof VICTIMS)[number];
  readonly loss: (typeof LOSSES)[number];
  readonly phase: Phase;
  readonly log: (typeof LOGS)[number];
  readonly load: (typeof LOADS)[number];
  readonly times: (typeof TIMES)[number];
}

/** All cells, in a fixed order. */
export function allCells(): readonly Cell[] {
  const cells: Cell[] = [];
  for (const phase of PHASES)
    for (const victim of VICTIMS)
      for (const loss of LOSSES)
        for (const log of LOGS)
          for (const load of LOADS)
            for (const times of TIMES) {
              cells.push({ index: cells.length, victim, loss, phase, log, load, times });
            }
  return cells;
}

/** For people, and for `--only`. */
export function cellText({ victim, loss, phase, log, load, times }: Cell): string {
  return [phase.name, victim, loss, log, load, times].join("/");
}
