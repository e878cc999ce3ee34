import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runDemo } from "../../../../operator/local/demo/demo.ts";
import type { DemoOptions } from "../../../../operator/local/demo/options.ts";
import { type DemoMeasures, demoResult } from "../../../../operator/local/demo/result.ts";
import { DirectoryInUse, lockDirectory } from "../../../../operator/local/directory.ts";

describe("demonstration", () => {
  it("leaves a result behind, with the same keys, when it cannot be run", async () => {
    const dir = mkdtempSync(join(tmpdir(), "resilver-demo-"));
    const json = join(dir, "out.json");
    const lock = lockDirectory(dir);
    const terminal = {
      out: () => undefined,
      err: () => undefined,
      interactive: false,
      stop: new AbortController().signal,
      env: {},
    };
    const options: DemoOptions = {
      size: 1,
      victim: "follower",
      what: "all",
      quiet: false,
      again: 0,
      seed: 1,
      replicas: 3,
      dir,
      input: dir,
      json,
      once: true,
    };
    try {
      await assert.rejects(runDemo(options, terminal), DirectoryInUse);
      const result = JSON.parse(readFileSync(json, "utf8")) as Record<string, unknown>;
      assert.equal(result["ok"], false);
      const whole = demoResult({ recoveries: [] } as unknown as DemoMeasures);
      assert.deepEqual(Object.keys(result), Object.keys(whole));
    } finally {
      lock.release();
      rmSync(dir, { recursive: true });
    }
  });
});
