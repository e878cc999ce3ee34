import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { NotRunning, sendControl, stopStore } from "../../../operator/local/control-client.ts";
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

const WAIT = { signal: new AbortController().signal };

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
    await assert.rejects(sendControl(dir, "echo", {}, WAIT), NotRunning);
    await server.start(dir);
    assert.deepEqual(await sendControl(dir, "echo", { a: 1 }, WAIT), { a: 1 });
    await assert.rejects(sendControl(dir, "refuse", {}, WAIT), (error: unknown) => {
      assert.ok(error instanceof ControlRefusal);
      return !error.usage;
    });
    await assert.rejects(sendControl(dir, "misuse", {}, WAIT), (error: unknown) => {
      assert.ok(error instanceof ControlRefusal);
      return error.usage;
    });
    await assert.rejects(sendControl(dir, "fail", {}, WAIT), /broken/);
    await assert.rejects(sendControl(dir, "constructor", {}, WAIT), /no command/);

    // A file with another token: whoever listens there is not ours.
    const { control } = storePaths(dir);
    const address = JSON.parse(readFileSync(control, "utf8")) as object;
    assert.equal(statSync(control).mode & 0o777, 0o600);
    writeFileSync(control, JSON.stringify({ ...address, token: "other" }));
    await assert.rejects(sendControl(dir, "echo", {}, WAIT), NotRunning);
    await server.close();
    // Left behind by kill -9.
    writeFileSync(control, JSON.stringify(address));
    await assert.rejects(sendControl(dir, "echo", {}, WAIT), NotRunning);
    writeFileSync(control, "{");
    await assert.rejects(sendControl(dir, "echo", {}, WAIT), NotRunning);
  });

  it("takes whoever has the port of a killed process for nobody", async () => {
    for (const answer of [
      "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
      "HTTP/1.1 404 Not Found\r\nContent-Length: 6\r\n\r\n<html>",
      "220 mail ready\r\n",
    ]) {
      const other = await listening((socket) => socket.end(answer));
      await assert.rejects(sendControl(dir, "status", {}, WAIT), NotRunning, answer);
      await other.close();
    }
  });

  it("waits for a process that hangs as long as it may, or until told to end", async () => {
    let asked = (): void => undefined;
    const hung = await listening(() => asked());
    await assert.rejects(
      sendControl(dir, "status", {}, { ...WAIT, timeoutMs: 50 }),
      /^Error: status: process 7 has not answered within 50 ms/u,
    );
    const stop = new AbortController();
    asked = () => stop.abort(new Error("stopped by SIGTERM"));
    const wait = { signal: stop.signal };
    await assert.rejects(sendControl(dir, "status", {}, wait), /stopped by SIGTERM/u);
    await assert.rejects(stopStore(dir, stop.signal), /stopped by SIGTERM/u);
    await hung.close();
  });

  /** Something listens where the control file says. */
  async function listening(connected: (socket: Socket) => void) {
    const sockets: Socket[] = [];
    const server = createServer((socket) => {
      sockets.push(socket);
      socket.on("error", () => undefined).once("data", () => connected(socket));
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as AddressInfo;
    await writeJson(storePaths(dir).control, { pid: 7, port, token: "t" }, 0o600);
    return {
      close: async () => {
        for (const socket of sockets) socket.destroy();
        await new Promise((resolve) => server.close(resolve));
      },
    };
  }

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
