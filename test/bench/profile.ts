import { copyFileSync, existsSync, mkdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { BenchStore } from "./store.ts";

/** A function as V8 names it; no `url`: none of JavaScript's. */
interface Frame {
  readonly functionName: string;
  readonly url: string;
  readonly lineNumber: number;
}

/** What V8 writes; times in microseconds. */
interface CpuProfile {
  readonly nodes: readonly {
    readonly id: number;
    readonly callFrame: Frame;
    readonly children?: readonly number[];
  }[];
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
}

/** A share of the time in which the process was not idle. */
export interface Cost {
  readonly what: string;
  readonly share: number;
}

const COSTS_SHOWN = 3;
const WRITE_TIMEOUT_MS = 10_000;

/**
 * Runs `work` while the leader is profiled; leaves the profile at `path`.cpuprofile and says in
 * `notes` where its time went.
 */
export async function profiled<T>(
  store: BenchStore,
  path: string,
  notes: string[],
  work: () => Promise<T>,
): Promise<T> {
  if (store.profileDir === null) throw new Error("the store was not started for profiling");
  const { pid } = await store.leader();
  const written = join(store.profileDir, `${pid}.cpuprofile`);
  process.kill(pid, "SIGUSR2");
  const result = await work();
  process.kill(pid, "SIGUSR2");
  const deadlineMs = performance.now() + WRITE_TIMEOUT_MS;
  while (!existsSync(written)) {
    if (performance.now() > deadlineMs) throw new Error("the leader wrote no profile");
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  mkdirSync(dirname(path), { recursive: true });
  copyFileSync(written, `${path}.cpuprofile`);
  const profile = JSON.parse(readFileSync(written, "utf8")) as CpuProfile;
  notes.push(`${path}.cpuprofile, share of the leader's busy time:`);
  notes.push(`  by part: ${listed(costs(profile, partOf), 8)}`);
  notes.push(`  by function: ${listed(costs(profile, functionOf), COSTS_SHOWN)}`);
  return result;
}

/** Self time by what `label` calls a frame, the biggest first. */
function costs(
  profile: CpuProfile,
  label: (frame: Frame, caller: Frame | undefined) => string | null,
): readonly Cost[] {
  const callers = new Map<number, Frame>();
  for (const { callFrame, children = [] } of profile.nodes) {
    for (const child of children) callers.set(child, callFrame);
  }
  const labels = new Map(
    profile.nodes.map(({ id, callFrame }) => [id, label(callFrame, callers.get(id))]),
  );
  const spent = new Map<string, number>();
  let busy = 0;
  for (const [index, id] of profile.samples.entries()) {
    const what = labels.get(id);
    if (what === null || what === undefined) continue;
    const delta = profile.timeDeltas[index] ?? 0;
    busy += delta;
    spent.set(what, (spent.get(what) ?? 0) + delta);
  }
  return [...spent]
    .map(([what, micros]) => ({ what, share: micros / busy }))
    .sort((a, b) => b.share - a.share);
}

/**
 * All functions of native addons share one entry point, and V8 names it after whichever was
 * registered last: 300 ms of checksums show as a file system call that nobody made. So native time
 * is named after its caller, and counts as the caller's part.
 */
function functionOf(frame: Frame, caller: Frame | undefined): string | null {
  const { functionName, url, lineNumber } = frame;
  if (functionName === "(idle)") return null;
  if (isNative(frame) && caller?.url) return `native code of ${functionOf(caller, undefined)}`;
  const file = url.split("/").slice(-2).join("/");
  const name = functionName || "(anonymous)";
  return file === "" ? name : `${name} (${file}:${lineNumber + 1})`;
}

/** The folder of ours, the package, or the part of Node. */
function partOf(frame: Frame, caller: Frame | undefined): string | null {
  const { functionName, url } = frame;
  if (functionName === "(idle)") return null;
  if (isNative(frame) && caller?.url) return partOf(caller, undefined);
  const ours = /\/dist\/((sidecar|operator)\/[^/]+)/.exec(url)?.[1];
  const library = /node_modules\/((@[^/]+\/)?[^/]+)/.exec(url)?.[1];
  if (library !== undefined) return library;
  if (ours !== undefined) return ours;
  if (url.startsWith("node:")) return url.split("/").slice(0, 2).join("/");
  return functionName || "(anonymous)";
}

/** `(program)`, `(garbage collector)` and the like are no function. */
function isNative({ functionName, url }: Frame): boolean {
  return url === "" && !functionName.startsWith("(");
}

function listed(all: readonly Cost[], count: number): string {
  return all
    .slice(0, count)
    .map(({ what, share }) => `${what} ${(share * 100).toFixed(1)} %`)
    .join(", ");
}
