import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { NotRunning, sendControl, stopStore } from "../../../operator/local/control-client.ts";
import { lockDirectory, replicaPaths, storePaths } from "../../../operator/local/directory.ts";
import {
  type EndLimits,
  endLeftSidecars,
  leftSidecars,
} from "../../../operator/local/left-sidecars.ts";

/** A process that ends by SIGKILL alone, and is known by its command line as a sidecar is. */
const STUBBORN = 'process.on("SIGTERM", () => {}); console.log("up"); setInterval(() => {}, 1000);';

describe("sidecars that a killed `up` left", () => {
  const { signal } = new AbortController();
  let dir: string;
  let child: ChildProcess;
  let left: { readonly node: string; readonly pid: number };

  beforeEach(async () => {
    dir = mkdtempSync(join(tmpdir(), "resilver-left-"));
    const settings = { storeId: "s", replicas: 1, shards: 1, namespaces: ["default"], port: 6648 };
    writeFileSync(storePaths(dir).settings, JSON.stringify(settings));
    const paths = replicaPaths(dir, "resilver-0");
    mkdirSync(paths.dir);
    const stdio = ["ignore", "pipe", "inherit"] as const;
    child = spawn(process.execPath, ["-e", STUBBORN, paths.wal], { stdio: [...stdio] });
    await once(child.stdout ?? child, "data");
    left = { node: "resilver-0", pid: child.pid ?? 0 };
    writeFileSync(paths.pid, JSON.stringify({ pid: left.pid }));
  });

  afterEach(async () => {
    const gone = child.exitCode === null && child.signalCode === null ? once(child, "exit") : null;
    child.kill("SIGKILL");
    await gone;
    rmSync(dir, { recursive: true, force: true });
  });

  /** What ending them comes to. */
  function end(limits: Partial<EndLimits>): Promise<unknown> {
    return endLeftSidecars(dir, signal, limits);
  }

  it("are ended by force when they do not end in order", async () => {
    const exit = once(child, "exit");
    assert.deepEqual(await end({ graceMs: 50 }), [left]);
    assert.deepEqual(await exit, [null, "SIGKILL"]);
    assert.deepEqual(await end({}), [], "none is left");
  });

  it("are not waited for without end, and the directory is free then", async () => {
    const kill = () => undefined;
    await assert.rejects(end({ graceMs: 20, forcedMs: 20, kill }), {
      message: `resilver-0 (process ${left.pid}): still there 20 ms after SIGKILL`,
    });
    lockDirectory(dir).release();
  });

  it("of another user are said to be that", async () => {
    const kill = () => {
      throw Object.assign(new Error("kill EPERM"), { code: "EPERM" });
    };
    await assert.rejects(end({ kill }), {
      message: `resilver-0 (process ${left.pid}) cannot be ended: kill EPERM`,
    });
  });

  it("are not those of an `up` that is starting or ending, which has no address then", async () => {
    const lock = lockDirectory(dir);
    try {
      const status = () => sendControl(dir, "status", {}, { signal });
      for (const ask of [status, () => stopStore(dir, signal)]) {
        await assert.rejects(ask, (error: unknown) => {
          assert.ok(error instanceof NotRunning, String(error));
          assert.match(error.message, /^the store in .* is just being started or stopped/u);
          return true;
        });
      }
    } finally {
      lock.release();
    }
    await assert.rejects(
      sendControl(dir, "status", {}, { signal }),
      /was killed, and left running/u,
    );
  });

  it("are none where a process id was not written to its end", () => {
    assert.deepEqual(leftSidecars(dir), [left]);
    writeFileSync(replicaPaths(dir, left.node).pid, "");
    assert.deepEqual(leftSidecars(dir), []);
  });
});
