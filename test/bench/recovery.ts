import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { BenchOptions } from "./options.ts";
import { medianRows, type Report, type Row } from "./report.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));

/** What the demonstration reports, as far as it is looked at here. */
type DemoResult = Readonly<Record<string, unknown>>;

/**
 * The main job, as `npm start` does it: a follower is wiped under a paced load and votes again. The
 * reference, a copy of the same bytes with a sync, is made by the same process right after.
 */
export async function recovery(options: BenchOptions): Promise<Report> {
  const results = Array.from({ length: options.runs }, () => demonstrate(options.size));
  const rows = results.map((result) => [rowOf(options.size, result)]);
  const notes = ["times count from the start of the wiped process"];
  return await Promise.resolve({
    bench: "recovery",
    runs: options.runs,
    rows: medianRows(rows),
    raw: results,
    notes,
  });
}

/** Throws when it fails: its exit status says so. */
function demonstrate(size: string): DemoResult {
  const scratch = mkdtempSync(join(tmpdir(), "resilver-bench-"));
  const file = join(scratch, "out.json");
  try {
    const done = spawnSync(
      process.execPath,
      [join(root, ".scripts/start.mjs"), "--once", "--size", size, "--json", file],
      { stdio: ["ignore", "ignore", "pipe"], encoding: "utf8" },
    );
    if (done.status !== 0) throw new Error(`the demonstration failed: ${done.stderr}`);
    return JSON.parse(readFileSync(file, "utf8")) as DemoResult;
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

function rowOf(size: string, result: DemoResult): Row {
  const figure = (name: string) => {
    const value = result[name];
    return typeof value === "number" ? value : null;
  };
  return {
    what: `${size} wiped`,
    figures: {
      "seen ms": figure("detectedMs"),
      "first byte ms": figure("firstByteMs"),
      "transfer ms": figure("transferMs"),
      "votes ms": figure("votingMs"),
      "copy ms": figure("copyMs"),
      "times copy": figure("ratioToCopy"),
      "p99 before": figure("p99BeforeMs"),
      "p99 during": figure("p99DuringMs"),
      lost: figure("lost"),
    },
  };
}
