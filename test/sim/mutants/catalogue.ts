import { COORDINATOR_MUTANTS } from "./coordinator-mutants.ts";
import { CORE_MUTANTS } from "./core-mutants.ts";
import { DRIVER_MUTANTS } from "./driver-mutants.ts";
import type { Mutant, Redundancy } from "./mutant.ts";
import { SHARD_MUTANTS } from "./shard-mutants.ts";
import { STORAGE_MUTANTS } from "./storage-mutants.ts";

/** Every mutant. */
export const MUTANTS: readonly Mutant[] = [
  ...CORE_MUTANTS,
  ...DRIVER_MUTANTS,
  ...STORAGE_MUTANTS,
  ...COORDINATOR_MUTANTS,
  ...SHARD_MUTANTS,
];

/** Rules without a mutant of their own, and why none could be caught. */
export const REDUNDANT: readonly Redundancy[] = [
  {
    rule: "R6, the floor",
    why:
      "It guards what the other rules cannot: a majority's disks lost or set back at once. The " +
      "nemesis owes a majority its disks (beyond that nothing can be promised), so no election " +
      "that R2, R3 and R7 allow is below the floor. Transcripts over the plan hold it instead.",
  },
  {
    rule: "R11, explicit bootstrap; H7",
    why:
      "All disks lost at once leave nothing to be lost by a new beginning; that it is refused " +
      "(RecordLost, QuorumLost) is held by transcripts and by tests with real processes.",
  },
  {
    rule: "R4, acknowledgements of a wiped identity; H12",
    why:
      "They could only count for entries that were appended while it was there. Its successor does " +
      "not vote (R2) until it holds all of those (R16), so every majority that elects still meets " +
      "one that holds them. The rule keeps the number of copies honest; a test of the tracker and " +
      "transcripts of the core hold it.",
  },
  {
    rule: "H15, a late follower's newer tail",
    why:
      "A leader's barrier (R7) gives its log the newest term of all, so no follower's tail is of " +
      "a higher one: there is nothing to refuse.",
  },
];
