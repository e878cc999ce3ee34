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

/** Its own bound for ending is 5 s. */
const GRACE_MS = 6_000;
const POLL_MS = 20;

/** The process of a replica that an earlier `up` started, if it still runs; else null. */
export function leftProcess(paths: ReplicaPaths): number | null {
  const file = readJson(paths.pid);
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
 * were. Throws DirectoryInUse where an `up` runs, whose they are, and the signal's reason.
 */
export async function endLeftSidecars(
  dir: string,
  signal: AbortSignal,
): Promise<readonly LeftSidecar[]> {
  if (leftSidecars(dir).length === 0) return [];
  // No `up` can take them over meanwhile.
  const lock = lockDirectory(dir);
  try {
    const left = leftSidecars(dir);
    // One that is paused hears nothing before it goes on.
    for (const sidecar of left) send(dir, sidecar, "SIGTERM", "SIGCONT");
    const forceMs = performance.now() + GRACE_MS;
    for (let running = left; running.length > 0; running = leftSidecars(dir)) {
      if (performance.now() > forceMs) for (const sidecar of running) send(dir, sidecar, "SIGKILL");
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

function send(dir: string, { node, pid }: LeftSidecar, ...signals: NodeJS.Signals[]): void {
  for (const signal of signals) {
    if (leftProcess(replicaPaths(dir, node)) !== pid) return;
    try {
      process.kill(pid, signal);
    } catch {
      // It ended in this moment.
    }
  }
}
