/**
 * `npm run coverage`: which branches of the parts that decide what is safe are taken by their own
 * tests, folder by folder. Each folder is measured with the tests of that folder alone: what a
 * simulation or a test of something else happens to touch is not counted.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { installDependencies, root, tool } from "./bootstrap.mjs";

const FOLDERS = ["sidecar/core", "sidecar/wal", "sidecar/snapshot", "operator/core"];

const HELP = `Usage: npm run coverage -- [options] [FOLDER...]

Runs the unit and transcript tests of each folder (test/FOLDER) and prints, file by file, how many
of its branches and lines they take, and at the end one line for each folder.
Folders: ${FOLDERS.join(", ")} (default: all).

  --unit       with the tests of all folders, not only those of the measured one
  --html       also writes coverage/FOLDER/index.html, with what is not taken in red
  --help       print this

Files that hold types only are left out.
The exit status is 0 when all tests pass; no percentage is demanded.
`;

const { values, positionals } = readOptions();
installDependencies();
const figures = (positionals.length > 0 ? positionals : FOLDERS).map(measure);
process.stdout.write("\nfolder              branches          lines             tests\n");
for (const { folder, branches, lines, tests } of figures) {
  const columns = [folder.padEnd(18), share(branches), share(lines), tests];
  process.stdout.write(`${columns.join("  ")}\n`);
}
process.exitCode = figures.every(({ ok }) => ok) ? 0 : 1;

function readOptions() {
  try {
    const read = parseArgs({
      options: {
        unit: { type: "boolean", default: false },
        html: { type: "boolean", default: false },
        help: { type: "boolean", default: false },
      },
      allowPositionals: true,
    });
    if (read.values.help) {
      process.stdout.write(HELP);
      process.exit(0);
    }
    const unknown = read.positionals.filter((folder) => !FOLDERS.includes(folder));
    if (unknown.length > 0) throw new Error(`no folder ${unknown.join(", ")}`);
    return read;
  } catch (error) {
    process.stderr.write(`${error.message}\n\n${HELP}`);
    process.exit(2);
  }
}

/** Runs a folder's tests, and has c8 print the table of its files. */
function measure(folder) {
  const scratch = mkdtempSync(join(tmpdir(), "resilver-coverage-"));
  const reports = values.html ? join(root, "coverage", folder) : scratch;
  const [raw, totals] = [join(scratch, "raw"), join(scratch, "totals.json")];
  try {
    process.stdout.write(`\n=== ${folder} ===\n`);
    const status = node([tool("mocha", "bin/mocha.js"), ...testFiles(folder)], {
      RESILVER_TEST_TOTALS: totals,
      NODE_V8_COVERAGE: raw,
    });
    for (const name of readdirSync(raw)) forgetCompilersCode(join(raw, name));
    node([
      tool("c8", "bin/c8.js"),
      "report",
      ...["--all", "--include", `${folder}/**/*.ts`],
      ...typesOnly(folder).flatMap((file) => ["--exclude", file]),
      ...["--reporter", "text", "--reporter", "json-summary"],
      ...(values.html ? ["--reporter", "html"] : []),
      ...["--temp-directory", raw, "--reports-dir", reports],
    ]);
    const { total } = JSON.parse(readFileSync(join(reports, "coverage-summary.json"), "utf8"));
    const { passed, failed } = JSON.parse(readFileSync(totals, "utf8"));
    return { folder, ...total, ok: status === 0, tests: `${passed} passed, ${failed} failed` };
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

function node(args, environment = {}) {
  const stdio = ["ignore", "inherit", "inherit"];
  const env = { ...process.env, ...environment };
  return spawnSync(process.execPath, args, { cwd: root, stdio, env }).status;
}

/**
 * Takes what the loader adds to each module out of what V8 counted: functions of its own, and last
 * in the module a list of exports that is never evaluated.
 */
function forgetCompilersCode(file) {
  const coverage = JSON.parse(readFileSync(file, "utf8"));
  for (const script of coverage.result.filter(({ url }) => url.endsWith(".ts"))) {
    const names = script.functions.map(({ functionName }) => functionName);
    const own = script.functions.filter(({ functionName }) => !functionName.startsWith("__"));
    script.functions = own;
    if (!names.includes("__toCommonJS")) continue;
    const unused = own.flatMap(({ ranges }) => ranges.filter(({ count }) => count === 0));
    const last = unused.reduce((a, b) => (a.startOffset > b.startOffset ? a : b));
    for (const one of own) one.ranges = one.ranges.filter((range) => range !== last);
  }
  writeFileSync(file, JSON.stringify(coverage));
}

/** Files of which nothing is left when they are compiled. */
function typesOnly(folder) {
  const { transformSync } = createRequire(import.meta.url)("esbuild");
  return readdirSync(join(root, folder), { recursive: true })
    .filter((name) => name.endsWith(".ts"))
    .map((name) => `${folder}/${name}`)
    .filter((file) => {
      const { code } = transformSync(readFileSync(join(root, file), "utf8"), { loader: "ts" });
      return code.trim() === "";
    });
}

function testFiles(folder) {
  const own = values.unit ? ["test/sidecar", "test/operator"] : [`test/${folder}`];
  return own.flatMap((top) =>
    readdirSync(join(root, top), { recursive: true })
      .filter((name) => name.endsWith(".test.ts"))
      .sort()
      .map((name) => join(top, name)),
  );
}

function share({ covered, total, pct }) {
  return `${pct.toFixed(1).padStart(5)}% ${covered}/${total}`.padEnd(16);
}
