/**
 * `npm run test:scale`: the operator with very many stores, on the cluster that KUBECONFIG names or
 * on one of this machine that is there for the run only. Exit status 3: this machine lacks what it
 * needs.
 */
import { spawnSync } from "node:child_process";
import { installDependencies, root } from "./bootstrap.mjs";
import { bundle } from "./bundle.mjs";
import { LACKING, obstacle } from "./cluster.mjs";
import { occupied, withCluster } from "./test-cluster.mjs";

installDependencies();
process.exitCode = main(process.argv.slice(2));

function main(args) {
  const measure = () => {
    const programs = [
      bundle("test/scale/operator-process.ts", "scale-operator"),
      bundle("test/scale/fake-sidecars-process.ts", "scale-sidecars"),
    ];
    const file = bundle("test/scale/main.ts", "scale");
    return spawnSync(process.execPath, ["--enable-source-maps", file, ...programs, ...args], {
      cwd: root,
      stdio: ["ignore", "inherit", "inherit"],
    }).status;
  };
  if (args.includes("--help")) return measure() ?? 1;
  if ((process.env.KUBECONFIG ?? "") === "") {
    const found = obstacle();
    if (found !== null) {
      process.stderr.write(`test:scale: ${found.text}\n`);
      return LACKING;
    }
    const taken = occupied();
    if (taken !== null) {
      process.stderr.write(`test:scale: ${taken}\n`);
      return 1;
    }
  }
  return withCluster(measure, { image: false }) ?? 1;
}
