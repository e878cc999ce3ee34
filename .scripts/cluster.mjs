/**
 * `npm run cluster`: a real single-node Kubernetes on this machine, to try things on and for
 * `npm run test:cluster`. It lives in a network namespace of its own; what it is made of is in
 * test/cluster and cluster-programs.mjs.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, rmSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { root } from "./bootstrap.mjs";
import {
  binFolder,
  buildPrograms,
  lackingCapabilities,
  missingPrograms,
  OWNER,
  RUN,
} from "./cluster-programs.mjs";

/** Exit status when this machine lacks what a cluster needs. */
export const LACKING = 3;
/** Containers are ended one after the other, and a build of an image may be under way. */
const SCRIPT_MINUTES = 5;

const HELP = `Usage: npm run cluster -- up | env | image | down [--keep] | status

  up             a single-node Kubernetes on this machine with this project's image in it, ready in
                 about ten seconds; the first time it is built, which takes ten to fifteen minutes
  env            prints what a shell needs for kubectl and helm:
                   eval "$(npm run --silent cluster -- env)"
  image          makes the image of the sources as they are now, and puts it in
  down           ends it, and takes back all that it changed; its data is removed
  down --keep    leaves its data, for the next \`up\`
  status         whether it runs

The exit status is 3 when this machine lacks what it needs; what that is, is said.
`;

/** Environment for kubectl and helm of the running cluster. */
export function clusterEnvironment() {
  return {
    KUBECONFIG: join(RUN, "kubeconfig"),
    PATH: `${binFolder()}:${process.env.PATH ?? ""}`,
  };
}

/**
 * What keeps a cluster from running here, as a text; null: nothing. With `install` programs that
 * are missing are installed first.
 */
export function obstacle({ install = false } = {}) {
  const lacking = lackingCapabilities();
  if (lacking.length > 0) return { absent: true, text: lacking.join("; ") };
  if (install) {
    for (const [command, ...args] of missingPrograms()) {
      process.stdout.write(`${command} ${args.join(" ")}\n`);
      const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
      spawnSync(command, args, { stdio: ["ignore", "inherit", "inherit"], env });
    }
  }
  const commands = missingPrograms().map((command) => command.join(" "));
  if (commands.length === 0) return null;
  return { absent: false, text: `programs are missing: ${commands.join(" && ")}` };
}

/** Brings the cluster up; true when it is. Building takes long the first time. */
export function up() {
  buildPrograms();
  return script("up.sh");
}

/** Ends the cluster. */
export function down({ keep = false } = {}) {
  return script("down.sh", ...(keep ? [] : ["wipe"]));
}

/** Whether a cluster of this machine is up, or was brought up in part and not ended. */
export function running() {
  return script("running.sh");
}

/** Makes this project's image and puts it into the cluster; true when it is there. */
export function loadImage() {
  const file = join(RUN, "image.tar");
  const make = [join(root, ".scripts", "image.mjs"), "--output", file];
  const put = ["-a", join(RUN, "containerd.sock"), "-n", "k8s.io", "images", "import", file];
  const stdio = ["ignore", "inherit", "inherit"];
  return (
    spawnSync(process.execPath, make, { stdio }).status === 0 &&
    spawnSync("ctr", put, { stdio }).status === 0
  );
}

function script(name, ...args) {
  const bin = binFolder();
  mkdirSync(dirname(RUN), { recursive: true });
  // One at a time: an end that is not over would take parts of the next cluster with it.
  const alone = ["-o", `${RUN}.lock`, "sh", join(root, "test", "cluster", name)];
  const { status } = spawnSync("flock", [...alone, ...args], {
    stdio: ["ignore", "inherit", "inherit"],
    env: { ...process.env, BIN: bin, RUN, IMAGES: join(bin, "images") },
    timeout: SCRIPT_MINUTES * 60_000,
  });
  return status === 0;
}

function main([command, ...options]) {
  if (command === "up" && options.length === 0) {
    const found = obstacle();
    if (found !== null) {
      process.stderr.write(`cluster: ${found.text}\n`);
      return LACKING;
    }
    rmSync(OWNER, { force: true });
    if (!up() || !loadImage()) return 1;
    process.stdout.write(`
The cluster is up. In a shell, in this folder:
  eval "$(npm run --silent cluster -- env)"
  kubectl apply --server-side -f crds/
  helm install resilver charts/resilver --wait
`);
    return 0;
  }
  if (command === "env" && options.length === 0) {
    const { KUBECONFIG } = clusterEnvironment();
    process.stdout.write(`export KUBECONFIG='${KUBECONFIG}' PATH='${binFolder()}':"$PATH"\n`);
    return 0;
  }
  if (command === "image" && options.length === 0) return loadImage() ? 0 : 1;
  const keep = options.length === 1 && options[0] === "--keep";
  if (command === "down" && (keep || options.length === 0)) return end(keep);
  if (command === "status" && options.length === 0) return status();
  const help = command === "--help" && options.length === 0;
  (help ? process.stdout : process.stderr).write(HELP);
  return help ? 0 : 2;
}

function end(keep) {
  if (!down({ keep })) {
    process.stderr.write("cluster: not all of it ended; run this again\n");
    return 1;
  }
  const data = keep ? "its data is there for the next `up`" : "its data is removed";
  process.stdout.write(`the cluster is down; ${data}\n`);
  return 0;
}

function status() {
  if (!existsSync(clusterEnvironment().KUBECONFIG)) {
    process.stdout.write("the cluster is down\n");
    return 1;
  }
  const env = { ...process.env, ...clusterEnvironment() };
  const args = ["get", "nodes,pods", "--all-namespaces", "--output=wide", "--request-timeout=5s"];
  return spawnSync("kubectl", args, { stdio: ["ignore", "inherit", "inherit"], env }).status ?? 1;
}

if (process.argv[1] !== undefined && resolve(process.argv[1]) === fileURLToPath(import.meta.url)) {
  process.exitCode = main(process.argv.slice(2));
}
