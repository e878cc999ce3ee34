/**
 * Test programs in one file each, without the loader's work in front of each module.
 * `node .scripts/bundle.mjs ENTRY FILE` puts the modules of ENTRY together, packages excepted.
 */
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { root, run } from "./bootstrap.mjs";
import { leanKubeClient } from "./lean-kube-client.mjs";

/** Bundles `entry` as dist/test/NAME.mjs; its path. */
export function bundle(entry, name) {
  const file = join(root, "dist", "test", `${name}.mjs`);
  run(process.execPath, [fileURLToPath(import.meta.url), entry, file]);
  return file;
}

async function main(entry, file) {
  const { build } = createRequire(import.meta.url)("esbuild");
  const { outputFiles } = await build({
    absWorkingDir: root,
    entryPoints: [entry],
    outfile: file,
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node20",
    plugins: [leanKubeClient],
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
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  await main(...process.argv.slice(2));
}
