/**
 * An unchanged public client: Oxia's own for Java, fetched from Maven's registry, drives a local
 * store of three replicas and two shards. What it checks is in java/src/main/java.
 */
import assert from "node:assert/strict";
import { execFile, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { LocalStore } from "../../operator/local/local-store.ts";
import { skip } from "../support/skip.ts";

const project = fileURLToPath(new URL("java", import.meta.url));
const run = promisify(execFile);

/** Checks the program makes; each is a test here. */
const CHECKS = [
  "puts and gets",
  "an absent key is absent",
  "conditional puts",
  "deletes",
  "lists the children of a path",
  "scans a range in order",
  "deletes a range",
  "finds neighbours of a key",
  "routes by partition key",
  "a value of 1 MiB",
  "5000 puts at once, all read back",
] as const;

describe("e2e: Oxia's Java client, unchanged", function () {
  this.timeout(300_000);
  let store: LocalStore | null = null;
  let dir = "";
  let output = "";
  /** What the coordinator did meanwhile: printed when a check failed. */
  const events: string[] = [];

  before(async function () {
    const missing = ["java", "mvn"].filter((name) => spawnSync(name, ["-version"]).error);
    if (missing.length > 0) skip(this, `not installed: ${missing.join(", ")}`);
    const classPath = await build();
    dir = mkdtempSync(join(tmpdir(), "resilver-java-"));
    store = await LocalStore.start({
      dir,
      replicas: 3,
      shards: 2,
      defaultPort: "free",
      events: (event) => events.push(JSON.stringify(event)),
    });
    await store.whole(30_000);
    output = await drive(classPath, store.servers()[0] ?? "");
  });

  after(async () => {
    await store?.close();
    if (dir !== "") rmSync(dir, { recursive: true, force: true });
  });

  for (const name of CHECKS) {
    it(name, () => {
      const line = output.split("\n").find((one) => one.slice(5).split(":")[0] === name);
      const told = `the program printed:\n${output}\nevents:\n${events.join("\n")}`;
      assert.equal(line, `pass ${name}`, told);
    });
  }

  it("made no check that is not listed here", () => {
    const made = output.split("\n").filter((line) => /^(pass|fail) /.test(line));
    assert.equal(made.length, CHECKS.length, output);
  });
});

/** Compiles the program outside the checkout; returns the class path to run it with. */
async function build(): Promise<string> {
  const cache = process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache");
  const target = join(cache, "resilver", "java-client");
  mkdirSync(target, { recursive: true });
  await run("mvn", ["-q", "-B", `-DoutputFolder=${target}`, "compile"], { cwd: project });
  const listed = join(target, "classpath.txt");
  assert.ok(existsSync(listed), `mvn wrote no ${listed}`);
  return [join(target, "classes"), readFileSync(listed, "utf8").trim()].join(delimiter);
}

/** What the program printed; its exit status is told by its lines. */
async function drive(classPath: string, address: string): Promise<string> {
  const args = ["-cp", classPath, "io.resilver.check.Check", address, "default"];
  const { stdout, stderr } = await run("java", args, { timeout: 180_000 }).catch(
    (failed: { stdout: string; stderr: string }) => failed,
  );
  return `${stdout}${stderr}`;
}
