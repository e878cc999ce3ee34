/**
 * The root file system of the image: Node with the shared libraries that it needs, certificates,
 * users, and the program with its production dependencies. No shell, no package manager.
 */
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname, join, relative } from "node:path";
import { npmCommand, root } from "./bootstrap.mjs";

/** npm's package with Node's binary, exactly; another version is another image. */
const NODE_VERSION = "24.21.0";
/** User and group that processes run as; operator/specs says the same. */
export const RUN_AS = 65_532;
const CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt";

/**
 * What is left out of packages: nothing of it is read when a program runs. Builds for one version
 * of Node stand beside one for all of them.
 */
const NOT_RUN =
  /(\.(map|md|markdown|ts|cts|mts|c|cc|cpp|h|hpp|gyp|gypi|yml)|\.musl\.node|\/node\.abi\d+\.glibc\.node|\/(docs?|tests?|examples?|benchmarks?|\.github))$/i;

/** Names of architectures: Node's -> Docker's. */
export const ARCHITECTURES = { x64: "amd64", arm64: "arm64" };

/** Where packages are kept between runs, one folder for each set. */
function cachedPackages(cache, key, prepare, args) {
  const folder = join(cache, "image", key);
  const done = join(folder, ".done");
  if (existsSync(done)) return folder;
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  prepare(folder);
  const [command, all] = npmCommand([...args, "--prefix", folder, "--loglevel=error"]);
  const { status, error } = spawnSync(command, all, {
    cwd: folder,
    stdio: ["ignore", "inherit", "inherit"],
  });
  if (status !== 0) throw new Error(`npm ${args[0]} failed${error ? `: ${error.message}` : ""}`);
  writeFileSync(done, "");
  return folder;
}

/**
 * Fills `folder` with what changes rarely: Node, libraries, certificates, users. `program` is the
 * filled folder of the program: its native packages need libraries too.
 */
export function fillBase(folder, { cache, arch, program }) {
  const name = `node-linux-${arch}`;
  const packages = cachedPackages(cache, `${name}-${NODE_VERSION}`, () => {}, [
    "install",
    "--no-save",
    "--no-audit",
    "--no-fund",
    `${name}@${NODE_VERSION}`,
  ]);
  const node = join(packages, "node_modules", name, "bin", "node");
  put(folder, "/usr/local/bin/node", readFileSync(node), 0o755);
  put(folder, "/usr/share/doc/node/LICENSE", nodeLicense(join(node, "..", "..")));
  const native = readdirSync(program, { recursive: true })
    .filter((path) => path.endsWith(".node"))
    .map((path) => join(program, path));
  for (const library of sharedLibraries([node, ...native])) {
    put(folder, library, readFileSync(realpathSync(library)), 0o755);
    const notice = copyright(library);
    if (notice !== null) put(folder, notice, readFileSync(notice));
  }
  if (!existsSync(CERTIFICATES)) {
    throw new Error(`${CERTIFICATES} is not there: apt-get install ca-certificates`);
  }
  put(folder, CERTIFICATES, readFileSync(CERTIFICATES));
  const users = [
    "root:x:0:0:root:/:/nologin",
    `resilver:x:${RUN_AS}:${RUN_AS}:resilver:/:/nologin`,
  ];
  put(folder, "/etc/passwd", `${users.join("\n")}\n`);
  put(folder, "/etc/group", `root:x:0:\nresilver:x:${RUN_AS}:\n`);
  put(folder, "/etc/nsswitch.conf", "hosts: files dns\n");
  mkdirSync(join(folder, "tmp"));
  chmodSync(join(folder, "tmp"), 0o1777);
  normalizeModes(folder);
}

/** Fills `folder` with the program. `dist` must be compiled. */
export function fillProgram(folder, { cache, lockDigest }) {
  const app = join(folder, "app");
  const packages = cachedPackages(
    cache,
    `modules-${lockDigest}`,
    (into) => {
      for (const file of ["package.json", "package-lock.json"]) {
        copyFileSync(join(root, file), join(into, file));
      }
    },
    ["ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund"],
  );
  const modules = join(packages, "node_modules");
  cpSync(modules, join(app, "node_modules"), {
    recursive: true,
    filter: (path) => isRun(relative(modules, path)),
  });
  for (const part of ["operator", "sidecar"]) {
    cpSync(join(root, "dist", part), join(app, "dist", part), {
      recursive: true,
      filter: (path) => !path.endsWith(".map"),
    });
  }
  for (const file of ["package.json", "LICENSE"]) put(folder, `/app/${file}`, readText(file));
  // Two commands. The image has no env(1), which the files' own first lines would need.
  for (const [command, part] of [
    ["resilver", "operator"],
    ["resilver-sidecar", "sidecar"],
  ]) {
    const text = `#!/usr/local/bin/node\nimport("/app/dist/${part}/main.js");\n`;
    put(folder, `/usr/local/bin/${command}`, text, 0o755);
  }
  normalizeModes(folder);
}

function isRun(path) {
  if (path === ".bin" || path === ".package-lock.json") return false;
  const prebuilt = /\/prebuilds\/([^/]+)$/.exec(path);
  if (prebuilt !== null) return prebuilt[1] === `linux-${process.arch}`;
  // Licences stay, whatever they are called.
  return /licen[sc]e|notice|copying/i.test(basename(path)) || !NOT_RUN.test(path);
}

function readText(file) {
  return readFileSync(join(root, file));
}

function nodeLicense(packageFolder) {
  const name = readdirSync(packageFolder).find((file) => /^licen[sc]e/i.test(file));
  return name === undefined
    ? "Node.js: https://github.com/nodejs/node/blob/main/LICENSE\n"
    : readFileSync(join(packageFolder, name));
}

/**
 * Absolute paths of the libraries that programs are linked with and of their interpreter, as this
 * machine has them: the dynamic linker says so.
 */
function sharedLibraries(programs) {
  const paths = programs.flatMap((program) => {
    const { status, stdout, error } = spawnSync("ldd", [program], { encoding: "utf8" });
    if (status !== 0) throw new Error(`ldd ${program}: ${error?.message ?? "failed"}`);
    const missing = /(\S+) => not found/.exec(stdout);
    if (missing !== null) {
      throw new Error(`${missing[1]}, which ${program} needs, is not installed on this machine`);
    }
    return [...stdout.matchAll(/(?:=> |^\s*)(\/\S+) \(0x/gm)].map(([, path]) => path);
  });
  return [...new Set(paths)].sort();
}

/** The notice of the Debian package a library is from; null where there is no such thing. */
function copyright(library) {
  for (const path of [library, realpathSync(library)]) {
    const { status, stdout } = spawnSync("dpkg", ["-S", path], { encoding: "utf8" });
    const owner = status === 0 ? /^([^:,\s]+)/.exec(stdout)?.[1] : undefined;
    const notice = `/usr/share/doc/${owner}/copyright`;
    if (owner !== undefined && existsSync(notice)) return notice;
  }
  return null;
}

function put(folder, path, content, mode = 0o644) {
  const file = join(folder, path);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, content);
  chmodSync(file, mode);
}

/** Whoever builds it, with whatever umask: readable by all, writable by the owner. */
function normalizeModes(folder) {
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    if (entry.isSymbolicLink()) continue;
    const path = join(entry.parentPath, entry.name);
    if (path === join(folder, "tmp")) continue;
    const runnable = entry.isDirectory() || (statSync(path).mode & 0o100) !== 0;
    chmodSync(path, runnable ? 0o755 : 0o644);
  }
  chmodSync(folder, 0o755);
}
