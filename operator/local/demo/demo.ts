import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { stopped, type Terminal } from "../cli/exit.ts";
import { DirectoryInUse, lockDirectory } from "../directory.ts";
import type { LocalStore } from "../local-store.ts";
import { startUp, type UpSession } from "../up.ts";
import { DemoRun } from "./demo-run.ts";
import { projectModules } from "./input.ts";
import type { DemoOptions } from "./options.ts";
import {
  demoResult,
  type DemoResult,
  failedResult,
  type FailedResult,
  renderResult,
} from "./result.ts";

const WORK_DIR = ".resilver";

/**
 * The demonstration: a real store, real data, a destroyed disk under load, a rebuild, and the
 * proof. Resolves with whether every wiped replica votes again and nothing was lost. Throws when it
 * cannot be run.
 */
export async function runDemo(options: DemoOptions, terminal: Terminal): Promise<boolean> {
  const input = options.input ?? projectModules();
  if (input === null || !existsSync(input)) {
    throw new Error(`--input: ${input ?? "node_modules"}: there is no such directory`);
  }
  // Stays when the run does not come to a result, however it ends.
  writeResult(options, failedResult(options.replicas));
  terminal.stop.throwIfAborted();
  const dir = options.dir ?? temporaryDir();
  const session = await startUp({
    dir,
    replicas: options.replicas,
    shards: 1,
    defaultPort: "free",
    ...(options.port === undefined ? {} : { port: options.port }),
    // A person who wipes the same replica again and again wants to see it rebuilt, not cooled down.
    policy: { cooldownMs: 0 },
  });
  // However this process ends, nothing of a demonstration may run on.
  const killPods = () => killAllNow(session.store);
  process.once("exit", killPods);
  try {
    return await demonstrate(session, options, input, terminal);
  } finally {
    await session.close();
    process.removeListener("exit", killPods);
    if (options.dir === undefined) rmSync(dir, { recursive: true, force: true });
  }
}

async function demonstrate(
  session: UpSession,
  options: DemoOptions,
  input: string,
  terminal: Terminal,
): Promise<boolean> {
  const run = new DemoRun(session.store, options, terminal);
  let result: DemoResult;
  try {
    result = demoResult(await run.measure(input));
  } finally {
    await run.close();
  }
  terminal.out(`\n${renderResult(result, { color: terminal.interactive })}`);
  writeResult(options, result);
  if (!options.once && !terminal.stop.aborted) await stayUp(session, terminal);
  return result.ok;
}

function writeResult({ json }: DemoOptions, result: DemoResult | FailedResult): void {
  if (json !== undefined) writeFileSync(json, `${JSON.stringify(result, null, 2)}\n`);
}

async function stayUp(session: UpSession, terminal: Terminal): Promise<void> {
  const status = session.store.status();
  const dir = session.store.dir;
  terminal.out("\nThe store stays up. Its metrics:\n");
  for (const pod of status.pods)
    terminal.out(`  ${pod.name}  http://${pod.metricsAddress}/metrics\n`);
  terminal.out(`  coordinator  http://${status.coordinatorMetricsAddress}/metrics\n`);
  terminal.out("\nTry, in another terminal:\n");
  for (const command of [
    `local status --watch --dir ${dir}`,
    `local wipe ${status.pods[0]?.name ?? "resilver-0"} --dir ${dir}`,
    `local kill ${status.pods[1]?.name ?? "resilver-1"} --dir ${dir}`,
    `put hello world --dir ${dir} && npx resilver get hello --dir ${dir}`,
  ]) {
    terminal.out(`  npx resilver ${command}\n`);
  }
  terminal.out("\nCtrl-C ends it.\n");
  await Promise.race([
    session.downAsked,
    session.store.fatal.then((error) => Promise.reject(error)),
    stopped(terminal.stop),
  ]);
}

/**
 * A directory of its own below the working directory (a real disk, unlike some /tmp); old ones are
 * removed.
 */
function temporaryDir(): string {
  mkdirSync(WORK_DIR, { recursive: true });
  for (const name of readdirSync(WORK_DIR)) {
    if (name.startsWith("demo-")) removeUnused(resolve(WORK_DIR, name));
  }
  return resolve(WORK_DIR, `demo-${process.pid}`);
}

/** Left behind by a killed run, unless another run holds it. */
function removeUnused(dir: string): void {
  try {
    lockDirectory(dir).release();
    rmSync(dir, { recursive: true, force: true });
  } catch (error) {
    if (!(error instanceof DirectoryInUse)) throw error;
  }
}

function killAllNow(store: LocalStore): void {
  for (const { pid } of store.platform.statuses()) {
    try {
      if (pid !== null) process.kill(pid, "SIGKILL");
    } catch {
      // Gone already.
    }
  }
}
