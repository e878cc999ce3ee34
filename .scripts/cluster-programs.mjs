/**
 * The programs and images of the test cluster (test/cluster), kept in the user's cache folder, and
 * what they need of this machine. Kubernetes comes as one Go program from Go's module proxy:
 * neither an image registry nor a release archive has to be reached.
 */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
} from "node:fs";
import { homedir, tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { root } from "./bootstrap.mjs";
import { ARCHITECTURES } from "./image-root.mjs";
import { writeArchive } from "./oci-archive.mjs";

const sources = join(root, "test", "cluster");
const folder = join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "resilver", "cluster");

/** What the one program is run as. */
const COMPONENTS = [
  "kube-apiserver",
  "kube-controller-manager",
  "kube-scheduler",
  "kubelet",
  "kube-proxy",
  "kubectl",
  "etcd",
  "helm",
  "coredns",
  "kwok",
];

/** Programs of this machine, and the Debian packages that they come in. */
const PACKAGES = {
  containerd: "containerd",
  runc: "runc",
  "/usr/lib/cni/bridge": "containernetworking-plugins",
  nft: "nftables",
  iptables: "iptables",
  conntrack: "conntrack",
  openssl: "openssl",
  curl: "curl",
  ip: "iproute2",
  sysctl: "procps",
  nsenter: "util-linux",
};

/** Where everything is that the running cluster has made. */
export const RUN = join(folder, "run");
/** Names the process whose tests the cluster is there for; absent: it is a person's. */
export const OWNER = join(RUN, "tests-of");

/**
 * What this machine cannot do, as texts for people; empty: all is well. No package and no program
 * changes these.
 */
export function lackingCapabilities() {
  if (process.platform !== "linux" || !(process.arch in ARCHITECTURES)) {
    return [`this machine is ${process.platform}/${process.arch}; a cluster runs on Linux`];
  }
  if (process.getuid?.() !== 0)
    return ["a cluster takes root; run it as root: sudo -E npm run ..."];
  const probe = ["--mount", "--net", "sh", "-c", "mount -t tmpfs none /mnt"];
  const { status, stderr, error } = spawnSync("unshare", probe, { encoding: "utf8" });
  if (status === 0) return [];
  const why = (error?.message ?? stderr).trim();
  return [`root may not make network and mount namespaces here: ${why}`];
}

/** Commands that install what is missing, in order; empty: nothing is. */
export function missingPrograms() {
  const packages = Object.entries(PACKAGES).filter(([program]) => !onPath(program));
  const commands = [];
  if (packages.length > 0) {
    const names = packages.map(([, name]) => name);
    commands.push(["apt-get", "update", "-q"]);
    commands.push(["apt-get", "install", "-y", "-q", "--no-install-recommends", ...names]);
  }
  if (!existsSync(binFolder()) && !onPath("go")) {
    commands.push(["apt-get", "install", "-y", "-q", "golang-go"]);
  }
  return commands;
}

function onPath(program) {
  const folders = program.startsWith("/")
    ? [""]
    : [...(process.env.PATH ?? "").split(delimiter), "/usr/sbin", "/sbin"];
  return folders.some((directory) => {
    try {
      accessSync(directory === "" ? program : join(directory, program), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** The folder of the programs as they are now: named after everything that they are made from. */
export function binFolder() {
  const hash = createHash("sha256").update(process.arch);
  for (const part of ["k8sbox", "pause"]) {
    for (const name of readdirSync(join(sources, part)).sort()) {
      hash.update(`\0${part}/${name}\0`).update(readFileSync(join(sources, part, name)));
    }
  }
  return join(folder, hash.digest("hex").slice(0, 16));
}

/**
 * Builds what is not there yet, a quarter of an hour's work when nothing is; returns the folders.
 * Ends the process where a build fails.
 */
export function buildPrograms() {
  const bin = binFolder();
  const images = join(bin, "images");
  if (existsSync(bin)) return { bin, images };
  mkdirSync(folder, { recursive: true });
  process.stdout.write(`building Kubernetes into ${bin} (10 to 15 minutes, once) ...\n`);
  // Aside, and renamed: what is there is whole.
  const unfinished = mkdtempSync(join(folder, "unfinished-"));
  try {
    buildKubernetes(unfinished);
    mkdirSync(join(unfinished, "images"));
    buildPause(join(unfinished, "images", "pause.tar"));
    renameSync(unfinished, bin);
  } finally {
    rmSync(unfinished, { recursive: true, force: true });
  }
  return { bin, images };
}

function buildKubernetes(bin) {
  const modules = readFileSync(join(sources, "k8sbox", "go.mod"), "utf8");
  const [, version, minor] = /^\tk8s\.io\/kubernetes (v\d+\.(\d+)\.\S+)$/m.exec(modules) ?? [];
  // What `kubectl version` shows; a release is built with the same.
  const set = ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"].flatMap((name) => [
    `-X ${name}.gitVersion=${version}`,
    `-X ${name}.gitMajor=1`,
    `-X ${name}.gitMinor=${minor}`,
  ]);
  const flags = ["-trimpath", "-buildvcs=false", "-ldflags", ["-s", "-w", ...set].join(" ")];
  go(["build", "-p", "2", ...flags, "-o", join(bin, "k8sbox"), "."], join(sources, "k8sbox"));
  for (const component of COMPONENTS) symlinkSync("k8sbox", join(bin, component));
}

/** The image of a pod's first process, which the kubelet cannot do without. */
function buildPause(file) {
  const image = mkdtempSync(join(tmpdir(), "resilver-pause-"));
  try {
    const flags = ["-trimpath", "-buildvcs=false", "-ldflags", "-s -w"];
    go(["build", ...flags, "-o", join(image, "pause"), "main.go"], join(sources, "pause"));
    writeArchive({
      file,
      reference: "localhost/pause:1",
      architecture: ARCHITECTURES[process.arch],
      layers: [{ folder: image, comment: "pause" }],
      config: { Entrypoint: ["/pause"] },
      labels: {},
    });
  } finally {
    rmSync(image, { recursive: true, force: true });
  }
}

function go(args, cwd) {
  const { status, error } = spawnSync("go", args, {
    cwd,
    stdio: ["ignore", "inherit", "inherit"],
    env: { ...process.env, CGO_ENABLED: "0", GOFLAGS: "" },
  });
  if (status !== 0) throw new Error(`go build in ${cwd} failed: ${error?.message ?? status}`);
}
