/** Test programs in one file each, without the loader's work in front of each module. */
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { root } from "./bootstrap.mjs";

/** Puts the modules of `entry` together, packages excepted, as dist/test/NAME.mjs; its path. */
export function bundle(entry, name) {
  const { buildSync } = createRequire(import.meta.url)("esbuild");
  const file = join(root, "dist", "test", `${name}.mjs`);
  const { outputFiles } = buildSync({
    absWorkingDir: root,
    entryPoints: [entry],
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
    mkdirSync(dirname(file), { recursive: true });
    const aside = `${file}.${process.pid}`;
    writeFileSync(aside, text);
    renameSync(aside, file);
  }
  return file;
}
