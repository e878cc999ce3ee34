import { mkdirSync, renameSync, writeFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import type { Platform } from "../controller/ports.ts";
import { corruptLog, type Corruption, wipeDirectories, type WipeWhat } from "./damage.ts";
import { type ReplicaPaths, replicaPaths } from "./directory.ts";
import { leftProcess } from "./left-sidecars.ts";
import { isProcessOf, Pod, type PodStatus } from "./pod.ts";
import type { ReplicaEndpoint } from "./settings.ts";
import {
  sidecarProgram,
  sidecarEnvironment,
  sidecarFlags,
  sidecarSettings,
} from "./sidecar-process.ts";

/** No replica of this name. */
export class UnknownReplica extends Error {
  override readonly name = "UnknownReplica";
}

/** What pods are made from. */
export interface LocalPlatformOptions {
  readonly dir: string;
  readonly endpoints: readonly ReplicaEndpoint[];
  /** Called after a pod was started, ended, paused or resumed. */
  readonly changed: () => void;
  readonly storeId: string;
  /** Settings of every sidecar beside those that follow from the rest. */
  readonly sidecar?: Readonly<Record<string, string | number>>;
  /** Interpreter, flags and script; absent: this build's own sidecar. */
  readonly program?: readonly [string, ...string[]];
}

/** How long a sidecar may take to end by itself: its own bound is 5 s. */
const STOP_GRACE_MS = 6_000;

/** Pods as child processes, each with its directories below the store's. */
export class LocalPlatform implements Platform {
  private readonly options: LocalPlatformOptions;
  private readonly pods = new Map<string, Pod>();

  constructor(options: LocalPlatformOptions) {
    this.options = options;
    for (const endpoint of options.endpoints) this.pods.set(endpoint.node, this.podOf(endpoint));
  }

  /** Starts every pod, or takes it over where an earlier `up` left one running. */
  startAll(): void {
    const left = this.leftRunning();
    for (const [name, pod] of this.pods) {
      const pid = left.get(name);
      if (pid === undefined) pod.start();
      else pod.adopt(pid);
    }
  }

  async stopAll(): Promise<void> {
    await Promise.all([...this.pods.values()].map((pod) => pod.stop(STOP_GRACE_MS)));
  }

  /** Ends all pods at once, as a power cut would. */
  async killAll(): Promise<void> {
    await Promise.all([...this.pods.values()].map((pod) => pod.kill()));
  }

  statuses(): readonly PodStatus[] {
    return [...this.pods.values()].map((pod) => pod.status());
  }

  /** The directories and files of a replica. Throws UnknownReplica. */
  paths(name: string): ReplicaPaths {
    this.pod(name);
    return replicaPaths(this.options.dir, name);
  }

  /** The pod of this name. Throws UnknownReplica, which lists the names there are. */
  pod(name: string): Pod {
    const pod = this.pods.get(name);
    if (pod !== undefined) return pod;
    const names = [...this.pods.keys()].join(", ");
    throw new UnknownReplica(`REPLICA: there is no ${name}; allowed: ${names}`);
  }

  /**
   * Kills the process, removes the directories, starts it again. Returns when it was started (wall
   * clock, ms).
   */
  async wipe(name: string, what: WipeWhat): Promise<number> {
    const pod = this.pod(name);
    await pod.kill();
    await wipeDirectories(this.paths(name), what);
    return pod.start();
  }

  /** Kills the process, flips bits in its log, starts it again. */
  async corrupt(name: string): Promise<Corruption> {
    const pod = this.pod(name);
    await pod.kill();
    try {
      return await corruptLog(this.paths(name));
    } finally {
      pod.start();
    }
  }

  async kill(name: string): Promise<void> {
    await this.pod(name).kill();
  }

  /** Stops it in order and starts it again; one that is stopped is only started. */
  async restart(name: string): Promise<void> {
    const pod = this.pod(name);
    await pod.stop(STOP_GRACE_MS);
    pod.start();
  }

  /** @inheritDoc */
  isStopped(node: string): Promise<boolean> {
    return Promise.resolve(this.pod(node).status().state === "stopped");
  }

  /** The last lines a replica printed, for an error message. */
  async logTail(name: string, lines: number): Promise<string> {
    const text = await readFile(this.paths(name).log, "utf8").catch(() => "");
    return text.trimEnd().split("\n").slice(-lines).join("\n");
  }

  private podOf(endpoint: ReplicaEndpoint): Pod {
    const { dir, storeId, sidecar, program } = this.options;
    const paths = replicaPaths(dir, endpoint.node);
    mkdirSync(paths.dir, { recursive: true });
    const settings = { ...sidecarSettings(storeId, endpoint, paths), ...sidecar };
    const spec = {
      name: endpoint.node,
      command: [...(program ?? sidecarProgram()), ...sidecarFlags(settings)] as const,
      env: sidecarEnvironment(process.env),
      logFile: paths.log,
    };
    return new Pod(spec, () => {
      this.rememberPids();
      this.options.changed();
    });
  }

  /** So that a later `up` finds what a killed one left running. */
  private rememberPids(): void {
    for (const { name, pid } of this.statuses()) {
      const path = replicaPaths(this.options.dir, name).pid;
      // In one step: killed in between, nobody would know of a sidecar that runs.
      writeFileSync(`${path}.new`, JSON.stringify({ pid }));
      renameSync(`${path}.new`, path);
    }
  }

  /**
   * Sidecars that a killed `up` left behind, by name. One that listens elsewhere than it should is
   * ended.
   */
  private leftRunning(): ReadonlyMap<string, number> {
    const left = new Map<string, number>();
    for (const { node, publicAddress } of this.options.endpoints) {
      const pid = leftProcess(replicaPaths(this.options.dir, node));
      if (pid === null) continue;
      if (isProcessOf(pid, publicAddress)) left.set(node, pid);
      // Its successor is started at once, and again until the directories are free.
      else process.kill(pid, "SIGKILL");
    }
    return left;
  }
}
