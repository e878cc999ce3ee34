import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { sendControl } from "../../operator/local/control-client.ts";
import { readJson, replicaPaths } from "../../operator/local/directory.ts";
import { findFreePorts } from "../../operator/local/free-ports.ts";
import { isProcessOf } from "../../operator/local/pod.ts";
import { portsOf, type ReplicaEndpoint, replicaEndpoints } from "../../operator/local/settings.ts";
import { isWhole, type StoreStatus } from "../../operator/local/store-status.ts";
import { type ProxyMode, TcpProxy } from "../support/tcp-proxy.ts";
import type { StoreProcessMessage, StoreProcessOptions } from "./store-messages.ts";

const PROGRAM = fileURLToPath(new URL("store-process.ts", import.meta.url));
const START_MS = 60_000;
const COMMAND_MS = 60_000;

/** A real store: its coordinator is a process to be killed, its replicas are behind proxies. */
export class KillableStore {
  /** Recoveries that ended, as far as a coordinator lived to tell of it. */
  recoveries = 0;
  readonly #options: StoreProcessOptions;
  readonly #proxies: ReadonlyMap<string, readonly TcpProxy[]>;
  readonly #listeners = new Set<() => void>();
  #child: ChildProcess | null = null;
  /** The next one: it has loaded its code and waits. */
  #standby: ChildProcess;
  #status: StoreStatus | null = null;

  private constructor(
    options: StoreProcessOptions,
    proxies: ReadonlyMap<string, readonly TcpProxy[]>,
  ) {
    this.#options = options;
    this.#proxies = proxies;
    this.#standby = this.#fork();
  }

  /** Starts it; every replica votes when this resolves. */
  static async start(replicas: number): Promise<KillableStore> {
    const dir = await mkdtemp(join(tmpdir(), "resilver-torture-"));
    const port = await findFreePorts(portsOf(replicas), Math.random);
    const { proxies, reachedAt } = await proxied(replicaEndpoints({ replicas, port }));
    const store = new KillableStore({ dir, replicas, port, reachedAt }, proxies);
    try {
      await store.startCoordinator();
      await store.whole(START_MS);
      return store;
    } catch (error) {
      await store.close();
      throw error;
    }
  }

  /** Public addresses of all replicas. */
  servers(): readonly string[] {
    return this.#options.reachedAt.map(({ publicAddress }) => publicAddress);
  }

  /** The newest status of the coordinator that runs; null: it has told none yet, or none runs. */
  status(): StoreStatus | null {
    return this.#status;
  }

  /** A command of `resilver local` to the coordinator's process. */
  async command(name: string, replica: string, more: object = {}): Promise<void> {
    const signal = AbortSignal.timeout(COMMAND_MS);
    await sendControl(this.#options.dir, name, { replica, ...more }, { signal });
  }

  /** Sends a signal to a replica's process. */
  signal(node: string, signal: "SIGSTOP" | "SIGCONT"): void {
    process.kill(this.#pidOf(node), signal);
  }

  /** Kills the coordinator's process (SIGKILL) in the middle of whatever it does. */
  async killCoordinator(): Promise<void> {
    const child = this.#child;
    if (child === null) return;
    const exited = once(child, "exit");
    child.kill("SIGKILL");
    await exited;
  }

  /** Starts a coordinator's process, which takes over the sidecars that run. */
  async startCoordinator(): Promise<void> {
    if (this.#child !== null) return;
    const child = this.#standby;
    this.#child = child;
    this.#standby = this.#fork();
    let ended = "";
    let started = false;
    child.on("exit", (code, signal) => {
      ended = `the store's process ended with ${signal ?? code}`;
      this.#child = null;
      this.#status = null;
      this.#changed();
    });
    child.on("message", (message: StoreProcessMessage) => {
      if (message.kind === "started") started = true;
      else if (message.kind === "status") this.#status = message.status;
      else if (message.event === "recoveryCompleted") this.recoveries += 1;
      this.#changed();
    });
    child.send("start");
    await this.#until("the coordinator starts", START_MS, () => {
      if (ended !== "") throw new Error(ended);
      return started;
    });
  }

  /** Resolves when every replica votes. */
  async whole(withinMs: number): Promise<void> {
    await this.#until("every replica votes", withinMs, () => {
      return this.#status !== null && isWhole(this.#status);
    });
  }

  /** What the way to a replica is like from now on, for clients, peers and coordinator alike. */
  network(node: string, mode: ProxyMode): void {
    for (const proxy of this.#proxies.get(node) ?? []) proxy.set(mode);
  }

  /** Ends all processes at once: nothing in a torture's store is worth an orderly end. */
  async close(): Promise<void> {
    await this.killCoordinator();
    this.#standby.kill("SIGKILL");
    for (const { node } of this.#options.reachedAt) {
      const pid = this.#pidOf(node);
      if (isProcessOf(pid, replicaPaths(this.#options.dir, node).wal)) process.kill(pid, "SIGKILL");
    }
    await Promise.all([...this.#proxies.values()].flat().map((proxy) => proxy.close()));
    // What was killed may still be letting go of its files.
    await rm(this.#options.dir, { recursive: true, force: true, maxRetries: 10 });
  }

  #fork(): ChildProcess {
    return fork(PROGRAM, [JSON.stringify(this.#options)], {
      execArgv: ["--import", "tsx", "--enable-source-maps"],
    });
  }

  /** Of a sidecar, as its coordinator noted it. */
  #pidOf(node: string): number {
    const file = readJson(replicaPaths(this.#options.dir, node).pid) as { pid?: number } | null;
    return file?.pid ?? 0;
  }

  #changed(): void {
    for (const listener of this.#listeners) listener();
  }

  #until(what: string, withinMs: number, probe: () => boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      const end = (): void => {
        clearTimeout(timer);
        this.#listeners.delete(look);
      };
      const look = (): void => {
        try {
          if (!probe()) return;
          end();
          resolve();
        } catch (error) {
          end();
          reject(error instanceof Error ? error : new Error(String(error)));
        }
      };
      const timer = setTimeout(() => {
        end();
        const status = JSON.stringify(this.#status?.shards, null, 1);
        reject(new Error(`${what}: not within ${withinMs} ms\n${status}`));
      }, withinMs);
      this.#listeners.add(look);
      look();
    });
  }
}

async function proxied(listening: readonly ReplicaEndpoint[]): Promise<{
  readonly proxies: ReadonlyMap<string, readonly TcpProxy[]>;
  readonly reachedAt: readonly ReplicaEndpoint[];
}> {
  const proxies = new Map<string, readonly TcpProxy[]>();
  const reachedAt: ReplicaEndpoint[] = [];
  let port = await findFreePorts(2 * listening.length, Math.random);
  for (const endpoint of listening) {
    const ways = [endpoint.publicAddress, endpoint.internalAddress].map((to) => new TcpProxy(to));
    for (const way of ways) await way.listen(port++);
    const [publicAddress = "", internalAddress = ""] = ways.map(({ address }) => address);
    proxies.set(endpoint.node, ways);
    reachedAt.push({ ...endpoint, publicAddress, internalAddress });
  }
  return { proxies, reachedAt };
}
