import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runDemo } from "../../../../operator/local/demo/demo.ts";
import type { DemoOptions } from "../../../../operator/local/demo/options.ts";
import { type DemoMeasures, demoResult } from "../../../../operator/local/demo/result.ts";
import { DirectoryInUse, lockDirectory } from "../../../../operator/local/directory.ts";

describe("demonstration", () => {
  let dir: string;

  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), "resilver-demo-"));
  });

  afterEach(() => {
    rmSync(dir, { recursive: true });
  });

  /** A demonstration in a directory of the test's. */
  function demonstration(stop: AbortSignal): Promise<boolean> {
    const out = () => undefined;
    const terminal = { out, err: out, isScreen: false, interactive: false, stop, env: {} };
    const options: DemoOptions = {
      size: 1,
      victim: "follower",
      what: "all",
      quiet: false,
      again: 0,
      seed: 1,
      replicas: 3,
      dir: join(dir, "store"),
      input: dir,
      json: join(dir, "out.json"),
      once: true,
    };
    return runDemo(options, terminal);
  }

  it("leaves a result behind, with the same keys, when it cannot be run", async () => {
    const lock = lockDirectory(join(dir, "store"));
    try {
      await assert.rejects(demonstration(new AbortController().signal), DirectoryInUse);
      const result = JSON.parse(readFileSync(join(dir, "out.json"), "utf8")) as Record<
        string,
        unknown
      >;
      assert.equal(result["ok"], false);
      const whole = demoResult({ recoveries: [] } as unknown as DemoMeasures);
      assert.deepEqual(Object.keys(result), Object.keys(whole));
    } finally {
      lock.release();
    }
  });

  it("starts nothing when it was asked to end before", async () => {
    const stop = AbortSignal.abort(new Error("stopped by SIGINT"));
    await assert.rejects(demonstration(stop), /stopped by SIGINT/u);
    assert.deepEqual(readdirSync(dir), ["out.json"]);
  });
});
