import type { CheckContext } from "./checker.ts";

/** A write as its client saw it. */
export interface VersionedWrite {
  readonly key: string;
  readonly versionId: number;
  /** {@link VersionsIncrease.newest} when the write was sent. */
  readonly newestBefore: number;
}

/**
 * I16: version ids strictly increase, also over failovers: a write that was sent after another one
 * was acknowledged has a higher version id, no two writes have the same (H20).
 */
export class VersionsIncrease {
  readonly #context: CheckContext;
  readonly #given = new Map<number, string>();
  /** Highest version id that any client was told so far. */
  newest = -1;

  constructor(context: CheckContext) {
    this.#context = context;
  }

  /** A write ended at its client. */
  acknowledged({ key, versionId, newestBefore }: VersionedWrite): void {
    const other = this.#given.get(versionId);
    if (other !== undefined) {
      this.#context.violate("I16", `version ${versionId} was given to ${other} and to ${key}`);
    }
    this.#given.set(versionId, key);
    if (versionId <= newestBefore) {
      const after = `after ${newestBefore} had been given`;
      this.#context.violate("I16", `a write of ${key} got version ${versionId} ${after}`);
    }
    this.newest = Math.max(this.newest, versionId);
  }
}
