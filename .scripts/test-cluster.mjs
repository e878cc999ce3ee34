/**
 * `npm run test:cluster`: the tests on a real cluster: the one that KUBECONFIG names, or one of
 * this machine that is there for the length of the test only. With arguments these go to mocha:
 * `npm run test:cluster -- --grep follower`. Exit status 3: this machine lacks what it needs.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { compile, installDependencies, root, tool } from "./bootstrap.mjs";
import { clusterEnvironment, down, LACKING, loadImage, obstacle, running, up } from "./cluster.mjs";
import { OWNER, RUN } from "./cluster-programs.mjs";
import { closingLine, LANES, runLane } from "./lanes.mjs";
import { leftBehind, machineState } from "./machine-state.mjs";

/** Until what was ended is gone. */
const GONE_MS = 10_000;

/** Why the cluster of this machine is not for these tests to take, as a text; null: it may be. */
export function occupied() {
  if (!running()) return null;
  const owner = existsSync(OWNER) ? readFileSync(OWNER, "utf8") : null;
  // One whose tests were killed is nobody's.
  if (owner !== null && owner !== identity(owner.split(" ")[0])) return null;
  if (owner !== null) return `the tests of process ${owner.split(" ")[0]} run on the cluster`;
  return (
    "a cluster is up; to test on it: " +
    'eval "$(npm run --silent cluster -- env)"; to be rid of it: npm run cluster -- down'
  );
}

function claim() {
  mkdirSync(RUN, { recursive: true });
  writeFileSync(OWNER, identity(process.pid));
  return true;
}

/** A process of this machine as number and time of its start; numbers are given again. */
function identity(pid) {
  const file = `/proc/${pid}/stat`;
  // What comes before the last bracket is the program's name, which may hold spaces.
  const fields = existsSync(file) ? readFileSync(file, "utf8").split(") ").at(-1).split(" ") : [];
  const ended = fields.length === 0 || fields[0] === "Z";
  return `${pid} ${ended ? "ended" : fields[19]}`;
}

/**
 * Runs `work` with KUBECONFIG set to a cluster, with this project's image in it unless `image` is
 * false. Returns what it returns; null when there is no cluster, or when ours has left something on
 * this machine, which has been said. One that is {@link occupied} must not be asked for.
 */
export function withCluster(work, { image = true } = {}) {
  if ((process.env.KUBECONFIG ?? "") !== "") return work();
  const signals = ["SIGINT", "SIGTERM", "SIGHUP"];
  // Children get the signal from the terminal and end; what is taken down below must not.
  const ignore = () => undefined;
  for (const signal of signals) process.on(signal, ignore);
  // What one left that was cut off (half-made releases and objects) would be found again.
  if (!down()) return null;
  const before = machineState();
  let result = null;
  try {
    if (claim() && up() && (!image || loadImage())) {
      Object.assign(process.env, clusterEnvironment());
      result = work();
    }
  } finally {
    delete process.env.KUBECONFIG;
    down();
    for (const signal of signals) process.off(signal, ignore);
  }
  return tookAllBack(before) ? result : null;
}

/** Whether the machine is as it was before the cluster came up; says how it is not. */
function tookAllBack(before) {
  const endMs = Date.now() + GONE_MS;
  let left = leftBehind(before, machineState());
  // The kernel ends what was killed, and its groups, in its own time.
  while (left.length > 0 && Date.now() < endMs) left = leftBehind(before, machineState());
  if (left.length === 0) return true;
  process.stderr.write("test:cluster: the cluster is down, and this machine is not as before:\n");
  for (const text of left) process.stderr.write(`  ${text}\n`);
  return false;
}

function main(args) {
  installDependencies();
  compile();
  if ((process.env.KUBECONFIG ?? "") === "") {
    const found = obstacle();
    if (found !== null) {
      process.stderr.write(`test:cluster: ${found.text}\n`);
      return LACKING;
    }
    const taken = occupied();
    if (taken !== null) {
      process.stderr.write(`test:cluster: ${taken}\n`);
      return 1;
    }
  }
  const lane = LANES.find(({ name }) => name === "cluster");
  if (args.length === 0) {
    const totals = withCluster(() => runLane(lane));
    if (totals === null) return 1;
    process.stdout.write(`\n${closingLine(totals)}\n`);
    return totals.failed === 0 && totals.passed > 0 ? 0 : 1;
  }
  const mocha = [tool("mocha", "bin/mocha.js"), "--timeout", String(lane.timeoutMs)];
  const files = args.some((arg) => arg.endsWith(".test.ts")) ? [] : ["test/cluster/*.test.ts"];
  const status = withCluster(
    () =>
      spawnSync(process.execPath, [...mocha, ...args, ...files], {
        cwd: root,
        stdio: ["ignore", "inherit", "inherit"],
      }).status,
  );
  return status ?? 1;
}

if (process.argv[1] !== undefined && resolve(process.argv[1]) === fileURLToPath(import.meta.url)) {
  process.exitCode = main(process.argv.slice(2));
}
