/**
 * `npm run mutation`: changes the cores in one small way at a time and runs their unit and
 * transcript tests: a change that no test notices is something that nothing holds down. Not in CI:
 * thousands of runs. Stryker is fetched into the user's cache folder once: 250 packages and 77 MB,
 * which nothing else needs, and a mocha older than the project's, which it does not take.
 */
import { spawnSync } from "node:child_process";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { homedir, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { parseArgs } from "node:util";
import { installDependencies, npmCommand, root } from "./bootstrap.mjs";

/** The newest of Stryker for Node 20, and the newest mocha that it takes. */
const STRYKER = "9.6.1";
const PACKAGES = [
  `@stryker-mutator/core@${STRYKER}`,
  `@stryker-mutator/mocha-runner@${STRYKER}`,
  "mocha@11.7.5",
];
const FOLDERS = ["sidecar/core", "operator/core"];
const TEST_TIMEOUT_MS = 5_000;

const HELP = `Usage: npm run mutation -- [options] [FILE...]

Changes each file of ${FOLDERS.join(" and ")} (or the files named) in one small way at a
time, runs the tests of its folder (test/FOLDER), and lists the changes that no test notices.

  --concurrency N   as many runs at a time (default: 1)
  --help            print this

Texts are left as they are: those for people say nothing, names are the compiler's to check.
Reports go to coverage/mutation. The exit status is 0 when the runs came to their end; no score is
demanded.
`;

const { concurrency, files } = readOptions();
installDependencies();
const stryker = installStryker();
const rows = files.map(mutate);
process.stdout.write("\nscore   noticed  too late  unnoticed  not run\n");
for (const row of [...rows, ...(rows.length > 1 ? [sum(rows)] : [])]) print(row);

function readOptions() {
  try {
    const { values, positionals } = parseArgs({
      options: {
        concurrency: { type: "string", default: "1" },
        help: { type: "boolean", default: false },
      },
      allowPositionals: true,
    });
    if (values.help) {
      process.stdout.write(HELP);
      process.exit(0);
    }
    const wrong = positionals.filter(
      (file) => !FOLDERS.includes(dirname(file)) || !existsSync(join(root, file)),
    );
    if (wrong.length > 0) throw new Error(`no file of a core: ${wrong.join(", ")}`);
    if (!/^[1-9]\d?$/.test(values.concurrency)) throw new Error("--concurrency: 1 to 99");
    const all = FOLDERS.flatMap((folder) =>
      readdirSync(join(root, folder))
        .filter((name) => name.endsWith(".ts"))
        .map((name) => `${folder}/${name}`),
    );
    return {
      concurrency: Number(values.concurrency),
      files: positionals.length > 0 ? positionals : all,
    };
  } catch (error) {
    process.stderr.write(`${error.message}\n\n${HELP}`);
    process.exit(2);
  }
}

/** Where its packages are; fetched when they are not there. */
function installStryker() {
  const cache = join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "resilver");
  const folder = join(cache, `stryker-${STRYKER}`);
  const modules = join(folder, "node_modules");
  if (existsSync(join(folder, "complete"))) return modules;
  process.stdout.write(`installing Stryker into ${folder} ...\n`);
  mkdirSync(folder, { recursive: true });
  const options = ["--no-save", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"];
  const [command, args] = npmCommand(["install", "--prefix", folder, ...options, ...PACKAGES]);
  const { status } = spawnSync(command, args, { stdio: ["ignore", "inherit", "inherit"] });
  if (status !== 0) {
    process.stderr.write("Stryker could not be installed\n");
    process.exit(1);
  }
  writeFileSync(join(folder, "complete"), "");
  return modules;
}

/** One file's changes, tried in a copy of the sources. */
function mutate(file) {
  const copy = mkdtempSync(join(tmpdir(), "resilver-mutation-"));
  const report = join(root, "coverage", "mutation", `${file.replaceAll("/", "-")}.json`);
  try {
    process.stdout.write(`\n=== ${file} ===\n`);
    // One of an earlier run must not be taken for what a failed run did not write.
    rmSync(report, { force: true });
    for (const name of ["sidecar", "operator", "test", "package.json", "tsconfig.json"]) {
      cpSync(join(root, name), join(copy, name), { recursive: true });
    }
    symlinkSync(join(root, "node_modules"), join(copy, "node_modules"));
    writeFileSync(join(copy, "stryker.conf.json"), JSON.stringify(configuration(file, report)));
    const bin = join(stryker, "@stryker-mutator", "core", "bin", "stryker.js");
    const { status } = spawnSync(process.execPath, [bin, "run"], {
      cwd: copy,
      stdio: ["ignore", "inherit", "inherit"],
    });
    if (status === 0) return count(file, JSON.parse(readFileSync(report, "utf8")));
    process.stdout.write(
      `${file}: ended with ${status}: its tests fail unchanged, or nothing ran\n`,
    );
    process.exitCode = 1;
    return count(file, { files: {} });
  } finally {
    rmSync(copy, { recursive: true, force: true });
  }
}

function configuration(file, report) {
  return {
    testRunner: "mocha",
    plugins: [join(stryker, "@stryker-mutator", "mocha-runner", "dist", "src", "index.js")],
    testRunnerNodeArgs: ["--import", "tsx"],
    mochaOptions: { spec: [`test/${dirname(file)}/*.test.ts`], "no-package": true },
    mutate: [file],
    mutator: { excludedMutations: ["StringLiteral"] },
    coverageAnalysis: "perTest",
    ignoreStatic: true,
    inPlace: true,
    concurrency,
    timeoutMS: TEST_TIMEOUT_MS,
    // Its own reading of that file needs a compiler's interface that TypeScript 7 does not have.
    tsconfigFile: "none.json",
    reporters: ["json"],
    jsonReporter: { fileName: report },
    allowEmpty: true,
    logLevel: "warn",
  };
}

/** Counts by outcome; lists what was not noticed. */
function count(file, report) {
  const [result] = Object.values(report.files);
  const mutants = result?.mutants ?? [];
  const lines = (result?.source ?? "").split("\n");
  for (const { status, location, mutatorName, replacement } of mutants) {
    if (status !== "Survived" && status !== "NoCoverage") continue;
    const { start } = location;
    const word = status === "Survived" ? "unnoticed" : "not run  ";
    const instead = (replacement ?? "").replaceAll(/\s+/g, " ").slice(0, 80);
    process.stdout.write(
      `${word} ${file}:${start.line}:${start.column} ${mutatorName}: ${instead}\n` +
        `            in: ${lines[start.line - 1]?.trim()}\n`,
    );
  }
  const of = (status) => mutants.filter((mutant) => mutant.status === status).length;
  return {
    name: file,
    killed: of("Killed"),
    timeout: of("Timeout"),
    survived: of("Survived"),
    noCoverage: of("NoCoverage"),
  };
}

function sum(all) {
  const total = (key) => all.reduce((before, row) => before + row[key], 0);
  const keys = ["killed", "timeout", "survived", "noCoverage"];
  return { name: "all", ...Object.fromEntries(keys.map((key) => [key, total(key)])) };
}

function print({ name, killed, timeout, survived, noCoverage }) {
  const all = killed + timeout + survived + noCoverage;
  const score = all === 0 ? "     -" : `${((100 * (killed + timeout)) / all).toFixed(1)}%`;
  const counts = [
    [killed, 7],
    [timeout, 8],
    [survived, 9],
    [noCoverage, 7],
  ].map(([number, width]) => String(number).padStart(width));
  process.stdout.write(`${[score.padStart(6), ...counts, name].join("  ")}\n`);
}
