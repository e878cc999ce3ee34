/**
 * What has to be there before anything of the project can run: installed dependencies and compiled
 * sources. Uses nothing but Node's own modules, since it runs in a fresh clone.
 */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** Top of the checkout, without a trailing slash. */
export const root = fileURLToPath(new URL("..", import.meta.url)).replace(/[/\\]$/, "");

/** Ends the process with a message unless this Node is new enough. */
export function requireNode() {
  const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
  if (major > 20 || (major === 20 && minor >= 19)) return;
  process.stderr.write(`Node ${process.versions.node} is too old: 20.19 or newer is needed.\n`);
  process.exit(1);
}

/** Installs what package-lock.json names when it is absent or another version. */
export function installDependencies() {
  requireNode();
  if (dependenciesPresent()) return;
  process.stderr.write("Installing dependencies (once; it can take minutes) ...\n");
  const progress = process.stderr.isTTY === true ? ["--progress"] : [];
  // Not `npm ci`: it removes what is there first, and insists on packages for other platforms.
  npm(["install", "--no-save", "--no-audit", "--no-fund", "--loglevel=error", ...progress]);
}

/** Runs npm in the checkout; ends the process when it fails. */
function npm(args) {
  const [command, all] = npmCommand(args);
  run(command, all);
}

/** Program and arguments that run npm. */
export function npmCommand(args) {
  // Inside an npm script npm says where it is; on its own it is on the PATH.
  const cli = process.env.npm_execpath;
  const inNode = cli !== undefined && /\.c?js$/.test(cli);
  const command = inNode ? process.execPath : process.platform === "win32" ? "npm.cmd" : "npm";
  return [command, inNode ? [cli, ...args] : args];
}

/**
 * Runs a command in the checkout with its output shown; ends the process with its status if not 0.
 */
export function run(command, args, options = {}) {
  const done = spawnSync(command, args, { cwd: root, stdio: "inherit", ...options });
  if (done.error !== undefined) process.stderr.write(`${command}: ${done.error.message}\n`);
  if (done.status !== 0) process.exit(done.status ?? 1);
}

/** Path of an installed program's JavaScript entry, to be run by this same Node. */
export function tool(name, file) {
  return join(root, "node_modules", name, file);
}

/**
 * Compiles `sidecar` and `operator` to `dist` when any source differs from what was compiled last.
 * Ends the process when the compiler reports an error.
 */
export function compile() {
  const stampFile = join(root, "dist", ".stamp");
  const stamp = sourceStamp();
  if (existsSync(stampFile) && readFileSync(stampFile, "utf8") === stamp) return;
  process.stderr.write("Compiling (once for each change) ...\n");
  // A source that is gone must not live on as a compiled file.
  rmSync(join(root, "dist"), { recursive: true, force: true });
  run(process.execPath, [tool("typescript", "bin/tsc"), "-p", ".tsconfig.build.json"]);
  bundleSidecar();
  run(process.execPath, [join(root, ".scripts", "lean-kube-client.mjs")]);
  // The command in package.json's `bin`: npx runs the file itself.
  chmodSync(join(root, "dist", "operator", "main.js"), 0o755);
  writeFileSync(stampFile, stamp);
}

/**
 * Joins the sidecar's modules into one file, `main.cjs`, and puts the loader in place of `main.js`:
 * a wiped replica's recovery begins with a start of this program, and hundreds of small modules
 * were most of that start. Native packages stay apart.
 */
function bundleSidecar() {
  const { buildSync } = createRequire(import.meta.url)("esbuild");
  buildSync({
    absWorkingDir: root,
    entryPoints: ["dist/sidecar/main.js"],
    outfile: "dist/sidecar/main.cjs",
    bundle: true,
    platform: "node",
    format: "cjs",
    target: "node20",
    // A script made from what V8 compiled before cannot call back for modules: it requires them.
    supported: { "dynamic-import": false },
    minifyWhitespace: true,
    logLevel: "warning",
    // Native.
    external: ["lmdb", "@node-rs/crc32", "@node-rs/xxhash", "fs-native-extensions"],
  });
  copyFileSync(
    join(root, ".scripts", "sidecar-loader.mjs"),
    join(root, "dist", "sidecar", "main.js"),
  );
}

/**
 * True when every package that package-lock.json requires on each platform is installed as named.
 */
function dependenciesPresent() {
  const hidden = join(root, "node_modules", ".package-lock.json");
  if (!existsSync(hidden)) return false;
  const installed = JSON.parse(readFileSync(hidden, "utf8")).packages ?? {};
  const wanted = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8")).packages ?? {};
  return Object.entries(wanted).every(
    ([path, entry]) =>
      path === "" || entry.optional === true || installed[path]?.version === entry.version,
  );
}

/** A digest over names, sizes and times of everything that the compiler reads. */
function sourceStamp() {
  const hash = createHash("sha256");
  const add = (path) => {
    const { size, mtimeMs } = statSync(path);
    hash.update(`${path}\0${size}\0${mtimeMs}\n`);
  };
  for (const file of [
    "tsconfig.json",
    ".tsconfig.build.json",
    "package-lock.json",
    ".scripts/sidecar-loader.mjs",
    ".scripts/lean-kube-client.mjs",
  ]) {
    add(join(root, file));
  }
  for (const folder of ["operator", "sidecar"]) {
    for (const name of readdirSync(join(root, folder), { recursive: true }).sort()) {
      if (name.endsWith(".ts")) add(join(root, folder, name));
    }
  }
  return hash.digest("hex");
}
