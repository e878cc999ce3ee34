/**
 * `npm run test:cluster`: the tests on a real cluster: the one that KUBECONFIG names, or one of
 * this machine that is there for the length of the test only. With arguments these go to mocha:
 * `npm run test:cluster -- --grep follower`. Exit status 3: this machine lacks what it needs.
 */
import { spawnSync } from "node:child_process";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { compile, installDependencies, root, tool } from "./bootstrap.mjs";
import { clusterEnvironment, down, LACKING, loadImage, obstacle, up } from "./cluster.mjs";
import { closingLine, LANES, runLane } from "./lanes.mjs";

/**
 * Runs `work` with KUBECONFIG set to a cluster that has this project's image. Returns what it
 * returns; null when there is no cluster, which has been said.
 */
export function withCluster(work) {
  if ((process.env.KUBECONFIG ?? "") !== "") return work();
  const signals = ["SIGINT", "SIGTERM", "SIGHUP"];
  // Children get the signal from the terminal and end; what is taken down below must not.
  const ignore = () => undefined;
  for (const signal of signals) process.on(signal, ignore);
  try {
    if (!up() || !loadImage()) return null;
    Object.assign(process.env, clusterEnvironment());
    return work();
  } finally {
    delete process.env.KUBECONFIG;
    down();
    for (const signal of signals) process.off(signal, ignore);
  }
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
