/**
 * `npm run check`: everything that can be said about the sources without running them. Runs all
 * steps even when one fails, then lists them. Named steps run alone: `npm run check -- lint
 * layers`.
 */
import { spawnSync } from "node:child_process";
import { installDependencies, root, tool } from "./bootstrap.mjs";

installDependencies();

/** Name of a step -> the JavaScript file that does it, and its arguments. */
const STEPS = {
  format: [
    tool("@biomejs/biome", "bin/biome"),
    "format",
    "--config-path=.biome.json",
    "--reporter=summary",
    ".",
  ],
  lint: [
    tool("oxlint", "bin/oxlint"),
    "--type-aware",
    "--deny-warnings",
    "--config=.oxlintrc.json",
    "sidecar",
    "operator",
    "test",
  ],
  types: [tool("typescript", "bin/tsc"), "-p", "."],
  layers: [
    tool("dependency-cruiser", "bin/dependency-cruise.mjs"),
    "--config=.dependency-cruiser.cjs",
    "sidecar",
    "operator",
    "test",
  ],
  dead: [tool("knip", "bin/knip.js"), "--no-progress"],
  gen: [".scripts/gen.mjs", "--check"],
};

const wanted = process.argv.slice(2);
const unknown = wanted.filter((name) => !(name in STEPS));
if (unknown.length > 0) {
  process.stderr.write(`no step ${unknown.join(", ")}; steps: ${Object.keys(STEPS).join(", ")}\n`);
  process.exit(2);
}

const results = [];
for (const [name, args] of Object.entries(STEPS)) {
  if (wanted.length > 0 && !wanted.includes(name)) continue;
  process.stdout.write(`\n--- ${name} ---\n`);
  const { status } = spawnSync(process.execPath, args, { cwd: root, stdio: "inherit" });
  results.push({ name, ok: status === 0 });
}
process.stdout.write("\n");
for (const { name, ok } of results) process.stdout.write(`${ok ? "ok    " : "FAILED"} ${name}\n`);
process.exitCode = results.every(({ ok }) => ok) ? 0 : 1;
