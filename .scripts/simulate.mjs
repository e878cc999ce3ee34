/**
 * `npm run sim -- [options]`: the simulator in one file, without the loader's work in front of each
 * module and each named function. A seed takes a fifth less time so.
 */
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { installDependencies, root, run } from "./bootstrap.mjs";

/** Program and arguments that run the simulator with `args`; bundles it first. */
export function simulatorCommand(args) {
  // Garbage is most of what a simulated second leaves: a larger nursery is cleared less often.
  const flags = ["--enable-source-maps", "--max-semi-space-size=64"];
  return [process.execPath, [...flags, bundle(), ...args]];
}

/** Puts the simulator's modules together, packages excepted; returns the file's path. */
function bundle() {
  const { buildSync } = createRequire(import.meta.url)("esbuild");
  const folder = join(root, "dist", "test");
  const file = join(folder, "sim.mjs");
  const { outputFiles } = buildSync({
    absWorkingDir: root,
    entryPoints: ["test/sim/main.ts"],
    outfile: file,
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node20",
    packages: "external",
    sourcemap: "inline",
    logLevel: "warning",
    write: false,
  });
  const text = outputFiles[0].text;
  // Another run's workers may be reading it.
  if (!existsSync(file) || readFileSync(file, "utf8") !== text) {
    mkdirSync(folder, { recursive: true });
    const aside = `${file}.${process.pid}`;
    writeFileSync(aside, text);
    renameSync(aside, file);
  }
  return file;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  installDependencies();
  run(...simulatorCommand(process.argv.slice(2)));
}
