import { syncRate } from "./disk.ts";
import { EtcdCluster, etcdInstalled } from "./etcd-cluster.ts";
import { loadRow } from "./load.ts";
import type { BenchOptions } from "./options.ts";
import { profiled } from "./profile.ts";
import { medianRows, type Report, type Row } from "./report.ts";
import { BenchStore } from "./store.ts";
import {
  etcdLeaderClient,
  etcdTargets,
  pace,
  preload,
  saturate,
  storeTarget,
  type Target,
} from "./target.ts";

const VALUE_BYTES = [128, 1024] as const;
const PACED_PER_SECOND = 5_000;

/**
 * Replicated, synced writes: three replicas, one shard, 1,000 records under way, and a paced load.
 */
export async function write(options: BenchOptions): Promise<Report> {
  const notes: string[] = [];
  const runs: Row[][] = [];
  for (let run = 0; run < options.runs; run += 1) {
    const rows: Row[] = [];
    for (const bytes of VALUE_BYTES) {
      const rate = await syncRate(bytes, 1_000);
      rows.push({ what: `fdatasync of ${bytes} B alone`, figures: { "per s": rate } });
      rows.push(...(await measureStore(options, bytes, notes)));
      if (options.peers && etcdInstalled()) rows.push(...(await measureEtcd(options, bytes)));
    }
    runs.push(rows);
  }
  if (!etcdInstalled()) notes.push("etcd is not installed: not measured");
  return { bench: "write", runs: options.runs, rows: medianRows(runs), raw: runs, notes };
}

async function measureStore(options: BenchOptions, bytes: number, notes: string[]): Promise<Row[]> {
  const store = await BenchStore.start({ profile: options.profile !== null });
  const client = await store.batchClient();
  try {
    const target = storeTarget(client, options.keys, bytes);
    await preload(target, options.keys);
    const saturated = () => measureSaturated(target, bytes, options);
    const row =
      options.profile === null
        ? await saturated()
        : await profiled(store, `${options.profile}/write-${bytes}`, notes, saturated);
    return [row, await measurePaced(target, bytes, options)];
  } finally {
    client.close();
    await store.stop();
  }
}

async function measureEtcd(options: BenchOptions, bytes: number): Promise<Row[]> {
  const cluster = await EtcdCluster.start();
  const client = etcdLeaderClient(cluster);
  try {
    const { single, batched } = etcdTargets(client, options.keys, bytes);
    await preload(batched, options.keys);
    const rows: Row[] = [];
    for (const target of [batched, single]) {
      rows.push(await measureSaturated(target, bytes, options));
      rows.push(await measurePaced(target, bytes, options));
    }
    return rows;
  } finally {
    client.close();
    await cluster.stop();
  }
}

async function measureSaturated(
  target: Target,
  bytes: number,
  options: BenchOptions,
): Promise<Row> {
  const result = await saturate(target.put, options.seconds);
  return loadRow(`${target.name}, ${bytes} B, 1,000 outstanding`, result);
}

async function measurePaced(target: Target, bytes: number, options: BenchOptions): Promise<Row> {
  const result = await pace(target.put, PACED_PER_SECOND, options.seconds);
  return loadRow(`${target.name}, ${bytes} B, paced ${PACED_PER_SECOND}/s`, result);
}
