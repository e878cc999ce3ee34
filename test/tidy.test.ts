/**
 * Rules about the sources themselves that no tool of `npm run check` knows, and proof that one of
 * the tools sees what it is meant to judge.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));

/** Bounds on what a reader has to take in at once. */
const LINES_PER_FILE_MAX = 500;
const COLUMNS_MAX = 100;
/** Fewer modules than this, and the layer check has lost sight of the sources. */
const MODULES_MIN = 40;

/** Folders of the project that hold what people wrote. */
const FOLDERS = ["sidecar", "operator", "charts", "test", ".scripts", ".ci"];
const TOP_FILES = ["README.md", "CHANGELOG.md", "package.json", ".dependency-cruiser.cjs"];
const NOT_OURS = /(^|\/)(gen|golden|testdata|target|node_modules)\//;

interface Source {
  readonly path: string;
  readonly lines: readonly string[];
}

function sources(matches: RegExp): readonly Source[] {
  const below = FOLDERS.flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, encoding: "utf8" }).map((name) =>
      join(folder, name),
    ),
  );
  return [...below, ...TOP_FILES]
    .filter((path) => matches.test(path) && !NOT_OURS.test(path) && path !== "test/tidy.test.ts")
    .map((path) => ({ path, lines: read(path) }));
}

function read(path: string): readonly string[] {
  try {
    return readFileSync(join(root, path), "utf8").split("\n");
  } catch {
    return []; // A file that this checkout does not have has nothing wrong in it.
  }
}

/** Every line where `bad` finds something, as `path:line: what`. */
function findings(
  files: readonly Source[],
  bad: (line: string, source: Source, index: number) => string | null,
): readonly string[] {
  return files.flatMap((source) =>
    source.lines.flatMap((line, index) => {
      const what = bad(line, source, index);
      return what === null ? [] : [`${source.path}:${index + 1}: ${what}`];
    }),
  );
}

function kebabCase(name: string): string {
  return name.replaceAll(/(?<=[a-z0-9])[A-Z]/g, "-$&").toLowerCase();
}

/** Fails with all findings listed, not only the first of them. */
function none(found: readonly string[]): void {
  if (found.length > 0) assert.fail(`${found.length} found:\n${found.join("\n")}`);
}

describe("tidy", function () {
  this.timeout(60_000);
  const all = sources(/\.(ts|mjs|cjs)$/);
  const shipped = all.filter(({ path }) => /^(sidecar|operator)\//.test(path));

  it("sees the sources", () => {
    assert.ok(shipped.length >= MODULES_MIN, `only ${shipped.length} files`);
  });

  it("the layer check sees the sources too", () => {
    const cruise = join(root, "node_modules/dependency-cruiser/bin/dependency-cruise.mjs");
    const output = execFileSync(
      process.execPath,
      [cruise, "--config=.dependency-cruiser.cjs", "--output-type=json", "sidecar"],
      { cwd: root, encoding: "utf8", maxBuffer: 64 * 1024 * 1024 },
    );
    const cruised = JSON.parse(output) as { summary: { totalCruised: number } };
    assert.ok(cruised.summary.totalCruised >= MODULES_MIN, String(cruised.summary.totalCruised));
  });

  it(`no file is longer than ${LINES_PER_FILE_MAX} lines`, () => {
    const long = all.filter(({ lines }) => lines.length > LINES_PER_FILE_MAX);
    none(long.map(({ path, lines }) => `${path}: ${lines.length} lines`));
  });

  it(`no comment is wider than ${COLUMNS_MAX} columns`, () => {
    // The width of code is the formatter's business.
    const long = findings(all, (line) =>
      line.length > COLUMNS_MAX && /^\s*(\/?\*|\/\/)/.test(line) && !/https?:\/\//.test(line)
        ? `${line.length} columns`
        : null,
    );
    none(long);
  });

  it("every export of the product says what it is", () => {
    const declaration = /^export (abstract )?(async )?(function|class|const|interface|type) (\w+)/;
    const bare = findings(shipped, (line, { path, lines }, index) => {
      const name = declaration.exec(line)?.[4];
      if (name === undefined) return null;
      // A file's header speaks for the export that the file is named after.
      if (lines[0]?.startsWith("/**") && kebabCase(name) === basename(path, ".ts")) return null;
      const above = lines[index - 1]?.trim() ?? "";
      // An overload is documented at the first, a type of the same name at the value.
      const again = lines.slice(0, index).some((l) => declaration.exec(l)?.[4] === name);
      return above.endsWith("*/") || again ? null : `${name} has no doc comment`;
    });
    none(bare);
  });

  it("no test waits for time to pass", () => {
    const tests = all.filter(({ path }) => path.endsWith(".test.ts"));
    const waits = findings(tests, (line) =>
      /(?<![.\w])sleep\s*\(|timers\/promises|resolve\w*,\s*\d+\s*\)/.test(line)
        ? line.trim()
        : null,
    );
    none(waits);
  });

  it("nothing names a path of the machine it was written on", () => {
    const files = sources(/\.(ts|mjs|cjs|json|md|yaml|yml|sh|proto)$|^\.ci\/run$/);
    const named = findings(files, (line) =>
      /(?<![\w.:])\/(work|root|home\/\w+)\//.test(line) ? line.trim() : null,
    );
    none(named);
  });

  it("nothing is left to be done by a comment", () => {
    const left = findings(all, (line) =>
      /\b(TODO|FIXME|XXX|HACK)\b/.test(line) ? line.trim() : null,
    );
    none(left);
  });

  it("no lint rule is switched off without a reason", () => {
    const off = findings(all, (line) =>
      /(eslint|oxlint)-disable|@ts-(ignore|expect-error|nocheck)|biome-ignore/.test(line) &&
      !/ -- |: \w/.test(line)
        ? line.trim()
        : null,
    );
    none(off);
  });
});
