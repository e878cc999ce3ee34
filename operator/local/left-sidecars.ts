/**
 * Sidecars that go on after their `up` was killed: they serve, and nobody elects or rebuilds. The
 * next `up` takes them over, `down` ends them. A process is one of them only if its command line
 * names the replica's own directory: the number alone may be anybody's by now.
 */
import { setTimeout as sleep } from "node:timers/promises";
import {
  lockDirectory,
  readJson,
  type ReplicaPaths,
  replicaPaths,
  storePaths,
} from "./directory.ts";
import { isProcessOf } from "./pod.ts";
import { parseSettings, replicaEndpoints } from "./settings.ts";

/** One that runs without its `up`. */
export interface LeftSidecar {
  readonly node: string;
  readonly pid: number;
}

/** How they are ended. */
export interface EndLimits {
  /** For an orderly end; a sidecar's own bound is 5 s. */
  readonly graceMs: number;
  /** For an end by force, which takes long only where a disk does not answer. */
  readonly forcedMs: number;
  readonly kill: (pid: number, signal: NodeJS.Signals) => void;
}

const LIMITS: EndLimits = {
  graceMs: 6_000,
  forcedMs: 5_000,
  kill: (pid, signal) => void process.kill(pid, signal),
};
const POLL_MS = 20;

/** The process of a replica that an earlier `up` started, if it still runs; else null. */
export function leftProcess(paths: ReplicaPaths): number | null {
  const file = readPid(paths.pid);
  const pid: unknown = typeof file === "object" && file !== null ? Reflect.get(file, "pid") : null;
  return typeof pid === "number" && isProcessOf(pid, paths.wal) ? pid : null;
}

/** Those of the store in `dir`; none where there is no store. They are left while no `up` runs. */
export function leftSidecars(dir: string): readonly LeftSidecar[] {
  return nodesOf(dir).flatMap((node) => {
    const pid = leftProcess(replicaPaths(dir, node));
    return pid === null ? [] : [{ node, pid }];
  });
}

/**
 * Ends those of the store in `dir`, in order, and by force after their time; resolves with who they
 * were. Throws DirectoryInUse where an `up` runs, whose they are, the signal's reason, and Error
 * for one that cannot be ended.
 */
export async function endLeftSidecars(
  dir: string,
  signal: AbortSignal,
  limits: Partial<EndLimits> = {},
): Promise<readonly LeftSidecar[]> {
  const { graceMs, forcedMs, kill } = { ...LIMITS, ...limits };
  if (leftSidecars(dir).length === 0) return [];
  // No `up` can take them over meanwhile.
  const lock = lockDirectory(dir);
  try {
    const left = leftSidecars(dir);
    // One that is paused hears nothing before it goes on.
    for (const sidecar of left) send(dir, sidecar, kill, "SIGTERM", "SIGCONT");
    const askedMs = performance.now();
    let forcedAtMs: number | null = null;
    for (let running = left; running.length > 0; running = leftSidecars(dir)) {
      const nowMs = performance.now();
      if (forcedAtMs !== null && nowMs - forcedAtMs > forcedMs) {
        throw new Error(`${sidecarNames(running)}: still there ${forcedMs} ms after SIGKILL`);
      }
      if (nowMs - askedMs > graceMs) {
        forcedAtMs ??= nowMs;
        for (const sidecar of running) send(dir, sidecar, kill, "SIGKILL");
      }
      await sleep(POLL_MS, undefined, { signal }).catch(() => signal.throwIfAborted());
    }
    return left;
  } finally {
    lock.release();
  }
}

function nodesOf(dir: string): readonly string[] {
  const path = storePaths(dir).settings;
  const settings = readJson(path);
  if (settings === null) return [];
  return replicaEndpoints(parseSettings(settings, path)).map(({ node }) => node);
}

/** What a person needs to find them. */
export function sidecarNames(sidecars: readonly LeftSidecar[]): string {
  return sidecars.map(({ node, pid }) => `${node} (process ${pid})`).join(", ");
}

/** Null also for what an `up` that was killed had not written to its end. */
function readPid(path: string): unknown {
  try {
    return readJson(path);
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
}

function send(
  dir: string,
  sidecar: LeftSidecar,
  kill: EndLimits["kill"],
  ...signals: readonly NodeJS.Signals[]
): void {
  for (const signal of signals) {
    if (leftProcess(replicaPaths(dir, sidecar.node)) !== sidecar.pid) return;
    try {
      kill(sidecar.pid, signal);
    } catch (error) {
      // It ended in this moment.
      if ((error as NodeJS.ErrnoException).code === "ESRCH") return;
      const { message } = error as Error;
      throw new Error(`${sidecarNames([sidecar])} cannot be ended: ${message}`, { cause: error });
    }
  }
}
