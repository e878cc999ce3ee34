/** The groups of tests; each is one mocha run with limits of its own. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { root, tool } from "./bootstrap.mjs";

/**
 * In the order in which they run. `match` is tested against a file's path below `test`, with `/`;
 * a test file belongs to the first lane that matches. `laneMinutes` ends a run that hangs.
 */
export const LANES = Object.freeze([
  { name: "e2e", match: /^(?:e2e|torture)\//, timeoutMs: 120_000, laneMinutes: 40 },
  { name: "cluster", match: /^cluster\//, timeoutMs: 600_000, laneMinutes: 40, only: true },
  { name: "sim", match: /^sim\//, timeoutMs: 300_000, laneMinutes: 20 },
  { name: "unit", match: /./, timeoutMs: 20_000, laneMinutes: 15 },
]);

/** Runs what `npm test` runs, cheapest lanes first; returns the sum of their counts. */
export function runLanes(lanes = LANES.filter((lane) => lane.only !== true).reverse()) {
  const sum = { passed: 0, failed: 0, skipped: 0 };
  for (const lane of lanes) {
    const totals = runLane(lane);
    for (const key of Object.keys(sum)) sum[key] += totals[key];
  }
  return sum;
}

/** The closing line that people and CI read. */
export function closingLine({ passed, failed, skipped }) {
  return `${passed} passed, ${failed} failed, ${skipped} skipped`;
}

/** Runs one lane; returns its counts. A run that dies before it counted is one failure. */
export function runLane(lane) {
  const files = testFiles().filter((file) => LANES.find((l) => l.match.test(file)) === lane);
  if (files.length === 0) return { passed: 0, failed: 0, skipped: 0 };
  const scratch = mkdtempSync(join(tmpdir(), "resilver-lane-"));
  const totalsFile = join(scratch, "totals.json");
  process.stdout.write(`\n=== ${lane.name}: ${files.length} files ===\n`);
  const paths = files.map((file) => `test/${file}`);
  const { status, signal } = spawnSync(
    process.execPath,
    [tool("mocha", "bin/mocha.js"), "--timeout", String(lane.timeoutMs), ...paths],
    {
      cwd: root,
      stdio: ["ignore", "inherit", "inherit"],
      env: { ...process.env, RESILVER_TEST_TOTALS: totalsFile },
      timeout: lane.laneMinutes * 60_000,
      killSignal: "SIGKILL",
    },
  );
  try {
    if (!existsSync(totalsFile)) {
      process.stdout.write(`${lane.name}: ended with ${signal ?? status} before its tests did\n`);
      return { passed: 0, failed: 1, skipped: 0 };
    }
    const totals = JSON.parse(readFileSync(totalsFile, "utf8"));
    if (status !== 0 && totals.failed === 0) totals.failed = 1;
    return totals;
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** Paths of all test files below `test`, with `/`, sorted. */
function testFiles() {
  return readdirSync(join(root, "test"), { recursive: true })
    .map((path) => path.replaceAll("\\", "/"))
    .filter((path) => path.endsWith(".test.ts"))
    .sort();
}
