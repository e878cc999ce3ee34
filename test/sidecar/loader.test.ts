/** The launcher that becomes dist/sidecar/main.js, in a process of its own, with other programs. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { copyFile, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { transform } from "esbuild";

const LOADER = fileURLToPath(new URL("../../.scripts/sidecar-loader.mjs", import.meta.url));
const SIGNALS = fileURLToPath(new URL("../../sidecar/os/signals.ts", import.meta.url));
const STOPS = ["SIGTERM", "SIGINT"] as const;

describe("the sidecar's launcher", () => {
  let directory: string;
  let child: ChildProcess | null = null;

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "resilver-loader-"));
    await copyFile(LOADER, join(directory, "main.mjs"));
  });
  afterEach(async () => {
    child?.kill("SIGKILL");
    await rm(directory, { recursive: true, force: true });
  });

  /** Runs `program` as the launcher runs the bundle; resolves when it has printed something. */
  async function begun(program: string): Promise<ChildProcess> {
    await writeFile(join(directory, "main.cjs"), program);
    const started = spawn(process.execPath, [join(directory, "main.mjs")], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    child = started;
    await once(started.stdout, "data");
    return started;
  }

  /** Exit status and signal after `signal`, and how long that took. */
  async function ended(process: ChildProcess, signal: NodeJS.Signals) {
    const asked = performance.now();
    const exit = once(process, "exit") as Promise<[number | null, string | null]>;
    process.kill(signal);
    const [code, by] = await exit;
    return { code, by, ms: performance.now() - asked };
  }

  for (const signal of STOPS) {
    it(`ends with 0 within a second at a ${signal} before the program listens`, async () => {
      // Busy at first, as whatever reads hundreds of modules: the signal comes in the middle.
      const program = `
        require("node:fs").writeSync(1, "begun");
        const end = performance.now() + 200;
        while (performance.now() < end);
        setInterval(() => undefined, 1_000);
      `;
      const { code, by, ms } = await ended(await begun(program), signal);
      assert.deepEqual([code, by], [0, null]);
      assert.ok(ms < 1_000, `${ms} ms`);
    });

    it(`leaves a ${signal} to the program as soon as that listens`, async () => {
      const { code: signals } = await transform(await readFile(SIGNALS, "utf8"), {
        loader: "ts",
        format: "cjs",
      });
      const program = `${signals}
        stopSignal().then((signal) => process.exit(signal === "${signal}" ? 7 : 8));
        setInterval(() => undefined, 1_000);
        require("node:fs").writeSync(1, "listens");
      `;
      const { code, by } = await ended(await begun(program), signal);
      assert.deepEqual([code, by], [7, null]);
    });
  }
});
