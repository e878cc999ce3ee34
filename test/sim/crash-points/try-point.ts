import { type Coverage, type Outcome } from "./outcomes.ts";
import { type PointResult, runPoint } from "./run-point.ts";

/** What is lost where nothing is kept. */
export const NOTHING_KEPT: Outcome = { answers: [], whole: false };

/** A crash to try. */
export interface Order {
  readonly scenario: number;
  /** Before which change of the disk. */
  readonly change: number;
  /** Most outcomes of it to run. */
  readonly outcomesMax: number;
  /** What was on the disk before the operation is durable when it begins. */
  readonly settled: boolean;
}

/** How that went. */
export interface Answer {
  readonly scenario: number;
  readonly change: number;
  readonly settled: boolean;
  /** Outcomes that were run. */
  readonly outcomes: number;
  readonly coverage: Coverage;
  readonly questions: number;
  /** Each with its newest events and the options that replay it. */
  readonly failures: readonly string[];
}

/** Runs the operation once for each outcome of a crash at one point. */
export async function tryPoint({ outcomesMax, ...at }: Order): Promise<Answer> {
  const failures: string[] = [];
  const judge = ({ violation, newestLines }: PointResult, outcome: Outcome): void => {
    if (violation === null) return;
    const where = `--scenario ${at.scenario} --change ${at.change}${at.settled ? "" : " --unsettled"}`;
    const replay = `${where} --outcome ${outcomeText(outcome)}`;
    const { invariant, message } = violation;
    failures.push([...newestLines.slice(-20), `${replay}: ${invariant}: ${message}`].join("\n"));
  };
  const first = await runPoint({ ...at, outcome: NOTHING_KEPT, outcomesMax });
  judge(first, NOTHING_KEPT);
  const { tried, coverage, questions } = first.outcomes ?? NEVER_CRASHED;
  for (const outcome of tried) {
    // The run that found them kept nothing.
    if (outcome.answers.every((answer) => answer === 0)) continue;
    judge(await runPoint({ ...at, outcome, outcomesMax: 0 }), outcome);
  }
  return { ...at, outcomes: tried.length, coverage, questions, failures };
}

const NEVER_CRASHED = { tried: [], coverage: "torn", questions: 0 } as const;

/** An outcome as an option of the command. */
export function outcomeText({ answers, whole }: Outcome): string {
  return `${whole ? "whole" : "torn"}:${answers.join(".")}`;
}

/** The outcome that {@link outcomeText} wrote. Throws a TypeError. */
export function parseOutcome(text: string): Outcome {
  const match = /^(whole|torn):([\d.]*)$/u.exec(text);
  if (match === null) {
    throw new TypeError(`--outcome: ${text}: allowed: whole: or torn:, then answers as in 0.1.2`);
  }
  const [, kind, answers = ""] = match;
  const given = answers === "" ? [] : answers.split(".").map(Number);
  return { answers: given, whole: kind === "whole" };
}
