/** What a run of the model found, as a document. */
import type { RemovedRule } from "./rules.ts";
import type { SearchResult } from "./search.ts";
import { budgetText, type Scope } from "./scopes.ts";

/** A rule that the model cannot do without, or does not know, and why. */
export interface Unmodelled {
  readonly rule: string;
  readonly why: string;
}

/** Rules without a removal of their own. */
const UNMODELLED: readonly Unmodelled[] = [
  {
    rule: "R4, R10",
    why: "A cursor is made for one identity, and refused by any other before anything is read of it (`refuseAddressee`): with the cursor's memory kept, R2 and R16 still hold the line. A test of the core has them.",
  },
  {
    rule: "R6, the floor",
    why: "With the other rules in place nothing was found without it, in three scopes with lost and set back disks, all seen: it guards against a majority of disks that are lost or set back at once. Where a rule above says that the floor is kept down, with the floor alone the damage would have been a stop instead of a loss.",
  },
  {
    rule: "R11",
    why: "An empty replica that answers for a recorded one is `recorded-identity`.",
  },
  {
    rule: "R12",
    why: "A transfer is one move here. The simulator has terms that begin in the middle of one.",
  },
  {
    rule: "R14, R17",
    why: "Logs are never trimmed here and volumes never fill.",
  },
  {
    rule: "R15",
    why: "There are no reads here; the simulator's histories have them.",
  },
  {
    rule: "R18",
    why: "The record is saved in one place here. Two coordinators are the simulator's.",
  },
];

/** What became of one search. */
export interface ScopeResult {
  readonly scope: Scope;
  readonly result: SearchResult;
  readonly seconds: number;
}

/** What became of one rule that was taken away. */
export interface RuleResult {
  readonly rule: RemovedRule;
  readonly result: SearchResult;
}

/** The whole document. */
export function document(scopes: readonly ScopeResult[], rules: readonly RuleResult[]): string {
  return [
    "# The model",
    "",
    "What can happen to three replicas within a budget, breadth first, over the cores that ship",
    "(`sidecar/core`, `operator/core`): messages late or lost with their stream, syncs later than their",
    "entries, leaders that do not know that they are deposed, elections that are given up, disks that are",
    "lost or set back. Written by `npm run sim:model -- --write`.",
    "",
    "## With all rules",
    "",
    "| may happen | states | transitions | depth | seen | violations |",
    "| --- | ---: | ---: | ---: | --- | --- |",
    ...scopes.map(scopeRow),
    "",
    "## With one rule taken away",
    "",
    "The schedule is the shortest; a test replays it, with the rule and without.",
    "",
    "| rules and holes | taken away | may happen | states until found | moves | what breaks |",
    "| --- | --- | --- | ---: | ---: | --- |",
    ...rules.map(ruleRow),
    "",
    "## Rules that are not here",
    "",
    ...UNMODELLED.map(({ rule, why }) => `- **${rule}.** ${why}`),
    "",
  ].join("\n");
}

function scopeRow({ scope, result }: ScopeResult): string {
  const { states, transitions, depth, complete, violation } = result;
  const numbers = [states, transitions, depth].map((count) => count.toLocaleString("en-US"));
  const seen = complete ? "all" : `to depth ${depth}`;
  const cells = [budgetText(scope.budget), ...numbers, seen, violation ?? "0"];
  return `| ${cells.join(" | ")} |`;
}

function ruleRow({ rule, result }: RuleResult): string {
  const { states, schedule, violation, budget } = { ...result, budget: rule.needs };
  const cells = [
    rule.breaks.join(", "),
    `[${rule.name}](schedules/${rule.name}.txt): ${rule.does}`,
    budgetText({ terms: 0, writes: 0, wipes: 0, crashes: 0, rollbacks: 0, changes: 0, ...budget }),
    states.toLocaleString("en-US"),
    String(schedule.length),
    violation ?? "NOT FOUND",
  ];
  return `| ${cells.join(" | ")} |`;
}

/** A schedule as a file: what it shows, then a move a line. */
export function scheduleText({ rule, result }: RuleResult): string {
  return [
    `# ${rule.breaks.join(", ")}: ${rule.does}.`,
    `# ${result.violation ?? ""}`,
    ...result.schedule,
    "",
  ].join("\n");
}
