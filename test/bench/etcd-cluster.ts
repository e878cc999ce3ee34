import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { rm } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { benchDir } from "./disk.ts";
import { EtcdClient } from "./etcd-client.ts";

/** One member of a cluster. `address` is host:port for clients. */
export interface EtcdMember {
  readonly address: string;
  readonly process: ChildProcess;
}

/** Whether the programs of etcd are on this machine. */
export function etcdInstalled(): boolean {
  return ["etcd", "etcdctl"].every((name) => spawnSync(name, ["--help"]).error === undefined);
}

/**
 * Three etcd servers on this machine, with their defaults, each with a data directory of its own.
 */
export class EtcdCluster {
  readonly members: readonly EtcdMember[];
  private readonly folder: string;

  private constructor(folder: string, members: readonly EtcdMember[]) {
    this.folder = folder;
    this.members = members;
  }

  /** Starts them and waits until a put succeeds. */
  static async start(): Promise<EtcdCluster> {
    const folder = await benchDir("etcd");
    const ports = await freePorts(6);
    const names = ["a", "b", "c"];
    const peer = (index: number) => `http://127.0.0.1:${ports[index + 3]}`;
    const initial = names.map((name, index) => `${name}=${peer(index)}`).join(",");
    const members = names.map((name, index) => {
      const client = `http://127.0.0.1:${ports[index]}`;
      const child = spawn(
        "etcd",
        [
          `--name=${name}`,
          `--data-dir=${join(folder, name)}`,
          `--listen-client-urls=${client}`,
          `--advertise-client-urls=${client}`,
          `--listen-peer-urls=${peer(index)}`,
          `--initial-advertise-peer-urls=${peer(index)}`,
          `--initial-cluster=${initial}`,
          "--log-level=error",
        ],
        { stdio: "ignore" },
      );
      return { address: `127.0.0.1:${ports[index]}`, process: child };
    });
    const cluster = new EtcdCluster(folder, members);
    try {
      await cluster.untilWritable(20_000);
      return cluster;
    } catch (error) {
      await cluster.stop();
      throw error;
    }
  }

  /** The member that leads now. Throws when none says so. */
  leader(): EtcdMember {
    const endpoints = this.members.map(({ address }) => address).join(",");
    const { stdout } = spawnSync(
      "etcdctl",
      ["endpoint", "status", `--endpoints=${endpoints}`, "--write-out=json"],
      { encoding: "utf8", env: { ...process.env, ETCDCTL_API: "3" } },
    );
    const statuses = JSON.parse(stdout || "[]") as readonly {
      Endpoint: string;
      Status: { leader: number; header: { member_id: number } };
    }[];
    // Member ids are beyond 2^53, but equal digits parse to equal numbers.
    const leading = statuses.find(({ Status }) => Status.leader === Status.header.member_id);
    const member = this.members.find(({ address }) => address === leading?.Endpoint);
    if (member === undefined) throw new Error("no etcd member leads");
    return member;
  }

  async stop(): Promise<void> {
    for (const { process: child } of this.members) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      child.kill("SIGKILL");
      await once(child, "exit");
    }
    await rm(this.folder, { recursive: true, force: true });
  }

  private async untilWritable(timeoutMs: number): Promise<void> {
    const deadlineMs = Date.now() + timeoutMs;
    const client = new EtcdClient(this.members[0]?.address ?? "");
    try {
      for (;;) {
        const failure = await client.put({ key: "ready", value: new Uint8Array(1) }).then(
          () => null,
          (error: unknown) => error,
        );
        if (failure === null) return;
        if (Date.now() > deadlineMs) throw new Error("etcd did not start", { cause: failure });
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    } finally {
      client.close();
    }
  }
}

/** Ports that nothing listens on now. */
async function freePorts(count: number): Promise<readonly number[]> {
  const servers = Array.from({ length: count }, () => createServer().listen(0, "127.0.0.1"));
  await Promise.all(servers.map((server) => once(server, "listening")));
  const ports = servers.map((server) => {
    const address = server.address();
    return typeof address === "object" && address !== null ? address.port : 0;
  });
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}
