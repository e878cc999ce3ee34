/** `npm run sim:model`: see USAGE. */
import { mkdirSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import { inWorkers, serveOrders } from "../jobs.ts";
import { document, type RuleResult, scheduleText, type ScopeResult } from "./report.ts";
import { RULES, SOUND } from "./rules.ts";
import { budgetText, NOTHING_HAPPENS, SCOPES } from "./scopes.ts";
import { search, type SearchResult } from "./search.ts";

const USAGE = `npm run sim:model -- [options]
  --states N    states at which a search gives up (default 1500000)
  --rule NAME   only without this rule: ${RULES.map(({ name }) => name).join(", ")}
  --jobs J      processes (default: one a core)
  --write       write test/sim/model/MODEL.md and the schedules beside it
Searches all that can happen within a budget: with all rules nothing may break, with one rule taken
away something has to. The exit status is 1 otherwise.
`;
const STATES_MAX = 1_500_000;
const OPTIONS = {
  states: { type: "string" },
  rule: { type: "string" },
  jobs: { type: "string" },
  write: { type: "boolean" },
  help: { type: "boolean" },
} as const;

/** A wrong option; the message says which. */
class UsageError extends Error {
  override readonly name = "UsageError";
}

interface Arguments {
  readonly states: number;
  readonly rule: string | null;
  readonly jobs: number;
  readonly write: boolean;
  readonly help: boolean;
}

/** One search: that of a scope, or that without a rule. */
interface Order {
  readonly scope: number | null;
  readonly rule: string | null;
  readonly states: number;
}

interface Answer extends Order {
  readonly result: SearchResult;
  readonly seconds: number;
}

function argumentsOf(argv: string[]): Arguments {
  try {
    const { values } = parseArgs({ args: argv, options: OPTIONS, strict: true });
    const count = (name: "states" | "jobs", usual: number): number => {
      const given = values[name] ?? String(usual);
      const number = Number(given);
      if (Number.isSafeInteger(number) && number > 0) return number;
      throw new UsageError(`--${name}: ${given}: a whole number from 1 is allowed`);
    };
    const { rule = null, write = false, help = false } = values;
    if (rule !== null && !RULES.some(({ name }) => name === rule)) {
      throw new UsageError(`--rule: ${rule}: no such rule`);
    }
    if (write && rule !== null) throw new UsageError("--write: not with --rule: it writes all");
    return {
      states: count("states", STATES_MAX),
      rule,
      jobs: count("jobs", availableParallelism()),
      write,
      help,
    };
  } catch (error) {
    throw error instanceof UsageError ? error : new UsageError((error as Error).message);
  }
}

async function work(order: Order): Promise<Answer> {
  const rule = RULES.find(({ name }) => name === order.rule);
  const scope = SCOPES[order.scope ?? -1];
  const budget = scope?.budget ?? { ...NOTHING_HAPPENS, ...rule?.needs };
  const beganMs = performance.now();
  const conduct = rule?.conduct ?? SOUND;
  const result = search({ budget, conduct, statesMax: order.states });
  return { ...order, result, seconds: (performance.now() - beganMs) / 1_000 };
}

function say({ scope, rule, result, seconds }: Answer): void {
  const { states, complete, violation } = result;
  const what = rule === null ? budgetText(SCOPES[scope ?? -1]?.budget ?? NOTHING_HAPPENS) : rule;
  const seen = complete ? "all" : "not all";
  const found = violation ?? `nothing breaks, ${seen} was seen`;
  process.stderr.write(`${what}: ${states} states in ${seconds.toFixed(0)} s: ${found}\n`);
}

async function main(asked: Arguments): Promise<number> {
  if (asked.help) {
    process.stdout.write(USAGE);
    return 0;
  }
  const { states } = asked;
  const scopes =
    asked.rule === null ? SCOPES.map((_, scope) => ({ scope, rule: null, states })) : [];
  const rules = RULES.filter(({ name }) => asked.rule === null || name === asked.rule).map(
    ({ name }) => ({ scope: null, rule: name, states }),
  );
  // The long ones first.
  const orders: Order[] = [...scopes.toReversed(), ...rules];
  const answers: Answer[] = [];
  await inWorkers<Order, Answer>({
    module: import.meta.url,
    jobs: Math.min(asked.jobs, orders.length),
    next: () => orders.shift() ?? null,
    answered: (answer) => {
      say(answer);
      answers.push(answer);
    },
  });
  return conclude(asked, answers);
}

function conclude({ write }: Arguments, answers: readonly Answer[]): number {
  const scopes = SCOPES.flatMap((scope, index): ScopeResult[] => {
    const answer = answers.find((one) => one.scope === index);
    if (answer === undefined) return [];
    const { result, seconds } = answer;
    return [{ scope, result, seconds }];
  });
  const rules = RULES.flatMap((rule): RuleResult[] => {
    const answer = answers.find((one) => one.rule === rule.name);
    return answer === undefined ? [] : [{ rule, result: answer.result }];
  });
  if (write) writeAll(scopes, rules);
  const sum = (of: "states" | "transitions"): number =>
    answers.reduce((total, { result }) => total + result[of], 0);
  const broken = scopes.filter(({ result }) => result.violation !== null);
  for (const { result } of broken) process.stdout.write(`${result.schedule.join("\n")}\n`);
  const cut = scopes.filter(({ scope, result }) => scope.whole && !result.complete);
  const missed = rules.filter(({ result }) => result.violation === null);
  const named =
    missed.length === 0 ? "" : ` (missed: ${missed.map(({ rule }) => rule.name).join()})`;
  process.stdout.write(
    `${sum("states")} states, ${sum("transitions")} transitions, ${broken.length} violations with all ` +
      `rules in ${scopes.length} scopes, ${cut.length} cut off unexpectedly; ` +
      `${rules.length} rules taken away, ${rules.length - missed.length} noticed${named}\n`,
  );
  return broken.length + cut.length + missed.length === 0 ? 0 : 1;
}

function writeAll(scopes: readonly ScopeResult[], rules: readonly RuleResult[]): void {
  const folder = new URL("schedules/", import.meta.url);
  mkdirSync(folder, { recursive: true });
  for (const result of rules) {
    writeFileSync(new URL(`${result.rule.name}.txt`, folder), scheduleText(result));
  }
  writeFileSync(new URL("MODEL.md", import.meta.url), document(scopes, rules));
}

if (process.argv.includes("--worker")) serveOrders(work);
else {
  try {
    process.exitCode = await main(argumentsOf(process.argv.slice(2)));
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    process.stderr.write(`${error.message}\n${USAGE}`);
    process.exitCode = 2;
  }
}
