import type { Draft } from "./draft.ts";

/** Something that can happen, and how. */
export interface Move {
  /** For people, in schedules. */
  readonly name: string;
  readonly make: (draft: Draft) => void;
}
