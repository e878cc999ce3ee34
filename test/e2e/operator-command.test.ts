/** `resilver operator` as a process, as a Deployment starts it; the API server is a stand-in. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import {
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { FakeApiServer } from "../support/fake-api-server.ts";

/** The compiled command where there is one (`npm test` compiles it). */
const COMPILED = process.env["RESILVER_TEST_MAIN"] ?? resolve("dist/operator/main.js");
const COMMAND = existsSync(COMPILED) ? [COMPILED] : ["--import", "tsx", "operator/main.ts"];

const LEASE = "/apis/coordination.k8s.io/v1/namespaces/system/leases/resilver-operator";
const WAIT_MS = 60_000;
const SHUTDOWN_MS_MAX = 5_000;

/** Reports on standard error what is loaded of the Kubernetes client. */
const LOAD_HOOK = `data:text/javascript,${encodeURIComponent(`
import { register } from "node:module";
register("data:text/javascript," + encodeURIComponent(\`
import { writeSync } from "node:fs";
export async function load(url, context, next) {
  if (url.includes("/@kubernetes/") || url.includes("kube/kubeconfig")) {
    writeSync(2, "LOADED " + url + "\\\\n");
  }
  return await next(url, context);
}\`));`)}`;

/** Says when the command line is about to be read, and waits until somebody writes to the pipe. */
function waitingHook(pipe: string): string {
  const hooks = `
import { writeSync } from "node:fs";
import { open } from "node:fs/promises";
export async function load(url, context, next) {
  if (url.includes("/commander/") && url.endsWith("esm.mjs")) {
    writeSync(2, "READING");
    const file = await open(${JSON.stringify(pipe)});
    await file.read(Buffer.alloc(1), 0, 1);
    await file.close();
  }
  return await next(url, context);
}`;
  const register = `import { register } from "node:module";
register(${JSON.stringify(`data:text/javascript,${encodeURIComponent(hooks)}`)});`;
  return `data:text/javascript,${encodeURIComponent(register)}`;
}

interface Outcome {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly out: string;
  readonly err: string;
}

describe("resilver operator", function () {
  this.timeout(120_000);
  let server: FakeApiServer;
  let dir: string;
  let kubeconfig: string;
  let children: ChildProcess[];

  beforeEach(async () => {
    dir = mkdtempSync(join(tmpdir(), "resilver-operator-"));
    server = await FakeApiServer.start();
    kubeconfig = join(dir, "kubeconfig");
    writeFileSync(kubeconfig, server.config().exportConfig());
    children = [];
  });
  afterEach(async () => {
    for (const child of children) child.kill("SIGKILL");
    await server.close();
    rmSync(dir, { recursive: true, force: true });
  });

  function launch(args: readonly string[], env: NodeJS.ProcessEnv = {}, flags: string[] = []) {
    const child = spawn(process.execPath, [...flags, ...COMMAND, ...args], {
      stdio: ["ignore", "pipe", "pipe"],
      env: { PATH: process.env["PATH"], HOME: dir, ...env },
    });
    children.push(child);
    const text = { out: "", err: "" };
    const lines: Record<string, unknown>[] = [];
    const waiting = new Set<() => void>();
    child.stdout.setEncoding("utf8").on("data", (part: string) => {
      const whole = (text.out + part).split("\n").slice(lines.length, -1);
      text.out += part;
      if (args[0] === "operator" && !args.includes("--help")) {
        lines.push(...whole.map((line) => JSON.parse(line) as Record<string, unknown>));
      }
      for (const look of waiting) look();
    });
    child.stderr.setEncoding("utf8").on("data", (part: string) => {
      text.err += part;
    });
    const done = new Promise<Outcome>((ended) => {
      child.once("close", (status, signal) => ended({ status, signal, ...text }));
    });
    return {
      done,
      child,
      lines,
      /** Resolves with the first log line of this message. */
      logged: (message: string) =>
        Promise.race([
          new Promise<Record<string, unknown>>((found) => {
            const look = (): void => {
              const line = lines.find((other) => other["message"] === message);
              if (line !== undefined) found(line);
            };
            waiting.add(look);
            look();
          }),
          done.then(({ status, out, err }) => assert.fail(`ended with ${status}:\n${out}${err}`)),
        ]),
    };
  }

  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    it(`hears a ${signal} that comes before its program is read`, async () => {
      const pipe = join(dir, "pipe");
      assert.equal(spawnSync("mkfifo", [pipe]).status, 0);
      // Opened for reading too, before the other end is: neither waits, and nothing is lost.
      const end = openSync(pipe, "r+");
      const args = ["operator", "--kubeconfig", kubeconfig, "--health-port=0", "--metrics-port=0"];
      const { child, done } = launch(args, {}, ["--import", waitingHook(pipe)]);
      await once(child.stderr, "data");
      child.kill(signal);
      writeSync(end, "go on");
      const { status, signal: by, err } = await done;
      closeSync(end);
      assert.deepEqual([status, by, err], [0, null, "READING"]);
      assert.equal(server.get(LEASE), undefined, "it took the Lease");
    });
  }

  const operator = (...args: string[]) =>
    launch(
      ["operator", "--kubeconfig", kubeconfig, "--health-port=0", "--metrics-port=0", ...args],
      { POD_NAME: "operator-1", POD_NAMESPACE: "system", WATCH_NAMESPACE: "prod, test" },
    );

  const holder = (): unknown =>
    (server.get(LEASE)?.["spec"] as { holderIdentity?: unknown } | undefined)?.holderIdentity;

  const page = async (port: unknown, path: string) => {
    const response = await fetch(`http://127.0.0.1:${String(port)}${path}`);
    return { status: response.status, body: await response.text() };
  };

  it("takes the Lease, makes a store's objects, is ready, gives the Lease back", async () => {
    const running = operator("--image=resilver:from-flag");
    const { healthPort, metricsPort } = await running.logged("serving");
    await server.until("the Lease is held", () => String(holder()).startsWith("operator-1_"));

    for (const namespace of ["prod", "elsewhere"]) {
      const path = `/apis/resilver.io/v1alpha1/namespaces/${namespace}/replicatedstores/demo`;
      server.put(path, { metadata: {}, spec: {} });
    }
    const set = await server.until(
      "the StatefulSet is there",
      () => server.get("/apis/apps/v1/namespaces/prod/statefulsets/demo"),
      WAIT_MS,
    );
    assert.match(JSON.stringify(set), /"image":"resilver:from-flag"/u);
    await server.until("the store says how it is", () => {
      const store = server.get("/apis/resilver.io/v1alpha1/namespaces/prod/replicatedstores/demo");
      return store?.["status"] !== undefined;
    });
    for (const path of ["/api/v1/namespaces/prod/services", "/api/v1/namespaces/prod/configmaps"]) {
      assert.notEqual(server.list(path).length, 0, path);
    }
    const elsewhere = server.requests.filter(
      ({ path }) => !/\/namespaces\/(?:prod|test|system)\//u.test(path),
    );
    assert.deepEqual(elsewhere, [], "other namespaces are left alone");

    assert.deepEqual(await page(healthPort, "/healthz"), { status: 200, body: "ok\n" });
    assert.deepEqual(await page(healthPort, "/readyz"), { status: 200, body: "ok\n" });
    const metrics = await page(metricsPort, "/metrics");
    assert.match(metrics.body, /^leader_election_master_status\{name="resilver"\} 1$/mu);
    assert.match(metrics.body, /^controller_runtime_reconcile_total\{.*\} \d+$/mu);

    const askedAtMs = performance.now();
    running.child.kill("SIGTERM");
    const { status, signal, err } = await running.done;
    assert.deepEqual({ status, signal, err }, { status: 0, signal: null, err: "" });
    assert.ok(performance.now() - askedAtMs < SHUTDOWN_MS_MAX, "it took too long");
    assert.equal(holder(), "", "the Lease is free");
    assert.equal(running.lines.at(-1)?.["message"], "operator stopped");
  });

  it("not ready, and says what is missing, while the API server does not answer", async () => {
    server.fault = ({ path }) =>
      path.endsWith("/storeshards") ? { kind: "status", status: 404 } : undefined;
    const running = operator();
    const { healthPort } = await running.logged("serving");
    await running.logged("watch interrupted");
    await server.until("all else is watched", () => server.watches === 18, WAIT_MS);
    const { status, body } = await page(healthPort, "/readyz");
    assert.deepEqual([status, body], [503, "not ready: not listed yet: storeshards\n"]);
    assert.equal((await page(healthPort, "/healthz")).status, 200);
    running.child.kill("SIGTERM");
    assert.equal((await running.done).status, 0);
  });

  it("ends within 5 s when the API server hangs", async () => {
    const running = operator();
    await running.logged("leads");
    server.fault = () => ({ kind: "stall" });
    const askedAtMs = performance.now();
    running.child.kill("SIGTERM");
    assert.equal((await running.done).status, 0);
    assert.ok(performance.now() - askedAtMs < SHUTDOWN_MS_MAX, "it took too long");
    assert.ok(
      running.lines.some(({ message }) => message === "lease not released"),
      "what could not be done is said",
    );
  });

  it("a port in use: failed, and says which", async () => {
    const other = createServer();
    await new Promise<void>((listening) => other.listen(0, listening));
    try {
      const { port } = other.address() as AddressInfo;
      const running = operator(`--metrics-port=${port}`);
      const { status } = await running.done;
      assert.equal(status, 1);
      assert.match(
        String(running.lines.at(-1)?.["error"]),
        new RegExp(`^port ${port} cannot`, "u"),
      );
      assert.equal(server.get(LEASE), undefined, "it never led");
    } finally {
      other.close();
    }
  });

  it("credentials that cannot be read: usage, and names the file", async () => {
    const missing = join(dir, "missing");
    const { status, err } = await launch(["operator", "--kubeconfig", missing]).done;
    assert.equal(status, 2);
    assert.match(err, /^resilver: kubeconfig: .*missing cannot be read: ENOENT/u);
  });

  it("no credentials at all: usage, and says what to do", async () => {
    const { status, err } = await launch(["operator"]).done;
    assert.equal(status, 2);
    assert.match(err, /no cluster is chosen; set KUBECONFIG, or pass --kubeconfig/u);
  });

  it("the Kubernetes client is loaded by no other command", async () => {
    const flags = ["--import", LOAD_HOOK];
    const status = ["local", "status", "--dir", dir];
    const local = await launch(status, {}, flags).done;
    assert.doesNotMatch(local.err, /LOADED/u);
    const help = await launch(["operator", "--help"], {}, flags).done;
    assert.deepEqual([help.status, help.err], [0, ""]);
    const loads = await launch(["operator"], {}, flags).done;
    assert.match(loads.err, /LOADED .*kube\/kubeconfig/u, "what this test goes by");
    // The part of it that is used is in that file.
    assert.doesNotMatch(loads.err, /LOADED .*@kubernetes/u);
  });
});
