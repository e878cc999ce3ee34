/**
 * Becomes dist/sidecar/main.js: runs the bundle beside it with the code that V8 compiled of it
 * before. A recovery begins with a start of this program, and parsing was most of that start. What
 * V8 compiled is kept beside the bundle once, where that may be written. Its name is a hash of the
 * bundle and of Node's version and flags: V8 itself compares no more of a source than its length.
 */
import { createHash } from "node:crypto";
import { readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { setFlagsFromString } from "node:v8";
import vm from "node:vm";

// Before all else: the kernel drops a signal for which the first process of a container has no
// handler, and its pod then waits for the whole of its grace period. Nothing is open yet. What
// listens for signals in the bundle takes these away.
for (const signal of ["SIGTERM", "SIGINT"]) process.on(signal, () => process.exit(0));

/** By then the process serves, and what a start needs has been compiled. */
const KEEP_AFTER_MS = 3_000;

// V8 forgets what it compiled of functions that did not run for a while, in a busy process before
// the code is kept: the whole bundle's outermost one among them, and with it each start parsed all.
setFlagsFromString("--no-flush-bytecode");

const file = fileURLToPath(new URL("main.cjs", import.meta.url));
const source = readFileSync(file, "utf8");
const build = createHash("sha256")
  .update([process.version, process.arch, ...process.execArgv, ""].join(" "))
  .update(source)
  .digest("hex")
  .slice(0, 16);
const cacheFile = `${file}.${build}.cache`;

const cachedData = readCache();
const script = new vm.Script(
  `(function (exports, require, module, __filename, __dirname) {${source}\n})`,
  { filename: file, ...(cachedData === null ? {} : { cachedData }) },
);
if (cachedData === null || script.cachedDataRejected === true) {
  setTimeout(keepCache, KEEP_AFTER_MS).unref();
}
const main = { exports: {} };
script.runInThisContext()(main.exports, createRequire(file), main, file, dirname(file));

function readCache() {
  try {
    return readFileSync(cacheFile);
  } catch {
    return null;
  }
}

function keepCache() {
  const aside = `${cacheFile}.${process.pid}`;
  try {
    writeFileSync(aside, script.createCachedData());
    renameSync(aside, cacheFile);
  } catch {
    // Read-only, or full: the next start is as slow as this one.
    rmSync(aside, { force: true });
  }
}
