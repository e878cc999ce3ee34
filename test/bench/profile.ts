import { copyFileSync, existsSync, mkdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { BenchStore } from "./store.ts";

/** What V8 writes; times in microseconds. */
interface CpuProfile {
  readonly nodes: readonly {
    readonly id: number;
    readonly callFrame: {
      readonly functionName: string;
      readonly url: string;
      readonly lineNumber: number;
    };
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
  label: (frame: CpuProfile["nodes"][number]["callFrame"]) => string | null,
): readonly Cost[] {
  const labels = new Map(profile.nodes.map(({ id, callFrame }) => [id, label(callFrame)]));
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

function functionOf({ functionName, url, lineNumber }: CpuProfile["nodes"][number]["callFrame"]) {
  if (functionName === "(idle)") return null;
  const file = url.split("/").slice(-2).join("/");
  const name = functionName || "(anonymous)";
  return file === "" ? name : `${name} (${file}:${lineNumber + 1})`;
}

/** The folder of ours, the package, or the part of Node. */
function partOf({ functionName, url }: CpuProfile["nodes"][number]["callFrame"]): string | null {
  if (functionName === "(idle)") return null;
  const ours = /\/dist\/((sidecar|operator)\/[^/]+)/.exec(url)?.[1];
  const library = /node_modules\/((@[^/]+\/)?[^/]+)/.exec(url)?.[1];
  if (library !== undefined) return library;
  if (ours !== undefined) return ours;
  if (url.startsWith("node:")) return url.split("/").slice(0, 2).join("/");
  return functionName || "(anonymous)";
}

function listed(all: readonly Cost[], count: number): string {
  return all
    .slice(0, count)
    .map(({ what, share }) => `${what} ${(share * 100).toFixed(1)} %`)
    .join(", ");
}
