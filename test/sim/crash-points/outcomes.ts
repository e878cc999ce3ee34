import { Chance } from "../chance.ts";
import { DecidedLoss } from "../power-loss.ts";
import type { SimDisk } from "../sim-disk.ts";

/** One way to lose power: what answers {@link DecidedLoss} gives. */
export interface Outcome {
  readonly answers: readonly number[];
  /** Writes are lost or kept as a whole: none is torn. */
  readonly whole: boolean;
}

/**
 * How much of what a power loss can leave is among the outcomes. `torn`: everything, each write in
 * each of its prefixes of sectors (of a write of more than 8 sectors, in some of them). `whole`:
 * every subset of the changes, torn writes in a sample. `sample`: a sample of both.
 */
export type Coverage = "torn" | "whole" | "sample";

/** What a power loss at one moment can leave on a disk. */
export interface Outcomes {
  /** Each leaves another disk. */
  readonly tried: readonly Outcome[];
  readonly coverage: Coverage;
  /** Most questions of one power loss. */
  readonly questions: number;
}

/** Most ways through the questions that are walked. */
const PATHS_MAX = 1 << 12;

/** A power loss with these answers. */
export function lossOf({ answers, whole }: Outcome): DecidedLoss {
  return new DecidedLoss((index) => answers[index] ?? 0, whole);
}

/**
 * All that a power loss now can leave on a disk, or a sample of at most `max`. What is asked
 * depends on the answers before: only a file that still has a name is asked about its contents.
 */
export function outcomesOf(disk: SimDisk, max: number): Outcomes {
  const all = walk(disk, false, max);
  if (all.complete) return { tried: all.found(), coverage: "torn", questions: all.questions };
  const subsets = walk(disk, true, max);
  const found = new Found(disk);
  if (subsets.complete) for (const outcome of subsets.found()) found.add(outcome);
  else telling(found, max);
  torn(found, max);
  const coverage = subsets.complete ? "whole" : "sample";
  return { tried: found.found(), coverage, questions: found.questions };
}

/** Outcomes that leave different disks. */
class Found {
  complete = false;
  questions = 0;
  readonly #disk: SimDisk;
  readonly #outcomes = new Map<string, Outcome>();

  constructor(disk: SimDisk) {
    this.#disk = disk;
  }

  get size(): number {
    return this.#outcomes.size;
  }

  found(): readonly Outcome[] {
    return [...this.#outcomes.values()];
  }

  add({ answers, whole }: Outcome): DecidedLoss {
    return this.note(lossOf({ answers, whole }), whole);
  }

  note(loss: DecidedLoss, whole: boolean): DecidedLoss {
    const text = this.#disk.outcome(loss);
    this.questions = Math.max(this.questions, loss.decisions.length);
    if (!this.#outcomes.has(text)) {
      this.#outcomes.set(text, { answers: loss.decisions.map(({ given }) => given), whole });
    }
    return loss;
  }
}

/** Goes every way through the questions, in order, until there are too many or no more. */
function walk(disk: SimDisk, whole: boolean, max: number): Found {
  const found = new Found(disk);
  let answers: readonly number[] = [];
  for (let paths = 0; paths < PATHS_MAX && found.size <= max; paths += 1) {
    const { decisions } = found.add({ answers, whole });
    const last = decisions.findLastIndex(({ given, answers: choices }) => given + 1 < choices);
    if (last === -1) {
      found.complete = found.size <= max;
      break;
    }
    const given = decisions.slice(0, last + 1).map((decision) => decision.given);
    answers = given.with(last, (given[last] ?? 0) + 1);
  }
  return found;
}

/** Nothing, all, all but one, what a disk that works in order would leave, and then by chance. */
function telling(found: Found, max: number): void {
  const add = (kept: (index: number) => boolean): void => {
    if (found.size >= max) return;
    found.note(new DecidedLoss((index) => (kept(index) ? 1 : 0), true), true);
  };
  add(() => false);
  add(() => true);
  const { questions } = found;
  for (let at = 0; at < questions; at += 1) {
    add((index) => index !== at);
    add((index) => index < at);
  }
  const chance = new Chance(questions);
  for (let tries = 0; tries < max; tries += 1) add(() => chance.happens(0.5));
}

/** Torn writes by chance: up to a quarter as many again. */
function torn(found: Found, max: number): void {
  const chance = new Chance(max);
  const until = found.size + Math.ceil(max / 4);
  for (let tries = 0; tries < 4 * max && found.size < until; tries += 1) {
    const keeps = chance.unit();
    const answer = (_index: number, answers: number): number => {
      if (answers > 2 && chance.happens(0.5)) return 1 + chance.below(answers - 2);
      return chance.happens(keeps) ? answers - 1 : 0;
    };
    found.note(new DecidedLoss(answer, false), false);
  }
}
