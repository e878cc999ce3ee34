import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { replicaPaths } from "../../operator/local/directory.ts";
import { endLeftSidecars } from "../../operator/local/left-sidecars.ts";
import { isProcessOf } from "../../operator/local/pod.ts";
import { sidecarEnvironment } from "../../operator/local/sidecar-process.ts";
import type { StoreStatus } from "../../operator/local/store-status.ts";

/** The compiled command where there is one (`npm test` compiles it). */
const COMPILED = process.env["RESILVER_TEST_MAIN"] ?? resolve("dist/operator/main.js");
const COMMAND = existsSync(COMPILED) ? [COMPILED] : ["--import", "tsx", "operator/main.ts"];

interface Outcome {
  readonly status: number | null;
  readonly out: string;
  readonly err: string;
}

describe("resilver, as a person uses it", function () {
  this.timeout(180_000);
  let dir: string;
  let running: { stop(signal: NodeJS.Signals): Promise<Outcome> }[];

  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), "resilver-cli-"));
    running = [];
  });

  afterEach(async () => {
    for (const process of running) await process.stop("SIGTERM");
    await endLeftSidecars(dir, AbortSignal.timeout(20_000));
    rmSync(dir, { recursive: true, force: true });
  });

  /**
   * Runs a command; resolves with its outcome, or earlier with how to stop it once it printed
   * `ready`.
   */
  function run(args: readonly string[]): Promise<Outcome> {
    return launch(args).done;
  }

  function launch(args: readonly string[]) {
    const child = spawn(process.execPath, [...COMMAND, ...args], {
      stdio: ["ignore", "pipe", "pipe"],
      // What steers the tests is no setting of a sidecar.
      env: sidecarEnvironment(process.env),
    });
    const text = { out: "", err: "" };
    const waiting: { pattern: RegExp; found: () => void }[] = [];
    child.stdout.setEncoding("utf8").on("data", (part: string) => {
      text.out += part;
      for (const { pattern, found } of waiting) if (pattern.test(text.out)) found();
    });
    child.stderr.setEncoding("utf8").on("data", (part: string) => {
      text.err += part;
    });
    const done = new Promise<Outcome>((ended) => {
      child.once("close", (status) => ended({ status, ...text }));
    });
    return {
      done,
      pid: child.pid ?? 0,
      printed: (pattern: RegExp) =>
        Promise.race([
          new Promise<void>((found) => {
            waiting.push({ pattern, found });
            if (pattern.test(text.out)) found();
          }),
          done.then(({ status, out, err }) => assert.fail(`ended with ${status}:\n${out}${err}`)),
        ]),
      stop: (signal: NodeJS.Signals) => {
        child.kill(signal);
        return done;
      },
    };
  }

  async function up(...args: string[]) {
    const port = ["--port", String(10_000 + Math.floor(Math.random() * 20_000))];
    const known = existsSync(join(dir, "store.json")) ? [] : port;
    const started = launch(["local", "up", "--dir", dir, ...known, ...args]);
    running.push(started);
    await started.printed(/ready: every replica votes/);
    return started;
  }

  async function status(): Promise<StoreStatus> {
    const { out } = await run(["local", "status", "--json", "--dir", dir]);
    return JSON.parse(out) as StoreStatus;
  }

  it("up, put, get, list, scan, delete, wipe, status, kill, restart, down", async () => {
    const started = await up();
    const data = ["--dir", dir];
    assert.match((await run(["put", "a/1", "one", ...data])).out, /^\d+\n$/);
    writeFileSync(join(dir, "value"), "two");
    assert.equal((await run(["put", "a/2", "--file", join(dir, "value"), ...data])).status, 0);
    assert.equal((await run(["put", "a/1", "x", "--if-absent", ...data])).status, 1);
    assert.equal((await run(["get", "a/2", ...data])).out, "two");
    assert.equal((await run(["get", "a/3", ...data])).status, 1);
    assert.equal((await run(["list", "a/", ...data])).out, "a/1\na/2\n");
    assert.equal((await run(["scan", "a/1", "a/2", ...data])).out.split("\n").length, 2);
    assert.equal((await run(["delete", "a/2", ...data])).status, 0);

    const before = await status();
    const victim = before.shards[0]?.replicas.find(({ role }) => role === "voter");
    assert.ok(victim !== undefined);
    const wiped = await run(["local", "wipe", victim.node, ...data]);
    assert.match(wiped.out, /wiped \(all\) and started again/);
    await started.printed(new RegExp(`default/0: ${victim.node} votes again`));
    const rebuilt = (await status()).shards[0]?.replicas.find(({ node }) => node === victim.node);
    assert.notEqual(rebuilt?.uid, victim.uid);
    const table = await run(["local", "status", ...data]);
    assert.match(table.out, /default\/0: term \d+, leader resilver-\d, serving/);

    assert.equal((await run(["local", "kill", victim.node, ...data])).status, 0);
    assert.equal((await status()).pods.find(({ name }) => name === victim.node)?.state, "stopped");
    assert.equal((await run(["local", "restart", victim.node, ...data])).status, 0);
    const unknown = await run(["local", "kill", "resilver-9", ...data]);
    assert.equal(unknown.status, 2);
    assert.match(
      unknown.err,
      /there is no resilver-9; allowed: resilver-0, resilver-1, resilver-2/,
    );

    const second = await run(["local", "up", ...data]);
    assert.equal(second.status, 1);
    assert.match(second.err, /is in use by another/);

    assert.equal((await run(["local", "down", ...data])).out, "stopped\n");
    assert.equal((await started.done).status, 0);
    assert.equal((await run(["local", "status", ...data])).status, 1);
  });

  it("replace by a spare, a silent replica, a lost majority and force-quorum", async () => {
    const started = await up("--replicas", "4", "--namespaces", "default,orders");
    const data = ["--dir", dir];
    const ofShard = async () => (await status()).shards[0] ?? assert.fail("a shard");
    const { ensemble, leader } = await ofShard();
    const [old = ""] = ensemble.filter((node) => node !== leader);
    const spare = (await status()).pods.find(({ name }) => !ensemble.includes(name))?.name ?? "";
    assert.equal((await run(["put", "k", "v", ...data])).status, 0);
    assert.equal((await run(["put", "k", "w", "--namespace", "orders", ...data])).status, 0);
    const unknown = await run(["get", "k", "--namespace", "nowhere", ...data]);
    assert.equal(unknown.status, 1);
    assert.match(unknown.err, /namespace "nowhere" not found; known: default, orders/);
    const replaced = await run(["local", "replace", old, spare, ...data]);
    assert.equal(replaced.status, 0, replaced.err);
    await started.printed(new RegExp(`default/0: its replicas are now .*${spare}`));
    const again = await run(["local", "replace", old, old, ...data]);
    assert.equal(again.status, 1);
    assert.match(again.err, /no shard has a replica on .*up --replicas 4/);

    // The client asks this one first.
    assert.equal((await run(["local", "pause", "resilver-0", ...data])).status, 0);
    assert.equal((await run(["get", "k", ...data])).out, "v");
    assert.match((await run(["local", "status", ...data])).out, /resilver-0 +paused/);
    assert.equal((await run(["local", "resume", "resilver-0", ...data])).status, 0);
    await started.printed(/resilver-0: reachable[^]*resilver-0: reachable/);

    const shard = await ofShard();
    const victims = [shard.leader ?? "", ...shard.ensemble.filter((n) => n !== shard.leader)];
    const survivor = victims.pop() ?? "";
    for (const node of victims) await run(["local", "kill", node, ...data]);
    for (const node of victims) await run(["local", "wipe", node, ...data]);
    await started.printed(/default\/0: STOPPED: QuorumLost/);
    const force = ["local", "force-quorum", survivor, ...data];
    const running = await run(force);
    assert.equal(running.status, 1);
    assert.match(running.err, /stop first/);
    for (const node of victims) await run(["local", "kill", node, ...data]);
    const told = await run(force);
    assert.equal(told.status, 1);
    // A victim that led for a moment, before it was killed too, may have held more.
    const phrase = /--acknowledge: must be exactly "(lose everything after offset \d+[^"]*)"/.exec(
      told.err,
    )?.[1];
    assert.ok(phrase !== undefined, told.err);
    const forced = await run([...force, "--acknowledge", phrase]);
    assert.equal(forced.status, 0, forced.err);
    assert.match(forced.out, new RegExp(`default/0: goes on with ${survivor}`));
    for (const node of victims) await run(["local", "restart", node, ...data]);
    for (const node of victims) {
      await started.printed(new RegExp(`goes on \\(QuorumLost[^]*default/0: ${node} votes again`));
    }
    assert.equal((await run(["get", "k", ...data])).out, "v");
    assert.equal((await ofShard()).lossEpoch, 1);
  });

  it("after kill -9 sidecars serve on; the next `up` takes them over", async () => {
    const started = await up();
    const pids = (await status()).pods.map(({ pid }) => pid);
    await started.stop("SIGKILL");
    assert.equal((await run(["put", "k", "v", "--dir", dir])).status, 0);
    await up("--replicas", "3");
    assert.deepEqual(
      (await status()).pods.map(({ pid }) => pid),
      pids,
    );
    assert.equal((await run(["get", "k", "--dir", dir])).out, "v");
    await running.at(-1)?.stop("SIGKILL");
    // Other ports: those that were left behind cannot be taken over, and are replaced.
    await up("--port", String(10_000 + Math.floor(Math.random() * 20_000)));
    assert.equal((await run(["get", "k", "--dir", dir])).out, "v");
    assert.ok((await status()).pods.every(({ pid }) => !pids.includes(pid)));
    await running.at(-1)?.stop("SIGTERM");
    const other = await run(["local", "up", "--replicas", "5", "--dir", dir]);
    assert.equal(other.status, 1);
    assert.match(other.err, /--replicas 5: the store in .* has 3/);
  });

  it("after kill -9 `status` says what runs on, and `down` ends it", async () => {
    const started = await up();
    const pids = (await status()).pods.map(({ pid }) => pid ?? 0);
    await run(["local", "pause", "resilver-2", "--dir", dir]);
    await started.stop("SIGKILL");
    const told = await run(["local", "status", "--dir", dir]);
    assert.equal(told.status, 1);
    for (const pid of pids) assert.match(told.err, new RegExp(`resilver-\\d \\(process ${pid}\\)`));
    assert.match(told.err, /local up --dir .* takes them over, .*local down --dir .* ends them/);
    const down = await run(["local", "down", "--dir", dir]);
    assert.deepEqual(
      [down.status, down.out],
      [0, "stopped resilver-0, resilver-1, resilver-2, which a killed `up` had left\n"],
    );
    for (const [n, pid] of pids.entries()) {
      assert.ok(!isProcessOf(pid, replicaPaths(dir, `resilver-${n}`).wal));
    }
    const after = await run(["local", "down", "--dir", dir]);
    assert.equal(after.status, 1);
    assert.match(after.err, /no store is running in .*, where the data of one is: .*up --dir/);
  });

  it("leaves a process alone that only has the number of a sidecar", async () => {
    const started = await up();
    await started.stop("SIGTERM");
    const other = spawn(process.execPath, ["-e", "setInterval(() => {}, 1000)"]);
    await once(other, "spawn");
    writeFileSync(replicaPaths(dir, "resilver-0").pid, JSON.stringify({ pid: other.pid }));
    const down = await run(["local", "down", "--dir", dir]);
    assert.equal(down.status, 1);
    assert.match(down.err, /no store is running/);
    assert.equal(other.kill("SIGKILL"), true);
    assert.deepEqual(await once(other, "exit"), [null, "SIGKILL"]);
  });

  it("ends at once, exit status 0, when it is stopped before it is ready", async () => {
    const port = String(10_000 + Math.floor(Math.random() * 20_000));
    const started = launch(["local", "up", "--dir", dir, "--port", port]);
    running.push(started);
    await started.printed(/coordinator: metrics/);
    assert.equal((await started.stop("SIGTERM")).status, 0);
  });

  it("ends a command that waits for a server which says nothing, at one signal", async () => {
    const silent = createServer();
    await new Promise<void>((listens) => silent.listen(0, "127.0.0.1", listens));
    const { port } = silent.address() as AddressInfo;
    const connected = once(silent, "connection");
    const waiting = launch(["get", "k", "--server", `127.0.0.1:${port}`, "--timeout", "600000"]);
    await connected;
    const { status: exit, err } = await waiting.stop("SIGTERM");
    assert.deepEqual([exit, err], [1, "resilver: stopped by SIGTERM\n"]);
    silent.close();
  });

  it("says which port is in use", async () => {
    await up();
    const port = (await status()).pods[0]?.publicAddress.split(":")[1] ?? "";
    const other = mkdtempSync(join(tmpdir(), "resilver-cli-"));
    try {
      const { status: exit, err } = await run(["local", "up", "--dir", other, "--port", port]);
      assert.equal(exit, 1);
      assert.match(err, new RegExp(`--port ${port}: port ${port} is in use`));
    } finally {
      rmSync(other, { recursive: true });
    }
  });

  it("sidecar: passes settings, help and exit status through", async () => {
    const help = await run(["sidecar", "--help"]);
    assert.equal(help.status, 0);
    assert.match(help.out, /^Usage: resilver sidecar \[options\]$/m);
    assert.match(help.out, /--wal-dir/);
    const wrong = await run([
      "sidecar",
      "--node",
      "x",
      "--store-id",
      "s",
      "--public-address",
      "nowhere",
    ]);
    assert.equal(wrong.status, 2);
    assert.match(wrong.err, /publicAddress is "nowhere"; allowed: host:port/);
  });

  for (const args of [[], ["--victim", "leader"], ["--what", "wal", "--quiet"], ["--again", "1"]]) {
    it(`local demo ${args.join(" ")}`.trimEnd(), async () => {
      const json = join(dir, "out.json");
      const small = ["--once", "--size", "4MiB", "--dir", join(dir, "demo"), "--json", json];
      const { status: exit, out, err } = await run(["local", "demo", ...small, ...args]);
      assert.equal(exit, 0, out + err);
      const result = JSON.parse(readFileSync(json, "utf8")) as Record<string, unknown>;
      assert.equal(result["ok"], true);
      assert.equal(result["lost"], 0);
      assert.match(out, /all 3 replicas hold the same state/);
    });
  }
});
