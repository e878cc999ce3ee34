import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { NotRunning, sendControl } from "../../../operator/local/control-client.ts";
import { ControlRefusal, ControlServer } from "../../../operator/local/control-server.ts";
import { corruptLog, wipeDirectories } from "../../../operator/local/damage.ts";
import {
  DirectoryInUse,
  lockDirectory,
  readJson,
  replicaPaths,
  storePaths,
  writeJson,
} from "../../../operator/local/directory.ts";
import { findFreePorts, firstBusyPort } from "../../../operator/local/free-ports.ts";
import { parseSettings } from "../../../operator/local/settings.ts";
import { sidecarEnvironment, sidecarFlags } from "../../../operator/local/sidecar-process.ts";

describe("local directory", () => {
  let dir: string;

  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), "resilver-local-"));
  });

  afterEach(() => {
    rmSync(dir, { recursive: true, force: true });
  });

  it("is held by one process at a time", () => {
    const lock = lockDirectory(dir);
    assert.throws(() => lockDirectory(dir), DirectoryInUse);
    lock.release();
    lockDirectory(dir).release();
  });

  it("replaces JSON files in one step", async () => {
    const path = join(dir, "a.json");
    assert.equal(readJson(path), null);
    await writeJson(path, { a: 1 }, 0o600);
    await writeJson(path, { a: 2 }, 0o600);
    assert.deepEqual(readJson(path), { a: 2 });
    assert.equal(statSync(path).mode & 0o777, 0o600);
  });

  it("refuses settings it does not know, naming file and field", () => {
    const good = { storeId: "s", replicas: 3, shards: 1, namespaces: ["n"], port: 6_648 };
    assert.deepEqual(parseSettings(good, "f"), good);
    const { namespaces: _, ...older } = good;
    assert.deepEqual(parseSettings(older, "f").namespaces, ["default"]);
    assert.throws(() => parseSettings({ ...good, replicas: 0 }, "f"), /f: replicas: /);
    assert.throws(() => parseSettings({ ...good, extra: 1 }, "f"), /f: .*extra/);
  });

  it("finds neighbouring free ports, and says which one is taken", async () => {
    const first = await findFreePorts(4, Math.random);
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(first + 2, "127.0.0.1", resolve));
    assert.equal(await firstBusyPort([first, first + 1, first + 2]), first + 2);
    await new Promise((resolve) => server.close(resolve));
    assert.equal(await firstBusyPort([first, first + 2]), null);
  });

  it("wipes what it is asked to, and damages a log below its end", async () => {
    const paths = replicaPaths(dir, "resilver-0");
    const segment = join(paths.wal, "default", "0", "000000.wal");
    const write = async () => {
      await writeJsonDeep(segment, 4_000, 10_000);
      await writeJsonDeep(join(paths.state, "data"), 10, 0);
    };
    await write();
    const { file, position } = await corruptLog(paths);
    assert.equal(file, segment);
    assert.ok(position > 0 && position < 4_000, String(position));
    assert.notEqual(readFileSync(segment)[position], 7);
    await wipeDirectories(paths, "state");
    assert.ok(statSync(segment).size > 0);
    await wipeDirectories(paths, "wal");
    await assert.rejects(corruptLog(paths), /no log to damage/);
    await write();
    await wipeDirectories(paths, "all");
    assert.throws(() => statSync(paths.state));
  });

  it("carries commands to the running process, and refusals back", async () => {
    const server = new ControlServer({
      echo: (body) => Promise.resolve(body),
      refuse: () => Promise.reject(new ControlRefusal("no", false)),
      misuse: () => Promise.reject(new ControlRefusal("wrong", true)),
      fail: () => Promise.reject(new Error("broken")),
    });
    await assert.rejects(sendControl(dir, "echo", {}), NotRunning);
    await server.start(dir);
    assert.deepEqual(await sendControl(dir, "echo", { a: 1 }), { a: 1 });
    await assert.rejects(sendControl(dir, "refuse", {}), (error: unknown) => {
      assert.ok(error instanceof ControlRefusal);
      return !error.usage;
    });
    await assert.rejects(sendControl(dir, "misuse", {}), (error: unknown) => {
      assert.ok(error instanceof ControlRefusal);
      return error.usage;
    });
    await assert.rejects(sendControl(dir, "fail", {}), /broken/);
    await assert.rejects(sendControl(dir, "constructor", {}), /no command/);

    // A file with another token: whoever listens there is not ours.
    const { control } = storePaths(dir);
    const address = JSON.parse(readFileSync(control, "utf8")) as object;
    assert.equal(statSync(control).mode & 0o777, 0o600);
    writeFileSync(control, JSON.stringify({ ...address, token: "other" }));
    await assert.rejects(sendControl(dir, "echo", {}), NotRunning);
    await server.close();
    // Left behind by kill -9.
    writeFileSync(control, JSON.stringify(address));
    await assert.rejects(sendControl(dir, "echo", {}), NotRunning);
    writeFileSync(control, "{");
    await assert.rejects(sendControl(dir, "echo", {}), NotRunning);
  });

  it("starts sidecars with flags, and without settings of this process", () => {
    assert.deepEqual(sidecarFlags({ walDir: "/w", heartbeatMs: 5 }), [
      "--wal-dir",
      "/w",
      "--heartbeat-ms",
      "5",
    ]);
    const env = sidecarEnvironment({ PATH: "/bin", RESILVER_NODE: "x" });
    const always = { MALLOC_ARENA_MAX: "1", NODE_ENV: "production" };
    assert.deepEqual(env, { PATH: "/bin", ...always });
    const own = sidecarEnvironment({ MALLOC_ARENA_MAX: "4" });
    assert.deepEqual(own, { ...always, MALLOC_ARENA_MAX: "4" });
  });
});

async function writeJsonDeep(path: string, used: number, zeros: number): Promise<void> {
  const { mkdir, writeFile } = await import("node:fs/promises");
  await mkdir(join(path, ".."), { recursive: true });
  await writeFile(path, Buffer.concat([Buffer.alloc(used, 7), Buffer.alloc(zeros)]));
}
