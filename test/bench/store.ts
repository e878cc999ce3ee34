import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdirSync, openSync, readFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { sendControl } from "../../operator/local/control-client.ts";
import { findFreePorts, PORTS_PER_REPLICA } from "../../operator/local/free-ports.ts";
import {
  isWhole,
  type PodStatusView,
  type StoreStatus,
} from "../../operator/local/store-status.ts";
import { BatchClient } from "./batch-client.ts";
import { benchDir } from "./disk.ts";
import { StoreClient } from "../../operator/sidecar-client/store-client.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const REPLICAS = 3;
const START_TIMEOUT_MS = 30_000;
const STOP_TIMEOUT_MS = 20_000;

/**
 * A store as people start it, `resilver local up`, compiled, in processes of its own; and a client
 * in this one that finds the leader, for what has to go on through a failover.
 */
export class BenchStore {
  readonly client: StoreClient;
  readonly dir: string;
  /** Where the hook writes CPU profiles; null when it is not loaded. */
  readonly profileDir: string | null;
  private readonly up: ChildProcess;
  private readonly stopping = new AbortController();

  private constructor(
    dir: string,
    up: ChildProcess,
    profileDir: string | null,
    servers: readonly string[],
  ) {
    this.dir = dir;
    this.up = up;
    this.profileDir = profileDir;
    this.client = new StoreClient({ servers });
  }

  /** Starts three replicas with one shard and waits until all of them vote. */
  static async start(options: { readonly profile?: boolean } = {}): Promise<BenchStore> {
    const dir = await benchDir("store");
    const port = await findFreePorts(REPLICAS * PORTS_PER_REPLICA + 1, Math.random);
    const profileDir = options.profile === true ? join(dir, "profiles") : null;
    if (profileDir !== null) mkdirSync(profileDir);
    const log = openSync(join(dir, "up.log"), "a");
    const up = spawn(
      process.execPath,
      [
        join(root, "dist/operator/main.js"),
        ..."local up --shards 1 --replicas".split(" "),
        String(REPLICAS),
        "--dir",
        dir,
        "--port",
        String(port),
      ],
      { stdio: ["ignore", log, log], env: { ...process.env, ...profileEnv(profileDir) } },
    );
    closeSync(log);
    const servers = Array.from(
      { length: REPLICAS },
      (_, index) => `127.0.0.1:${port + index * PORTS_PER_REPLICA}`,
    );
    const store = new BenchStore(dir, up, profileDir, servers);
    try {
      await store.until(isWhole, START_TIMEOUT_MS);
      await store.client.ready();
      return store;
    } catch (error) {
      const said = readFileSync(join(dir, "up.log"), "utf8");
      await store.stop();
      throw new Error(`the store did not start; it said:\n${said}`, { cause: error });
    }
  }

  async status(): Promise<StoreStatus> {
    return (await this.control("status", {})) as StoreStatus;
  }

  /** The process that leads the only shard. Throws when none does. */
  async leader(): Promise<PodStatusView & { readonly pid: number }> {
    const { pods, shards } = await this.status();
    const pod = pods.find(({ name }) => name === shards[0]?.leader);
    if (pod === undefined || pod.pid === null) throw new Error("no replica leads");
    return { ...pod, pid: pod.pid };
  }

  /** Kills a replica, removes its directories and starts it again. */
  async wipe(replica: string): Promise<void> {
    await this.control("wipe", { replica, what: "all" });
  }

  private control(command: string, body: Readonly<Record<string, unknown>>): Promise<unknown> {
    return sendControl(this.dir, command, body, { signal: this.stopping.signal });
  }

  /** Asks every 20 ms until `probe` says yes of the status. Throws after `timeoutMs`. */
  async until(probe: (status: StoreStatus) => boolean, timeoutMs: number): Promise<void> {
    const deadlineMs = performance.now() + timeoutMs;
    for (;;) {
      const status = await this.status().catch(() => null);
      if (status !== null && probe(status)) return;
      if (this.up.exitCode !== null) throw new Error(`up ended with ${this.up.exitCode}`);
      if (performance.now() > deadlineMs) {
        throw new Error(`not so within ${timeoutMs} ms; last status: ${JSON.stringify(status)}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  /** A lean client of the leader, for loads. The caller closes it. */
  async batchClient(): Promise<BatchClient> {
    return new BatchClient((await this.leader()).publicAddress);
  }

  async stop(): Promise<void> {
    this.stopping.abort(new Error("the store is being stopped"));
    await this.client.close();
    if (this.up.exitCode === null && this.up.signalCode === null) {
      const force = setTimeout(() => this.up.kill("SIGKILL"), STOP_TIMEOUT_MS);
      this.up.kill("SIGTERM");
      await once(this.up, "exit");
      clearTimeout(force);
    }
    await rm(this.dir, { recursive: true, force: true });
  }
}

function profileEnv(profileDir: string | null): NodeJS.ProcessEnv {
  if (profileDir === null) return {};
  const hook = pathToFileURL(join(root, "test/bench/profile-hook.mjs")).href;
  return { NODE_OPTIONS: `--import=${hook}`, BENCH_PROFILE_DIR: profileDir };
}
