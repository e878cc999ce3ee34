/** What `npm run cluster` says. The cluster itself takes root: see test/cluster. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

describe("npm run cluster", () => {
  let folder: string;

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "resilver-cluster-"));
  });
  afterEach(() => {
    rmSync(folder, { recursive: true });
  });

  /** Runs it where the scripts, all run under flock, end with this status. */
  function cluster(status: number, ...args: string[]) {
    const flock = join(folder, "flock");
    writeFileSync(flock, `#!/bin/sh\nexit ${status}\n`);
    chmodSync(flock, 0o755);
    const env = { ...process.env, PATH: folder, XDG_CACHE_HOME: folder };
    const command = [resolve(".scripts/cluster.mjs"), ...args];
    const run = spawnSync(process.execPath, command, { encoding: "utf8", env });
    return [run.status, run.stdout, run.stderr];
  }

  it("down says that it is over, and what became of the data", () => {
    assert.deepEqual(cluster(0, "down"), [0, "the cluster is down; its data is removed\n", ""]);
    const kept = "the cluster is down; its data is there for the next `up`\n";
    assert.deepEqual(cluster(0, "down", "--keep"), [0, kept, ""]);
  });

  it("down says that it failed", () => {
    const failed = "cluster: not all of it ended; run this again\n";
    assert.deepEqual(cluster(1, "down"), [1, "", failed]);
  });
});
