/** Programs that are no npm packages, for tests that run them. */
import { createHash } from "node:crypto";
import { accessSync, constants, readdirSync, readFileSync } from "node:fs";
import { homedir } from "node:os";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Context } from "mocha";
import { skip } from "./skip.ts";

/** How people get them; `npm run tools` gets all of them. */
const INSTALL = {
  helm: "go install helm.sh/helm/v3/cmd/helm@v3.22.0",
  promtool: "apt-get install prometheus",
  prometheus: "apt-get install prometheus",
  porcupine: "install Go",
} as const;

/**
 * Path of the program, from the PATH or from where `npm run tools` puts it. Without it the tests of
 * the suite are skipped, in CI they fail; both name the command that installs it.
 */
export function outsideTool(context: Context, name: keyof typeof INSTALL): string {
  const cache = process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache");
  const folders = [
    ...(process.env["PATH"] ?? "").split(delimiter),
    join(cache, "resilver", "tools", "bin"),
  ];
  const file = name === "porcupine" ? porcupineFile() : name;
  const found = folders.map((folder) => join(folder, file)).find(isExecutable);
  if (found !== undefined) return found;
  const reason = `${name} is not installed: npm run tools, or ${INSTALL[name]}`;
  if ((process.env["CI"] ?? "") !== "") throw new Error(reason);
  return skip(context, reason);
}

/** The program's name holds a digest of its sources: an older one must not be run in its place. */
function porcupineFile(): string {
  const folder = fileURLToPath(new URL("../linearizability/porcupine/", import.meta.url));
  const hash = createHash("sha256");
  for (const name of readdirSync(folder).sort()) hash.update(readFileSync(join(folder, name)));
  return `porcupine-${hash.digest("hex").slice(0, 12)}`;
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
