/**
 * `npm run tools`: programs that tests use and npm does not have, into the user's cache folder.
 * What is on the PATH already is left alone. Names of tools run for these only.
 */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  accessSync,
  constants,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
} from "node:fs";
import { homedir, tmpdir } from "node:os";
import { delimiter, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { root } from "./bootstrap.mjs";

const HELM = "helm.sh/helm/v3/cmd/helm@v3.22.0";

/** Where they are put; test/support/outside-tool.ts looks here too. */
const folder = join(
  process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"),
  "resilver",
  "tools",
  "bin",
);

const porcupineSources = join(root, "test", "linearizability", "porcupine");

const TOOLS = {
  helm: installHelm,
  promtool: installPrometheus,
  prometheus: installPrometheus,
  porcupine: buildPorcupine,
};

/** Installs what is missing; returns the names of those that are still not there. */
export function installTools(names = Object.keys(TOOLS)) {
  mkdirSync(folder, { recursive: true });
  return names.filter((name) => {
    const file = name === "porcupine" ? porcupineFile() : name;
    if (found(file)) return false;
    process.stdout.write(`installing ${name} into ${folder} ...\n`);
    TOOLS[name]();
    return !found(file);
  });
}

function found(name) {
  return [folder, ...(process.env.PATH ?? "").split(delimiter)].some((directory) => {
    try {
      accessSync(join(directory, name), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** Compiled from its module: no release archive has to be trusted beside Go's checksums. */
function installHelm() {
  run("go", ["install", HELM], { env: { ...process.env, GOBIN: folder } });
}

/** The checker around the Go module; its name tells builds of other sources apart. */
function buildPorcupine() {
  const target = join(folder, porcupineFile());
  const part = `${target}.${process.pid}`;
  // Two checkouts may build at once, and what is there must be whole.
  if (run("go", ["build", "-trimpath", "-o", part, "."], { cwd: porcupineSources })) {
    renameSync(part, target);
  }
}

/** As test/support/outside-tool.ts names it. */
function porcupineFile() {
  const hash = createHash("sha256");
  for (const name of readdirSync(porcupineSources).sort()) {
    hash.update(readFileSync(join(porcupineSources, name)));
  }
  return `porcupine-${hash.digest("hex").slice(0, 12)}`;
}

/** Out of Debian's package, which needs no root and starts no service. */
function installPrometheus() {
  const scratch = mkdtempSync(join(tmpdir(), "resilver-tools-"));
  try {
    if (!run("apt-get", ["download", "prometheus"], { cwd: scratch })) return;
    const archive = readdirSync(scratch).find((name) => name.endsWith(".deb"));
    if (archive === undefined || !run("dpkg-deb", ["-x", archive, "."], { cwd: scratch })) return;
    for (const name of ["promtool", "prometheus"]) {
      copyFileSync(join(scratch, "usr", "bin", name), join(folder, name));
    }
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

function run(command, args, options) {
  const done = spawnSync(command, args, {
    stdio: ["ignore", "inherit", "inherit"],
    timeout: 10 * 60_000,
    ...options,
  });
  if (done.error !== undefined) process.stderr.write(`${command}: ${done.error.message}\n`);
  return done.status === 0;
}

if (process.argv[1] !== undefined && resolve(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const wanted = process.argv.slice(2);
  const unknown = wanted.filter((name) => !(name in TOOLS));
  if (unknown.length > 0) {
    const there = Object.keys(TOOLS).join(", ");
    process.stderr.write(`no tool ${unknown.join(", ")}; tools: ${there}\n`);
    process.exit(2);
  }
  const missing = installTools(wanted.length > 0 ? wanted : undefined);
  for (const name of missing) process.stderr.write(`${name} could not be installed\n`);
  process.exitCode = missing.length === 0 ? 0 : 1;
}
