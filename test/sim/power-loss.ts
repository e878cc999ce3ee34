import type { Chance } from "./chance.ts";

/** Decides what a power loss keeps of what was not synced; asked once about each change. */
export interface PowerLoss {
  /** A name that was made, removed or moved. */
  keepsName(): boolean;
  keepsTruncation(): boolean;
  /** Of a write to so many sectors: which of them. */
  keptSectors(count: number): (sector: number) => boolean;
}

/** Any subset of the changes, of writes any prefix or subset of sectors. */
export class RandomLoss implements PowerLoss {
  readonly #chance: Chance;

  constructor(chance: Chance) {
    this.#chance = chance;
  }

  keepsName(): boolean {
    return this.#chance.happens(0.5);
  }

  keepsTruncation(): boolean {
    return this.#chance.below(4) !== 0;
  }

  keptSectors(count: number): (sector: number) => boolean {
    const fate = this.#chance.below(4);
    if (fate === 0) return () => false;
    if (fate === 1) return () => true;
    if (fate === 3) return () => this.#chance.happens(0.5);
    const prefix = this.#chance.below(count + 1);
    return (sector) => sector < prefix;
  }
}

const PREFIXES_MAX = 8;

/** How many first sectors of a write may be kept: any number, or of a long one some of them. */
function prefixesOf(sectors: number): readonly number[] {
  const steps = Math.min(sectors, PREFIXES_MAX);
  const even = Array.from({ length: steps + 1 }, (_, step) => Math.round((step * sectors) / steps));
  return [...new Set([...even, 1, sectors - 1])].sort((a, b) => a - b);
}

/** A question that a power loss asked, and which of its answers was given. */
interface Decision {
  readonly answers: number;
  readonly given: number;
}

/**
 * A power loss by given answers, from 0 up for each question; beyond their end all are 0. A name or
 * a truncation is lost (0) or kept (1); of a write one of {@link prefixesOf} is kept, or with
 * `whole` nothing (0) or all of it (1).
 */
export class DecidedLoss implements PowerLoss {
  readonly decisions: Decision[] = [];
  readonly #answer: (index: number, answers: number) => number;
  readonly #whole: boolean;

  constructor(answer: (index: number, answers: number) => number, whole: boolean) {
    this.#answer = answer;
    this.#whole = whole;
  }

  keepsName(): boolean {
    return this.#decide(2) === 1;
  }

  keepsTruncation(): boolean {
    return this.#decide(2) === 1;
  }

  keptSectors(count: number): (sector: number) => boolean {
    const prefixes = this.#whole ? [0, count] : prefixesOf(count);
    const kept = prefixes[this.#decide(prefixes.length)] ?? 0;
    return (sector) => sector < kept;
  }

  #decide(answers: number): number {
    const given = this.#answer(this.decisions.length, answers);
    this.decisions.push({ answers, given });
    return given;
  }
}
