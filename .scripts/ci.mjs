/**
 * What `.ci/run` does, step by step. A step that is not a test run counts as one test; a failed one
 * does not stop the others, so that one run tells all. What is fetched beside the dependencies is
 * kept in the user's cache folder, outside the checkout.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { compile, installDependencies, npmCommand, root } from "./bootstrap.mjs";
import { obstacle } from "./cluster.mjs";
import { closingLine, LANES, runLane, runLanes } from "./lanes.mjs";
import { simulatorCommand } from "./simulate.mjs";
import { occupied, withCluster } from "./test-cluster.mjs";
import { installTools } from "./tools.mjs";

const cache = join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "resilver");
const SMOKE_SIZE = "16MiB";
/** About 6 minutes on two cores that have nothing else to do. */
const SIMULATOR_MINUTES = 30;

installDependencies();
const totals = { passed: 0, failed: 0, skipped: 0 };
step("check", () => runNode(process.execPath, [".scripts/check.mjs"]));
compile();
// What could not be installed fails the tests that need it, and they say how to get it.
installTools();
add(runLanes());
// Always the same seeds: what fails here is a change's doing. People run others.
step("simulator", () => {
  const seeds = ["--seed", "100000", "--seeds", "2000"];
  return runNode(...simulatorCommand(seeds), SIMULATOR_MINUTES);
});
step("main job", () => smoke(process.execPath));
step("main job on Node 24", () => {
  const node = node24();
  if (node === null) return "this platform has no package with Node 24";
  return existsSync(node) && smoke(node);
});
cluster();
process.stdout.write(`\n${closingLine(totals)}\n`);
process.exitCode = totals.failed === 0 && totals.passed > 0 ? 0 : 1;

/** Runs `work` as one test: true passed, false failed, a text is the reason why it was skipped. */
function step(name, work) {
  process.stdout.write(`\n=== ${name} ===\n`);
  const startedMs = Date.now();
  const outcome = work();
  const seconds = ((Date.now() - startedMs) / 1000).toFixed(1);
  const word = outcome === true ? "passed" : outcome === false ? "FAILED" : `skipped: ${outcome}`;
  process.stdout.write(`${name}: ${word} (${seconds} s)\n`);
  add({
    passed: outcome === true ? 1 : 0,
    failed: outcome === false ? 1 : 0,
    skipped: typeof outcome === "string" ? 1 : 0,
  });
}

/**
 * The tests on a real cluster, last: the first time Kubernetes is built from its sources. What can
 * be installed is; a machine that may not have network namespaces skips them and says so. On any
 * other one a cluster that does not come up has failed.
 */
function cluster() {
  const given = (process.env.KUBECONFIG ?? "") !== "";
  const found = given ? null : obstacle({ install: true });
  if (found !== null) {
    step("cluster", () => {
      if (found.absent) return found.text;
      process.stdout.write(`${found.text}\n`);
      return false;
    });
    return;
  }
  const taken = given ? null : occupied();
  if (taken !== null) {
    step("cluster", () => {
      process.stdout.write(`${taken}\n`);
      return false;
    });
    return;
  }
  let counts = null;
  try {
    counts = withCluster(() => runLane(LANES.find(({ name }) => name === "cluster")));
  } catch (error) {
    process.stdout.write(`${error.stack}\n`);
  }
  if (counts !== null) add(counts);
  // This machine lacks nothing that could be named: whatever it is was printed above. No test on a
  // cluster has run, or the cluster has left something on this machine.
  else step("cluster", () => false);
}

function add(counts) {
  for (const key of Object.keys(totals)) totals[key] += counts[key];
}

function runNode(node, args, minutes = 10) {
  const PATH = [dirname(node), process.env.PATH].join(delimiter);
  const { status } = spawnSync(node, args, {
    cwd: root,
    stdio: ["ignore", "inherit", "inherit"],
    env: { ...process.env, PATH },
    timeout: minutes * 60_000,
    killSignal: "SIGKILL",
  });
  return status === 0;
}

/**
 * A replica is wiped under load and votes again, and nothing is lost, says the job's own result.
 */
function smoke(node) {
  const scratch = mkdtempSync(join(tmpdir(), "resilver-smoke-"));
  try {
    const result = join(scratch, "out.json");
    const args = [".scripts/start.mjs", "--once", "--size", SMOKE_SIZE, "--json", result];
    if (!runNode(node, args) || !existsSync(result)) return false;
    const { ok, lost } = JSON.parse(readFileSync(result, "utf8"));
    return ok === true && lost === 0;
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** Where Node 24's binary is, fetched from npm once; null where npm has none for this platform. */
function node24() {
  if (process.platform !== "linux" || !["x64", "arm64"].includes(process.arch)) return null;
  const name = `node-linux-${process.arch}`;
  const folder = join(cache, "node24");
  const binary = join(folder, "node_modules", name, "bin", "node");
  if (!existsSync(binary)) {
    mkdirSync(folder, { recursive: true });
    const install = ["install", "--prefix", folder, "--no-save", "--loglevel=error", `${name}@24`];
    const [command, args] = npmCommand(install);
    spawnSync(command, args, { stdio: ["ignore", "inherit", "inherit"] });
  }
  return binary;
}
