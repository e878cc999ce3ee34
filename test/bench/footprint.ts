import { readFileSync } from "node:fs";
import { EtcdCluster, etcdInstalled } from "./etcd-cluster.ts";
import type { BenchOptions } from "./options.ts";
import { medianRows, type Report, type Row } from "./report.ts";
import { BenchStore } from "./store.ts";
import { etcdLeaderClient, etcdTargets, preload, saturate, storeTarget } from "./target.ts";
import { isWhole, type StoreStatus } from "../../operator/local/store-status.ts";

const VALUE_BYTES = 1024;
const RECOVERY_TIMEOUT_MS = 120_000;
const MIB = 1024 * 1024;

/**
 * Memory of one process. Anonymous memory is its own; the rest of what is resident are pages of
 * files.
 */
interface Memory {
  readonly anonymous: number;
  readonly resident: number;
}

/**
 * Memory of the processes: idle, after writes, and the most during the rebuilding of a wiped
 * replica.
 */
export async function footprint(options: BenchOptions): Promise<Report> {
  const runs: Row[][] = [];
  for (let run = 0; run < options.runs; run += 1) {
    const rows = await measureStore(options);
    if (options.peers && etcdInstalled()) rows.push(...(await measureEtcd(options)));
    runs.push(rows);
  }
  const notes = [
    `${options.keys} records of ${VALUE_BYTES} B; anonymous and resident memory in MiB`,
  ];
  return { bench: "footprint", runs: options.runs, rows: medianRows(runs), raw: runs, notes };
}

async function measureStore(options: BenchOptions): Promise<Row[]> {
  const store = await BenchStore.start();
  const client = await store.batchClient();
  try {
    const rows: Row[] = [];
    const leader = await store.leader();
    const { pods } = await store.status();
    const follower = pods.find(({ name, pid }) => name !== leader.name && pid !== null);
    if (follower?.pid === undefined || follower.pid === null) throw new Error("no follower runs");
    rows.push(row("resilver leader, idle", memoryOf(leader.pid)));
    rows.push(row("resilver follower, idle", memoryOf(follower.pid)));
    const target = storeTarget(client, options.keys, VALUE_BYTES);
    await preload(target, options.keys);
    await saturate(target.put, options.seconds);
    rows.push(row("resilver leader, loaded", memoryOf(leader.pid)));
    rows.push(row("resilver follower, loaded", memoryOf(follower.pid)));
    const peaks = await peaksDuringRecovery(store, leader.pid, follower.name);
    rows.push(row("resilver leader, while sending a snapshot", peaks.sender));
    rows.push(row("resilver, while receiving it", peaks.receiver));
    return rows;
  } finally {
    client.close();
    await store.stop();
  }
}

async function peaksDuringRecovery(store: BenchStore, leaderPid: number, victim: string) {
  const none = { anonymous: 0, resident: 0 };
  const peaks = { sender: none, receiver: none };
  const old = uidOf(await store.status(), victim);
  await store.wipe(victim);
  await store.until((status) => {
    const receiver = status.pods.find(({ name }) => name === victim);
    peaks.sender = larger(peaks.sender, memoryOf(leaderPid));
    if (receiver?.pid !== undefined && receiver.pid !== null) {
      peaks.receiver = larger(peaks.receiver, memoryOf(receiver.pid));
    }
    return isWhole(status) && uidOf(status, victim) !== old;
  }, RECOVERY_TIMEOUT_MS);
  return peaks;
}

function uidOf(status: StoreStatus, node: string): string | undefined {
  return status.shards[0]?.replicas.find((replica) => replica.node === node)?.uid;
}

async function measureEtcd(options: BenchOptions): Promise<Row[]> {
  const cluster = await EtcdCluster.start();
  const client = etcdLeaderClient(cluster);
  try {
    const pid = cluster.leader().process.pid ?? 0;
    const rows = [row("etcd leader, idle", memoryOf(pid))];
    const { batched: target } = etcdTargets(client, options.keys, VALUE_BYTES);
    await preload(target, options.keys);
    await saturate(target.put, options.seconds);
    rows.push(row("etcd leader, loaded", memoryOf(pid)));
    return rows;
  } finally {
    client.close();
    await cluster.stop();
  }
}

function row(what: string, { anonymous, resident }: Memory): Row {
  return { what, figures: { "anonymous MiB": anonymous / MIB, "resident MiB": resident / MIB } };
}

function larger(a: Memory, b: Memory): Memory {
  return {
    anonymous: Math.max(a.anonymous, b.anonymous),
    resident: Math.max(a.resident, b.resident),
  };
}

/** Bytes, from /proc; zeros for a process that is gone. */
function memoryOf(pid: number): Memory {
  try {
    const status = readFileSync(`/proc/${pid}/status`, "utf8");
    const field = (name: string) => {
      const kib = new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(status)?.[1];
      return Number(kib ?? 0) * 1024;
    };
    return { anonymous: field("RssAnon"), resident: field("VmRSS") };
  } catch {
    return { anonymous: 0, resident: 0 };
  }
}
