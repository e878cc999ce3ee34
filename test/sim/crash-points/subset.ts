import { Chance } from "../chance.ts";

/** A power loss that keeps exactly the unsynced changes whose bits are set, in their order. */
export class Subset extends Chance {
  /** Changes that there was something to decide about. */
  asked = 0;
  readonly #kept: (index: number) => boolean;

  constructor(kept: (index: number) => boolean) {
    super(1);
    this.#kept = kept;
  }

  /** What {@link Chance.below} is asked of a write: lost (0), or there as a whole (1). */
  override below(): number {
    return this.#kept(this.asked++) ? 1 : 0;
  }

  override happens(): boolean {
    return this.#kept(this.asked++);
  }
}

/** The subsets of `changes` unsynced ones to try: all when they are few, else the telling ones. */
export function subsetsOf(changes: number, max: number): readonly ((index: number) => boolean)[] {
  if (2 ** changes <= max) {
    return Array.from(
      { length: 2 ** changes },
      (_, mask) => (index) => ((mask >> index) & 1) === 1,
    );
  }
  const telling: ((index: number) => boolean)[] = [() => false, () => true];
  for (let at = 0; at < changes; at += 1) {
    // All but one; and what a disk that writes in order would leave.
    telling.push(
      (index) => index !== at,
      (index) => index < at,
    );
  }
  const chance = new Chance(changes);
  while (telling.length < max) {
    const mask = Array.from({ length: changes }, () => chance.happens(0.5));
    telling.push((index) => mask[index] === true);
  }
  return telling.slice(0, max);
}
