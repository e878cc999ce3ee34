import { EtcdCluster, etcdInstalled } from "./etcd-cluster.ts";
import { loadRow } from "./load.ts";
import type { BenchOptions } from "./options.ts";
import { profiled } from "./profile.ts";
import { medianRows, type Report, type Row } from "./report.ts";
import { BenchStore } from "./store.ts";
import {
  etcdLeaderClient,
  etcdTargets,
  preload,
  saturate,
  storeTarget,
  type Target,
} from "./target.ts";

const VALUE_BYTES = [128, 1024] as const;

/** Linearizable gets of keys that are there: 1,000 under way. */
export async function read(options: BenchOptions): Promise<Report> {
  const notes: string[] = [];
  const runs: Row[][] = [];
  for (let run = 0; run < options.runs; run += 1) {
    const rows: Row[] = [];
    for (const bytes of VALUE_BYTES) {
      rows.push(await measureStore(options, bytes, notes));
      if (options.peers && etcdInstalled()) rows.push(...(await measureEtcd(options, bytes)));
    }
    runs.push(rows);
  }
  if (!etcdInstalled()) notes.push("etcd is not installed: not measured");
  return { bench: "read", runs: options.runs, rows: medianRows(runs), raw: runs, notes };
}

async function measureStore(options: BenchOptions, bytes: number, notes: string[]): Promise<Row> {
  const store = await BenchStore.start({ profile: options.profile !== null });
  const client = await store.batchClient();
  try {
    const target = storeTarget(client, options.keys, bytes);
    await preload(target, options.keys);
    const measure = () => measureTarget(target, bytes, options);
    if (options.profile === null) return await measure();
    return await profiled(store, `${options.profile}/read-${bytes}`, notes, measure);
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
    for (const target of [batched, single]) rows.push(await measureTarget(target, bytes, options));
    return rows;
  } finally {
    client.close();
    await cluster.stop();
  }
}

async function measureTarget(target: Target, bytes: number, options: BenchOptions): Promise<Row> {
  const result = await saturate(target.get, options.seconds);
  return loadRow(`${target.name}, ${bytes} B, 1,000 outstanding`, result);
}
