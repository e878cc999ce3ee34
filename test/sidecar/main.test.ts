import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { LIMITS } from "../../sidecar/limits.ts";
import { createNodeDisk } from "../../sidecar/os/node-disk.ts";
import { writeCookie } from "../../sidecar/runtime/cookie.ts";

const MAIN = new URL("../../sidecar/main.ts", import.meta.url).pathname;

/** A started sidecar and everything it printed. */
class Sidecar {
  readonly #child;
  readonly exit: Promise<number | null>;
  output = "";
  #printed: () => void = () => {};

  constructor(args: readonly string[], env: Readonly<Record<string, string>> = {}) {
    const clean = Object.entries(process.env).filter(([key]) => !key.startsWith("RESILVER_"));
    this.#child = spawn(process.execPath, ["--import", "tsx", MAIN, ...args], {
      env: { ...Object.fromEntries(clean), ...env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream.on("data", (data: Buffer) => {
        this.output += data.toString();
        this.#printed();
      });
    }
    this.exit = new Promise((resolve) => {
      this.#child.on("close", (code) => {
        resolve(code);
        this.#printed();
      });
    });
  }

  /** The log line with this message. */
  async line(message: string): Promise<Record<string, string | number>> {
    let over = false;
    void this.exit.then(() => {
      over = true;
    });
    for (;;) {
      const printed = new Promise<void>((resolve) => {
        this.#printed = resolve;
      });
      const found = this.output.split("\n").find((line) => line.includes(`"${message}"`));
      if (found !== undefined) return JSON.parse(found) as Record<string, string | number>;
      if (over) throw new Error(`ended without "${message}":\n${this.output}`);
      await printed;
    }
  }

  stop(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }
}

describe("Sidecar process", function () {
  this.timeout(60_000);
  let directory: string;
  const running: Sidecar[] = [];

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "resilver-main-"));
  });

  afterEach(async () => {
    for (const sidecar of running) sidecar.stop("SIGKILL");
    await Promise.all(running.splice(0).map((sidecar) => sidecar.exit));
    await rm(directory, { recursive: true, force: true });
  });

  /** Without what is overridden by undefined. */
  function start(overrides: Readonly<Record<string, string | undefined>> = {}): Sidecar {
    const settings: Record<string, string | undefined> = {
      "--node": "n1",
      "--store-id": "s1",
      "--wal-dir": join(directory, "wal"),
      "--state-dir": join(directory, "state"),
      "--public-address": "127.0.0.1:0",
      "--internal-address": "127.0.0.1:0",
      "--metrics-address": "127.0.0.1:0",
      ...overrides,
    };
    const given = Object.entries(settings).filter(([, value]) => value !== undefined);
    const sidecar = new Sidecar(given.flat() as string[]);
    running.push(sidecar);
    return sidecar;
  }

  it("serves, answers probes, and exits with 0 within its time when asked to stop", async () => {
    const sidecar = start();
    const serving = await sidecar.line("serving");
    const url = `http://127.0.0.1:${serving["metrics"]}`;
    assert.equal((await fetch(`${url}/healthz`)).status, 200);
    assert.equal((await fetch(`${url}/readyz`)).status, 503);
    assert.match(await (await fetch(`${url}/metrics`)).text(), /resilver_anonymous_memory_bytes/);
    const asked = performance.now();
    sidecar.stop("SIGTERM");
    assert.equal(await sidecar.exit, 0);
    assert.ok(performance.now() - asked < LIMITS.shutdownMs);
  });

  it("exits with 0 at once when it is asked to stop while it opens its replicas", async () => {
    const shards = 300;
    await formatted(shards);
    const sidecar = start();
    await sidecar.line("replica opened");
    sidecar.stop("SIGTERM");
    assert.equal(await sidecar.exit, 0);
    const opened = sidecar.output.split('"replica opened"').length - 1;
    assert.ok(opened < shards, `${opened} opened`);
    assert.doesNotMatch(sidecar.output, /"serving"/u);
  });

  /** The cookies of so many shards: opening them all takes a while. */
  async function formatted(shards: number): Promise<void> {
    const disk = createNodeDisk();
    const one = async (shard: number): Promise<void> => {
      const dir = join(directory, "state", "default", String(shard));
      await mkdir(dir, { recursive: true });
      const name = { storeId: "s1", namespace: "default", shard } as const;
      await writeCookie(disk, dir, { ...name, replicaUid: `uid-${shard}`, createdTerm: -1 });
    };
    await Promise.all(Array.from({ length: shards }, (_, shard) => one(shard)));
  }

  it("leaves another store's directories alone, and ends once its configuration names that store", async () => {
    await formatted(1);
    const file = join(directory, "sidecar.json");
    const configure = (storeId: string): Promise<void> =>
      writeFile(file, JSON.stringify({ storeId }));
    await configure("s2");
    const sidecar = start({ "--config": file, "--store-id": undefined });
    const told = await sidecar.line("directories of another replica are left alone");
    assert.match(String(told["reason"]), /default\/0\/cookie\.json: storeId is s1, allowed: s2;/u);
    const serving = await sidecar.line("serving");
    const ready = await fetch(`http://127.0.0.1:${serving["metrics"]}/readyz`);
    assert.equal(ready.status, 503);
    assert.match(await ready.text(), /^not ready: .*storeId is s1, allowed: s2;/u);
    // As a kubelet never writes it, and whoever edits by hand may.
    await writeFile(file, "{");
    await configure("s1");
    assert.equal(await sidecar.exit, 0);
    const { from, to } = await sidecar.line("stopping, to be started for another store");
    assert.deepEqual([from, to], ["s2", "s1"]);
    const next = start({ "--config": file, "--store-id": undefined });
    await next.line("replica opened");
  });

  it("refuses a directory or a port that another process uses, and leaves that one alone", async () => {
    const first = start();
    const serving = await first.line("serving");
    const second = start({ "--state-dir": join(directory, "other") });
    const third = start({
      "--wal-dir": join(directory, "wal3"),
      "--state-dir": join(directory, "state3"),
      "--public-address": `127.0.0.1:${serving["public"]}`,
    });
    assert.deepEqual(await Promise.all([second.exit, third.exit]), [1, 1]);
    assert.match(second.output, /walDir is .*wal.* which another process uses/);
    assert.match(third.output, /publicAddress 127\.0\.0\.1:\d+ is in use.*allowed: a free port/);
    assert.equal((await fetch(`http://127.0.0.1:${serving["metrics"]}/healthz`)).status, 200);
  });

  it("refuses a directory that it cannot write, naming the setting", async () => {
    const file = join(directory, "file");
    await writeFile(file, "");
    const cases = [
      start({ "--wal-dir": file }),
      start({ "--wal-dir": join(file, "below") }),
      start({ "--state-dir": "/proc/nowhere/state" }),
    ];
    for (const [at, sidecar] of cases.entries()) {
      assert.equal(await sidecar.exit, 1);
      const setting = at === 2 ? "stateDir" : "walDir";
      assert.match(
        sidecar.output,
        new RegExp(`${setting} is ".*", which cannot be used: .*allowed`),
      );
    }
  });

  it("tells usage errors by exit status 2, and explains itself by 0", async () => {
    const wrong = start({ "--log-level": "loud" });
    const help = new Sidecar(["--help"]);
    const variable = new Sidecar([], { RESILVER_NOSUCH: "1" });
    running.push(help, variable);
    assert.deepEqual(await Promise.all([wrong.exit, help.exit, variable.exit]), [2, 0, 2]);
    assert.match(wrong.output, /logLevel is "loud"; allowed: error, warn, info, debug/);
    assert.match(help.output, /--wal-dir <path>/);
    assert.match(variable.output, /RESILVER_NOSUCH; allowed: RESILVER_NODE/);
  });
});
